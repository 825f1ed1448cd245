"""Concurrent learning of closures: samples, labels, deviation, and the loop."""

import json
from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from scalebridge.engine import scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.equations.line import from_raw
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.closures import (
    FLOWS,
    LABELS,
    FlowSample,
    deviation,
    features,
    flux_errors,
    followed,
)
from scalebridge.engine.learn.label_store import fingerprint
from scalebridge.engine.learn.labelers.kinetic import KineticLabeler
from scalebridge.engine.learn.trainers.closure import row_of_cells
from scalebridge.engine.learn.trainers.closures import ClosureTrainer
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.models.closures.face import FaceForm

TIMES = (0.0, 0.02)
LABELER = KineticLabeler(TIMES, cells=40, nodes=36)
FORM = FaceForm(hidden=(8,), reach=(0.03, 0.15))
WAVE = FlowSample("wave", 3, 3)
JUMP = FlowSample("jump", 3, 2)


def committee(members: int = 2) -> list[torch.nn.Module]:
    made = []
    for seed in range(members):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made.append(FORM.build().double())
    return made


@lru_cache
def labelled():
    return [(sample, LABELER.label(sample)) for sample in (WAVE, JUMP)]


def test_codecs_undo_themselves_and_the_key_is_the_draw():
    back = FLOWS.unpack(FLOWS.pack(replace(JUMP, deviation=0.3)))
    assert (back.family, back.seed, back.index) == ("jump", 3, 2)
    keys = {
        fingerprint(FLOWS.pack(s), "m") for s in (JUMP, replace(JUMP, deviation=1.0), WAVE)
    }
    assert len(keys) == 2
    label = labelled()[0][1]
    assert torch.equal(LABELS.unpack(LABELS.pack(label)).raw, label.raw)


def test_strata_are_families_and_knudsen_decades():
    assert JUMP.stratum == "jump Kn 1e-1 to 1e0"
    assert 0.1 <= JUMP.flow.value < 1.0
    assert FlowSample("transition", 1, 2).stratum == "transition"


def test_labels_conserve_mass_momentum_and_energy():
    """The flow is periodic: the sums of the first three moments do not change."""
    for _, label in labelled():
        totals = label.raw[..., :3].sum(1)
        torch.testing.assert_close(totals[1], totals[0], rtol=1e-9, atol=1e-9)
        assert not torch.allclose(label.raw[1, :, 3], label.raw[0, :, 3])


def test_error_is_the_distance_of_the_mean_from_the_true_moment():
    """By hand, face by face; a mean of other members has another error."""
    sample, label = labelled()[1]
    modules = committee()
    w = from_raw(label.raw, 6)
    row = row_of_cells(w[..., :-1], label.knudsen.expand(2, 40), 1 / 40)
    ring = torch.cat([w[:, -1:], w, w[:, :1]], 1)[..., -1]
    true = 0.5 * (ring[:, 1:] + ring[:, :-1])
    assert bool(modules[0].limit.isinf().all())  # so the gates of range are open
    mean = torch.stack([module(row).flux for module in modules]).mean(0)
    miss = (mean - true) / modules[0].unit(row)
    expected = float(miss.square().mean().sqrt().detach())
    mine, first = (float(flux_errors(m, [(sample, label)])) for m in (modules, modules[:1]))
    assert mine == pytest.approx(expected, rel=1e-9)
    assert first != pytest.approx(expected)


def test_copies_agree_and_different_members_do_not():
    sample, label = labelled()[1]
    w = from_raw(label.raw[1:], 5)
    row = row_of_cells(w, label.knudsen.expand(1, 40), 1 / 40)
    one, two = committee()
    assert float(deviation([one, one], row).detach().max()) < 1e-12
    assert float(deviation([one, two], row).detach().max()) > 1e-3
    sizes = followed([one, two], [sample, WAVE], TIMES, 40)
    assert sizes.shape == (2,)
    assert bool((sizes > 0).all())


def test_a_run_that_breaks_down_counts_as_one():
    wild = committee()
    for module in wild:
        module.config = replace(module.config, bound=1e9, smoothing=0.0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(100.0)
    assert float(followed(wild, [JUMP], (0.0, 0.1), 40)[0]) == 1.0


def test_features_tell_flows_apart():
    found = features(committee(), [WAVE, JUMP, WAVE])
    torch.testing.assert_close(found[0], found[2])
    assert float((found[0] - found[1]).norm()) > 0.1


def test_training_reduces_the_error():
    before = committee()
    trained = ClosureTrainer(steps=60, linear=0.0, batch=8).train(
        before, labelled(), torch.Generator().manual_seed(0)
    )
    after, old = (flux_errors(models, labelled()) for models in (trained, before))
    assert bool((after < old).all())


TINY = [
    "rounds=1", "initial=1", "members=2", "audit.frames=1", "explorer.flows=4",
    "explorer.until=0.01", "explorer.cells=40", "training.steps=5", "batch.size=2",
    "network.hidden=[8]", "network.reach=[0.03]", "labeler.velocities=36",
    'explorer.families=["wave","jump"]', "training.linear=0.0",
]  # fmt: skip


def run_in(path, *settings: str):
    make = RunFolder.open if path.exists() else lambda p: RunFolder.create(p, "", {})
    with make(path) as folder:
        job = assemble(*scenario.load("elt_closure", [*TINY, *settings]))
        return job.run(folder, Reporter(quiet=True))


def test_scenario_resumes_to_the_same_data(tmp_path):
    outcome = run_in(tmp_path / "whole")
    assert outcome.figures["worst_flux_error"].value > 0
    assert (tmp_path / "whole" / "closure_1.safetensors").exists()
    run_in(tmp_path / "parts", "rounds=0")
    run_in(tmp_path / "parts")
    ends = [json.loads((tmp_path / p / "events.jsonl").read_text().splitlines()[-1])
            for p in ("whole", "parts")]  # fmt: skip
    assert ends[0]["error_random"] == ends[1]["error_random"]
    names = [
        {f.name for f in (tmp_path / part / "labels").glob("*.safetensors")}
        for part in ("whole", "parts")
    ]
    assert names[0] == names[1]


def test_a_committee_of_one_is_refused():
    with pytest.raises(InputError, match="members"):
        scenario.load("elt_closure", ["members=1"])
