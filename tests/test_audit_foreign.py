"""Audits of other people's calculators: planted defects are seen, NaN is one of them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.lj import LennardJones
from click.testing import CliRunner

from scalebridge.engine.audit import conservation, labels, periodic, repeat, short_range
from scalebridge.engine.audit.findings import at_most, tried
from scalebridge.engine.audit.foreign_faults import (
    Planted,
    foreign_faults,
    pair_energy,
    pair_forces,
    structure,
)
from scalebridge.engine.audit.module import imported
from scalebridge.engine.audit.samples import Subject
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.interop.ase import AsePotential

AUDITS = (
    periodic.repetition, periodic.lattice_vectors, periodic.faces, repeat.repeatability,
    labels.equation_of_state, conservation.virial, short_range.holes,
    conservation.loop_work,
)  # fmt: skip


def subject(calculator):
    torch.set_num_threads(1)
    return Subject.of(AsePotential(calculator, ("Si",)), structure())


def test_a_sound_calculator_passes():
    sound = subject(Planted())
    found = [f for audit in AUDITS for f in tried(audit, sound)]
    assert [f.name for f in found if f.passed is not True] == []
    assert sound.small.atoms == 8
    assert sound.exact < 1e-8


@pytest.mark.parametrize(
    ("defect", "audit"),
    [
        ("forces of pairs across a face", periodic.repetition),
        ("forces in oblique cells", periodic.lattice_vectors),
        ("the cell taken for upright", periodic.lattice_vectors),
        ("nearest images alone", periodic.repetition),
        ("forces above 200 atoms", periodic.repetition),
        ("NaN above 200 atoms", periodic.repetition),
        ("NaN in oblique cells", periodic.lattice_vectors),
        ("NaN outside the cell", periodic.lattice_vectors),
        ("NaN energy of two atoms", short_range.holes),
        ("forces a thousandth too large", periodic.faces),
        pytest.param(
            "force cutoff 7 % short", periodic.faces, marks=pytest.mark.slow
        ),  # ten seconds: seen only where many pairs cross the cutoff
        ("forces of two threads", repeat.repeatability),
        ("forces of every other call", repeat.repeatability),
        ("energy with its sign changed", labels.equation_of_state),
        ("stress a thousandth too large", conservation.virial),
    ],
)
def test_a_planted_defect_is_seen(defect, audit):
    found = tried(audit, subject(foreign_faults()[defect]))
    assert any(finding.passed is False for finding in found)


def test_an_audit_that_cannot_be_carried_through_has_failed():
    def broken(subject):
        raise ZeroDivisionError("no such cell")

    (found,) = tried(broken, None)
    assert found.passed is False
    assert "ZeroDivisionError: no such cell" in found.detail
    assert at_most("x", math.nan, 1.0).passed is False


def test_noise_of_single_precision_is_measured_and_allowed_for():
    def rounded(atoms, results, planted):
        results["forces"] = results["forces"].astype("float32").astype(float)

    coarse = subject(Planted(rounded))
    assert 1e-7 < coarse.exact <= 1e-4
    assert repeat.repeatability(coarse).passed


def test_a_structure_that_does_not_repeat_is_its_own_smallest_cell():
    shaken = bulk("Si", cubic=True)
    shaken.rattle(0.2, seed=3)
    one = Subject.of(AsePotential(Planted(), ("Si",)), shaken)
    assert one.small.atoms == 8


def test_anything_importable_can_be_audited():
    name = "scalebridge.engine.audit.foreign_faults:Planted"
    assert isinstance(imported(f"ase:{name}"), Planted)
    assert isinstance(imported(name), Planted)
    assert imported("scalebridge.engine.audit.closure_faults:diffusive").__name__
    for wrong in ("ase:nothing_like_it", "no.such.module:f", "math:nothing"):
        with pytest.raises(InputError, match=wrong):
            imported(wrong)


def test_the_command_refuses_a_calculator_without_a_structure():
    name = "ase:scalebridge.engine.audit.foreign_faults:Planted"
    done = CliRunner().invoke(main, ["audit", name])
    assert done.exit_code == 2
    assert "needs --structure" in done.output


def test_labels_are_compared_with_forces_and_energy_differences():
    one = subject(Planted())
    state = one.bulk
    found = one.ask(state, state.positions[None])
    frame = SimpleNamespace(
        symbols=("Si",) * state.atoms, positions=state.positions.numpy(),
        cell=state.cell.numpy(), periodic=state.state.periodic[0].numpy(),
        energy=float(found.energy[0]), forces=found.forces[0].numpy(),
    )  # fmt: skip
    assert all(f.passed for f in labels.against_labels(one, [frame, frame]))
    worse = SimpleNamespace(**vars(frame) | {"forces": 2 * frame.forces})
    assert labels.against_labels(one, [worse])[0].passed is False
    off = SimpleNamespace(**vars(frame) | {"energy": frame.energy + 8.0})
    assert labels.against_labels(one, [frame, off])[1].passed is False


@pytest.mark.slow
def test_a_kink_of_a_sound_force_is_no_alarm():
    """Forces of a switched pair potential have kinks, and are gradients."""
    pair = LennardJones(sigma=2.75, epsilon=0.0031, rc=6.875, ro=5.5, smooth=True)
    neon = bulk("Ne", "fcc", a=4.43, cubic=True).repeat((2, 2, 2))
    one = Subject.of(AsePotential(pair, ("Ne",)), neon)
    for audit in (conservation.force_is_gradient, conservation.loop_work):
        assert all(finding.passed for finding in tried(audit, one))


@pytest.mark.slow
def test_work_round_a_loop_is_seen_however_many_points():
    def swirling(atoms, results, planted):
        turned = np.cross(atoms.positions - atoms.positions.mean(0), [0, 0, 1])
        results["forces"] = results["forces"] + 1e-3 * turned

    assert conservation.loop_work(subject(Planted(swirling))).passed is False


def test_kinks_on_some_loops_do_not_hide_a_swirl_on_another(monkeypatch):
    """Six loops cross a kink and are found right with more points; the seventh is wrong."""
    coarse = torch.zeros(100, dtype=torch.float64)
    coarse[:6], coarse[6] = 1e-2, 1e-3

    def ratios(subject, piece, axes, points):
        which = axes[:, 0, 0, 0, 0].long()
        fine = torch.where(which < 6, 0.0, coarse[which])
        return coarse[which].clone() if points == 24 else fine

    def numbered(*shape, **more):
        number = torch.arange(shape[0], dtype=torch.float64)
        return number.view(-1, 1, 1, 1, 1).expand(shape).clone()

    monkeypatch.setattr(conservation, "_loop_ratios", ratios)
    monkeypatch.setattr(conservation.torch, "randn", numbered)
    one = SimpleNamespace(cluster=lambda count: SimpleNamespace(atoms=8), single=False)
    found = conservation.loop_work(one)  # type: ignore[arg-type]
    assert found.passed is False and found.value == pytest.approx(1e-3)
    coarse[6] = 0.0
    assert conservation.loop_work(one).passed is True  # type: ignore[arg-type]


def test_the_pairs_that_faults_are_made_of_have_forces_of_their_energy():
    atoms, step = structure(), 1e-5
    atoms.rattle(0.1, seed=1)
    forces = pair_forces(atoms)
    for atom, axis in ((0, 0), (7, 1), (31, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(pair_energy(moved))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-8)
