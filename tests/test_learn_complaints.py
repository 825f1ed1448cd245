"""What users of DP-GEN ask most, and what happens here.

The numbers are those of issues of deepmodeling/dpgen. Each test is what one of them asks
for, done here on a small world.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import ase.io
import learn_toy as toy
import pytest
import torch
import zarr

from scalebridge.engine import scenario
from scalebridge.engine.errors import EngineError, InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.jobs.label import labeler_of
from scalebridge.engine.learn.atoms import Configuration
from scalebridge.engine.learn.label_store import LabelError
from scalebridge.engine.learn.selection import Arm
from scalebridge.engine.learn.stopping import State
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

TINY = [
    "rounds=1", "initial=1", "execution={kind='serial'}", "audit.frames=2",
    "training.steps=2", "model.channels=4", "model.axis=2", "model.products=2",
    "model.fitting=[8]", "attempts=1", "tolerated=1.0", "explorer.steps=40",
    "start=[{name='bulk',temperatures=[300],structure={kind='crystal',element='Cu',"
    "lattice='fcc',lattice_constant=3.615}}]",
]  # fmt: skip


@dataclass(frozen=True)
class Licensed(toy.Teacher):
    """Refuses everything until the file of its licence is there."""

    licence: str = ""

    def label(self, point: toy.Point) -> float:
        if not Path(self.licence).exists():
            raise LabelError("no licence found")
        return super().label(point)


def test_522_a_task_that_always_fails_does_not_stop_the_others(tmp_path):
    """Its sample is given up with the reason; the run goes on."""
    job = toy.loop(labeler=toy.Teacher(refuses=1.4), rounds=2, tolerated=0.5)
    outcome = toy.run(tmp_path / "run", job)
    assert outcome.figures["rounds"].value == 2
    (reasons,) = {f.read_text() for f in (tmp_path / "run").rglob("*.failed.json")}
    assert json.loads(reasons) == ["LabelError: SCF did not converge in 50 cycles"] * 3


def test_711_a_training_that_fails_costs_no_label(tmp_path):
    """The run ends with the reason; resumed, it trains again on labels that it has."""

    class OutOfMemory(toy.Ridge):
        def train(self, models, dataset, rng):
            if len(dataset) > len(toy.START):
                raise EngineError("out of memory")
            return super().train(models, dataset, rng)

    with pytest.raises(EngineError, match="out of memory"):
        toy.run(tmp_path / "run", toy.loop(trainer=OutOfMemory(), rounds=2))
    assert toy.run(tmp_path / "run", toy.loop(rounds=2)).figures["labels"].value > 20
    toy.run(tmp_path / "calm", toy.loop(rounds=2))
    log = (tmp_path / "run" / "labels" / "log.txt").read_text().splitlines()
    done = [line.split()[3] for line in log if " done " in line]
    assert len(done) == len(set(done))
    same = [toy.final_data(tmp_path / name, toy.loop()) for name in ("run", "calm")]
    assert same[0] == same[1]


def test_311_too_many_failures_name_the_reason_and_are_tried_again(tmp_path):
    """What was wrong can be put right: resuming asks for these labels, and no other."""
    licence = tmp_path / "licence"
    job = toy.loop(labeler=Licensed(licence=str(licence)), rounds=1)
    with pytest.raises(EngineError, match=r"6 of 6 labels failed 3 times .*no licence"):
        toy.run(tmp_path / "run", job)
    with pytest.raises(EngineError, match="resuming tries these again"):
        toy.run(tmp_path / "run", job)  # nothing was put right
    licence.touch()
    figures = toy.run(tmp_path / "run", job).figures
    assert figures["labels"].value > len(toy.START) and figures["quarantined"].value == 0


def test_485_a_calculation_that_did_not_converge_is_no_data(tmp_path):
    """Where the self-consistent field gives up there is no label, and it is said."""
    pytest.importorskip("pyscf")
    settings = ["labeler={kind='pyscf',method='hf',basis='sto-3g',cycles=1}", "rounds=0",
                "execution={kind='serial'}",
                "attempts=1", "initial=1"]  # fmt: skip
    job = assemble(*scenario.load("elt_h4", settings))
    with (
        RunFolder.create(tmp_path / "run", "", {}) as folder,
        pytest.raises(EngineError, match="SCF of hf/sto-3g did not converge in 1 cycles"),
    ):
        job.run(folder, Reporter(quiet=True))
    assert not list((tmp_path / "run").rglob("labels/*.safetensors"))


def test_453_every_system_is_judged_by_itself(tmp_path):
    """No trust level is set; labels go to the strata that miss the target."""
    toy.run(tmp_path / "run", toy.loop())
    store = zarr.open_group(str(tmp_path / "run" / "data.zarr"), mode="r")
    table, states = store["strata"], list(State)
    met = {
        (int(number) + 1, int(stratum))
        for number, stratum, state in zip(
            table["round"][:], table["stratum"][:], table["state"][:], strict=True
        )
        if states[state] is State.MET
    }
    choice = store["decisions"]
    chosen = choice["arm"][:] == Arm.CHOSEN
    where = zip(choice["round"][:][chosen], choice["stratum"][:][chosen], strict=True)
    assert met and not met & {(int(number), int(stratum)) for number, stratum in where}


def test_1363_walks_that_all_fail_at_once_are_said_and_end_the_run(tmp_path):
    """No round after round without a label; what is known beforehand is refused."""

    def broken(models, points):
        return torch.full((len(points),), torch.nan, dtype=torch.float64)

    outcome = toy.run(tmp_path / "run", toy.loop(indicator=broken, rounds=15))
    assert outcome.figures["rounds"].value == 2
    (said,) = [check.note for check in outcome.checks if check.name == "stopped"]
    assert "nothing explored could be labelled" in said
    said = r"explorer\.nearest: two atoms of bulk 300 K are 2\.56 angstrom apart"
    with pytest.raises(InputError, match=said):
        assemble(*scenario.load("elt_copper", [*TINY, "explorer.nearest=3.0"]))


def test_1557_a_run_that_was_cut_off_goes_on_by_one_command(tmp_path):
    """Nothing to edit: it continues from what is there and ends as if undisturbed."""
    job = toy.loop(rounds=2)

    class Cut(toy.Ridge):
        def train(self, models, dataset, rng):
            if len(dataset) > len(toy.START):
                raise KeyboardInterrupt
            return super().train(models, dataset, rng)

    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "run", toy.loop(rounds=2, trainer=Cut()))
    outcome = toy.run(tmp_path / "run", job)
    assert outcome.figures["labels_repeated"].value == 0
    toy.run(tmp_path / "calm", job)
    same = [toy.final_data(tmp_path / name, job) for name in ("run", "calm")]
    assert same[0] == same[1]


@pytest.mark.slow
def test_1277_whether_it_has_converged_is_said(tmp_path):
    """It ends by itself where the target is met, and says so where it is not."""
    ended = toy.run(tmp_path / "met", toy.loop())
    assert ended.verdicts["stopped"] == "ok" and ended.figures["rounds"].value < 15
    cut = toy.run(tmp_path / "cut", toy.loop(rounds=2))
    (said,) = [check.note for check in cut.checks if check.name == "stopped"]
    assert cut.verdicts["stopped"] != "ok" and said.startswith("the last round was reached")


def test_an_audit_whose_labels_fail_keeps_the_model(tmp_path):
    """A run whose last labels fail has its model, its data and its counts."""
    checked, base = scenario.load("elt_copper", TINY)
    broken = Failing(after=5)
    job = assemble(checked.model_copy(update={"labeler": broken}), base)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
    assert (tmp_path / "run" / "model.safetensors").exists()
    labels = len(ase.io.read(tmp_path / "run" / "dataset.extxyz", ":"))
    figures = {name: figure.value for name, figure in outcome.figures.items()}
    assert figures["labels"] == labels
    assert figures["labels_computed"] == labels + figures.get("labels_audit", 0) == 5
    assert figures["audit_failed"] == 2
    assert outcome.verdicts["audit_labels"] != "ok"


class Failing:
    """Effective medium theory that gives up after a number of labels."""

    identity = "failing"

    def __init__(self, after: int) -> None:
        self.left = after

    def label(self, sample: Configuration):
        if not self.left:
            raise LabelError("disk quota exceeded")
        self.left -= 1
        return labeler_of("emt").label(sample)


def test_all_labels_failing_names_the_reason(tmp_path):
    """The reason of a failed task is said, not a path to search."""
    job = toy.loop(labeler=toy.Teacher(refuses=1.4), tolerated=0.0)
    with pytest.raises(EngineError, match="SCF did not converge in 50 cycles"):
        toy.run(tmp_path / "run", job)
