"""Loops that begin with what is there: a trained committee, a large set of labels."""

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from scalebridge.engine import scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.atoms import (
    AtomsLabel,
    Configuration,
    aligned,
    deviations,
    evaluate,
    force_errors,
    pieces,
)
from scalebridge.engine.learn.audit import write_dataset
from scalebridge.engine.learn.labelers.exact import StillingerWeberLabeler
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.models.card import save_module
from scalebridge.models.potentials.deep_potential import HigherMoments, SmoothEdition

SMALL = {"cutoff": 4.0, "channels": 4, "axis": 2, "products": 2, "fitting": (8,)}
WALKS = """
version = 1
kind = "learn"
target = 0.1
initial = 0
rounds = 1
trained = {trained}
explorer = {{steps = 10}}
labeler = "stillinger_weber"
training = {{steps = 10}}
batch = {{size = 6}}
audit = {{frames = 1}}

[[start]]
name = "diamond"
temperatures = [300]
[start.structure]
kind = "crystal"
element = "Si"
lattice = "diamond"
lattice_constant = 5.431
"""
CHOICE = """
version = 1
kind = "learn"
target = {target}
data = {data}
initial = 2
rounds = 3
model = {{cutoff = 4.0, channels = 4, axis = 2, products = 2, fitting = [8], members = 2}}
training = {{steps = 40, learning_rate = 0.01}}
batch = {{size = 6}}
"""


def committee(members: int = 2, species: tuple[str, ...] = ("Si",)) -> torch.nn.Module:
    return HigherMoments(**SMALL, members=members, species=species).build(3)


def frames(count: int, rattle: float, group: str) -> list[tuple[Configuration, AtomsLabel]]:
    rng, found = np.random.default_rng(count), []
    for _ in range(count):
        crystal = bulk("Si", a=5.431, cubic=True)
        crystal.rattle(rattle, rng=rng)
        sample = Configuration.of(crystal, group)
        found.append((sample, StillingerWeberLabeler().label(sample)))
    return found


def run_in(path: Path, *settings: str, file: str = "elt_silicon"):
    job = assemble(*scenario.load(file, list(settings)))
    with RunFolder.create(path, "", {}) as folder:
        return job.run(folder, Reporter(quiet=True)), job


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


# -- a trained committee -------------------------------------------------------------------


def walks(folder: Path, model: torch.nn.Module) -> str:
    """Return a scenario that begins with a saved model."""
    saved = save_module(folder / "old", model, {})
    file = folder / "walks.toml"
    file.write_text(WALKS.format(trained=json.dumps(str(saved))))
    return str(file)


def test_a_trained_committee_explores_first(tmp_path):
    """Without a label it explores at once, and its form is that of the file."""
    _, job = run_in(tmp_path / "run", file=walks(tmp_path, committee(3)))
    begun = job.committee(torch.Generator())[0]
    for name, tensor in committee(3).state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], tensor, check_dtype=False)
    first, second = events(tmp_path / "run")[:2]
    assert first["labels"] == 0
    assert second["error_random"] > 0
    made = json.loads((tmp_path / "run" / "model.json").read_text())["config"]
    assert (made["members"], made["channels"]) == (3, 4)


def test_energies_of_another_method_are_met_before_training():
    """Each element has a zero of its own; what the labels do not tell stays as it is."""
    old, zero = committee(species=("O", "Si")), {"Si": -7000.0, "O": -2000.0}
    samples = []
    for symbols in ("Si2O", "SiO3", "Si4O"):
        atoms = Atoms(symbols)
        atoms.positions = np.random.default_rng(1).random((len(atoms), 3)) * 4
        samples.append(Configuration.of(atoms))
    before, _ = evaluate([old], samples)
    energies = [
        float(energy) + sum(map(zero.__getitem__, sample.symbols))
        for energy, sample in zip(before.energy, samples, strict=True)
    ]
    data = [
        (sample, AtomsLabel(energy, torch.zeros(len(sample.numbers), 3)))
        for energy, sample in zip(energies, samples, strict=True)
    ]
    after, _ = evaluate(aligned([old], data), samples)
    assert after.energy.tolist() == pytest.approx(energies, abs=1e-6)
    torch.testing.assert_close(after.forces, before.forces)
    oxygen, silicon = aligned([old], data[:1])[0].fitting.energy_bias.tolist()
    assert 2 * silicon + oxygen == pytest.approx(-16000.0)
    assert silicon == pytest.approx(2 * oxygen)  # of all that fit the smallest


