"""Energy differences of near geometries: the warp, exact values, poor overlap, scans."""

import math

import pytest
import torch
from torch import Tensor, nn

from scalebridge.engine import runtime
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc import differences
from scalebridge.engine.vmc.differences import Difference, difference, warp
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.hamiltonian import molecule
from scalebridge.engine.vmc.optimiser import Spring
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.wavefunctions import jet

gto = pytest.importorskip("pyscf.gto")


def bond(distance: float) -> list[list[float]]:
    return [[0.0, 0.0, 0.0], [0.0, 0.0, distance]]


def test_the_warp_s_stretch_is_the_determinant_of_its_derivatives() -> None:
    old, new = torch.tensor(bond(2.0)).double(), torch.tensor(bond(2.3)).double()
    new[0, 1] = 0.1
    r = torch.randn(5, 2, 3, generator=runtime.generator(1)).double()
    _, stretch = warp(r, old, new)
    for one, found in zip(r, stretch, strict=True):
        by = torch.autograd.functional.jacobian(
            lambda x: warp(x.view(1, 2, 3), old, new)[0].flatten(), one.flatten()
        )
        assert isinstance(by, Tensor)
        torch.testing.assert_close(found, torch.linalg.det(by).abs().log())


class Bonding(nn.Module):
    """``exp(-a |r - A|^2) + exp(-a |r - B|^2)`` for one electron."""

    def __init__(self, rate: float, distance: float) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor([rate]).double())
        self.nuclei = torch.tensor(bond(distance)).double()

    def forward(self, r):
        bells = []
        for nucleus in self.nuclei:
            square = jet.square(jet.shift(r, -nucleus))
            bells.append(jet.exp(jet.linear(lambda t: -self.rate * t.sum(-1), square)))
        log = jet.sum_electrons(jet.log_abs(jet.add(*bells)))
        return torch.ones(len(self.nuclei)), log


RATES = {2.0: 0.30, 2.1: 0.29, 5.0: 0.2}


def stretched(distance: float) -> Electrons:
    ion = molecule(["H", "H"], bond(distance), charge=1)
    return Electrons(ion, Flat(Bonding(RATES[distance], distance)), chunk=512)


def exact(distance: float) -> float:
    """The same energy by PySCF's analytic integrals."""
    atoms = [("H", tuple(place)) for place in bond(distance)]
    basis = {"H": [[0, [RATES[distance], 1.0]]]}
    mole = gto.M(atom=atoms, unit="bohr", basis=basis, charge=1, spin=1, verbose=0)
    parts = ("int1e_kin", "int1e_nuc", "int1e_ovlp")
    kinetic, nuclear, overlap = (mole.intor(part).sum() for part in parts)
    return float((kinetic + nuclear) / overlap) + 1 / distance


def measured(far: float) -> tuple[Difference, float]:
    """The energy at ``far`` above that at 2 bohr, and the error of the latter alone."""
    near = stretched(2.0)
    state = Vmc(near, Spring(), walkers=512, burn_in=40).init(runtime.generator(2))
    rng, width = runtime.generator(3), state.width
    found = difference(near, stretched(far), state.walkers, width, rng, 60)
    return found, float(state.start[1]) * math.sqrt(20 / 60)


def test_a_difference_is_far_more_exact_than_its_energies(monkeypatch) -> None:
    found, alone = measured(2.1)
    wanted = exact(2.1) - exact(2.0)
    assert abs(found.value - wanted) < 3 * found.error
    assert found.error < 0.2 * alone
    assert found.overlap > 0.98

    def reversed_stretch(*asked: Tensor) -> tuple[Tensor, Tensor]:
        moved, stretch = warp(*asked)
        return moved, -stretch

    monkeypatch.setattr(differences, "warp", reversed_stretch)
    wrong, _ = measured(2.1)
    assert abs(wrong.value - wanted) > 4 * wrong.error


def test_a_difference_over_a_long_way_is_no_number() -> None:
    found, _ = measured(5.0)
    assert found.overlap < differences.OVERLAP
    assert math.isnan(found.value)


def scan(*distances: float) -> dict:
    points = [{"coordinate": d, "positions": bond(d)} for d in distances]
    tiny = {"width": 4, "pair_width": 4, "layers": 1, "determinants": 1}
    return {
        "version": 1,
        "kind": "vmc",
        "symbols": ["H", "H"],
        "points": points,
        "wavefunction": {"kind": "determinant", **tiny},
        "sampling": {"walkers": 32, "moves": 3, "burn_in": 5},
        "evaluation": {"sweeps": 10},
        "first_iterations": 2,
        "iterations": 2,
        "differences": True,
    }


@pytest.mark.slow
def test_a_scan_measures_each_point_against_the_nearest_before_it(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "near", "", {})
    data = parse(scan(1.4, 1.45, 1.42))
    outcome = assemble(data, tmp_path).run(folder, Reporter(quiet=True))
    energies = outcome.figures["energy_at_1.45"], outcome.figures["energy_at_1.42"]
    steps = [
        outcome.figures[f"energy_at_{name}"]
        for name in ("1.45_above_1.4", "1.42_above_1.4")
    ]
    for step, energy in zip(steps, energies, strict=True):
        assert step.error is not None and energy.error is not None
        assert step.error < 1e3 * energy.error
    assert {c.name: c.passed for c in outcome.checks}["overlap"]
    folder.use_previous = True
    again = assemble(data, tmp_path).run(folder, Reporter(quiet=True))
    assert again.figures == outcome.figures


@pytest.mark.slow
def test_a_scan_of_distant_points_fails_for_its_differences(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "far", "", {})
    outcome = assemble(parse(scan(1.4, 6.0)), tmp_path).run(folder, Reporter(quiet=True))
    assert "energy_at_6" in outcome.figures
    assert "energy_at_6_above_1.4" not in outcome.figures
    assert not {c.name: c.passed for c in outcome.checks}["overlap"]