def test_the_first_training_begins_with_aligned_energies(tmp_path):
    """Later trainings do not align: their labels are of the same method."""
    _, job = run_in(tmp_path / "run", file=walks(tmp_path, committee()))
    assert job.align is aligned


def diverged() -> torch.nn.Module:
    """Return a committee whose first member is not finite."""
    module = committee()
    with torch.no_grad():
        module.get_parameter("fitting.weights.0")[0] = torch.nan
    return module


def test_a_committee_that_is_not_finite_agrees_on_nothing():
    (sample, _), *_ = frames(1, 0.05, "")
    assert deviations([diverged()], [sample]).isnan().all()


def test_what_has_learnt_nothing_has_no_error_on_its_training_set(tmp_path):
    outcome, _ = run_in(tmp_path / "run", "rounds=0", file=walks(tmp_path, committee()))
    (stopped,) = [check for check in outcome.checks if check.name == "stopped"]
    assert stopped.note.endswith("nothing was trained")


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        (committee(1), (), "trained: old.safetensors has one member"),
        (committee(), ("model.channels=8",), "model.channels: 8; old.safetensors has 4; "),
        (committee(), ("model.cutoff=6.0",), "model.cutoff: 6.0; old.safetensors has 4.0"),
        (committee(species=("Ge",)), (), "trained: old.safetensors knows Ge, not Si"),
        (SmoothEdition(species=("Si",)).build(0), (), "is smooth_edition; allowed: higher"),
        (committee(), ("trained=nowhere",), "nowhere: no such file"),
        (committee(), ("trained=walks.toml",), "trained: "),
        (diverged(), (), "old.safetensors: holds weights that are not finite"),
        (committee(), ("initial=3", "stop.labels=2"), "stop.labels: 2; the first round"),
    ],
)
def test_a_committee_that_does_not_fit_is_named(model, settings, said, tmp_path):
    with pytest.raises(InputError) as caught:
        assemble(*scenario.load(walks(tmp_path, model), list(settings)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# -- choosing from labelled frames ---------------------------------------------------------


def chosen(tmp_path: Path, target: float, *settings: str):
    file = tmp_path / "choice.toml"
    data = tmp_path / "all.extxyz"
    if not data.exists():
        write_dataset(data, [*frames(40, 0.05, "cold"), *frames(12, 0.15, "")])
    file.write_text(CHOICE.format(target=target, data=json.dumps(str(data))))
    outcome, _ = run_in(tmp_path / "run", *settings, file=str(file))
    return outcome, ase.io.read(tmp_path / "run" / "dataset.extxyz", ":")


def places(found) -> set[bytes]:
    return {np.round(atoms.positions, 6).tobytes() for atoms in found}


def test_frames_are_chosen_until_the_others_are_known(tmp_path):
    """Target met: the final evaluation is of every frame that was not chosen."""
    outcome, found = chosen(
        tmp_path, 2.5, "rounds=8", "audit.frames=1", "training.steps=20"
    )
    assert outcome.passed
    everything = ase.io.read(tmp_path / "all.extxyz", ":")
    assert places(found) < places(everything)
    assert len(places(found)) == len(found) == outcome.figures["labels"].value
    assert {atoms.info["group"] for atoms in found} == {"cold", "all"}
    assert outcome.figures["labelled_fraction"].value == len(found) / 52
    assert outcome.figures["labels_computed"].value == 0


def test_all_others_are_looked_at_in_the_end(tmp_path):
    outcome, found = chosen(tmp_path, 1e-3, "rounds=1")
    assert outcome.figures["labels_audit"].value == 52 - len(found)
    assert outcome.figures["worst_force_error"].value > 1e-3
    assert not outcome.passed


def test_a_set_that_is_used_up_ends_the_run(tmp_path):
    outcome, found = chosen(
        tmp_path, 1e-3, "rounds=90", "training.steps=1", "batch.size=30"
    )
    assert len(found) == 52
    (stopped,) = [check for check in outcome.checks if check.name == "stopped"]
    assert stopped.note.startswith("nothing without a label is left")
    assert "worst_force_error" not in outcome.figures


def test_a_budget_that_the_first_labels_spend_ends_the_run(tmp_path):
    outcome, found = chosen(tmp_path, 1e-3, "stop.labels=4")
    assert len(found) == 4  # two of each stratum
    (stopped,) = [check for check in outcome.checks if check.name == "stopped"]
    assert stopped.note.startswith("4 of 4 labels are spent")


@pytest.mark.parametrize("key", ["data", "labelled"])
def test_two_labels_of_the_same_atoms_are_refused(key, tmp_path):
    """An equal label is no contradiction; one of another method is, in whichever set."""
    given = frames(12, 0.1, "mine")
    other = [
        (replace(s, stratum="theirs"), replace(label, energy=label.energy + 1.0))
        for s, label in given
    ]
    paths = [tmp_path / f"{k}.extxyz" for k in range(2)]
    for path, pairs in zip(paths, (given, other), strict=True):
        write_dataset(path, pairs)
    names = [json.dumps(str(path)) for path in paths]
    twice = f"data=[{names[0]}, {names[0]}]"
    settings = {"data": [f"data=[{names[0]}, {names[1]}]"],
                "labelled": [twice, f"labelled={names[1]}"]}[key]  # fmt: skip
    file = tmp_path / "choice.toml"
    file.write_text(CHOICE.format(target=0.1, data=names[0]))
    assemble(*scenario.load(str(file), [twice]))
    said = r"the same 8 atoms have two labels, in (mine and in theirs|theirs and in mine)"
    with pytest.raises(InputError, match=said):
        assemble(*scenario.load(str(file), settings))


def test_frames_that_are_given_twice_count_once(tmp_path):
    """What was computed is told by what was not given."""
    some = frames(4, 0.05, "mine")
    write_dataset(tmp_path / "twice.extxyz", [*some, *some])
    name = json.dumps(str(tmp_path / "twice.extxyz"))
    (tmp_path / "choice.toml").write_text(CHOICE.format(target=0.1, data=name))
    job = assemble(*scenario.load(str(tmp_path / "choice.toml"), [f"labelled={name}"]))
    assert len(job.known) == 4


def test_no_frame_is_measured_twice(tmp_path):
    """What is drawn at random has not been learnt, though the set shows every frame."""
    outcome, found = chosen(tmp_path, 1e-3, "rounds=2", "batch.random=0.9")
    assert [row["labels"] for row in events(tmp_path / "run")][-1] == len(found)
    with RunFolder.open(tmp_path / "run") as folder:
        table = folder.store["decisions"]
        asked = int((table["state"][:] > 0).sum())
    assert asked == len(found) == len(places(found))
    assert outcome.figures["labels_repeated"].value == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            'execution="processes"',
            "execution: nothing is computed where `data` is labelled",
        ),
        ("initial=0", "initial: nothing to begin with"),
        ("labeler='emt'", "labeler: `data` stands in its place; leave one of them out"),
        ("data='nowhere.extxyz'", "nowhere.extxyz"),
        ("audit.frames=-1", "audit.frames"),
    ],
)
def test_bad_choices_are_one_line(setting, said, tmp_path):
    with pytest.raises(InputError) as caught:
        chosen(tmp_path, 0.1, setting)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_frames_are_evaluated_in_pieces(monkeypatch):
    data = [*frames(5, 0.1, "a"), *frames(4, 0.2, "b")]
    whole = force_errors([committee()], data)
    monkeypatch.setattr("scalebridge.engine.learn.atoms._ATOMS", 17)
    samples = [sample for sample, _ in data]
    assert [len(samples[piece]) for piece in pieces(samples)] == [2, 2, 2, 2, 1]
    torch.testing.assert_close(force_errors([committee()], data), whole)
    assert list(pieces([])) == []
