"""Effective core potentials: quadrature, energies against PySCF, gradients, refusals."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scalebridge.engine import runtime
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc.cores import cores_of, icosahedron, legendre, turned
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.evaluate import Evaluation, evaluate
from scalebridge.engine.vmc.hamiltonian import Molecule, molecule
from scalebridge.engine.vmc.hartree_fock import hartree_fock
from scalebridge.engine.vmc.optimiser import Spring
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.wavefunctions import jet
from scalebridge.models.wavefunctions.determinant import DeterminantForm
from scalebridge.models.wavefunctions.electrons import surroundings
from scalebridge.models.wavefunctions.slater import SlaterJastrow

gto = pytest.importorskip("pyscf.gto")

ATOM = [[0.0, 0.0, 0.0]]


def sphere_mean(powers: tuple[int, ...]) -> float:
    """Mean of ``x^a y^b z^c`` over the unit sphere."""
    if any(p % 2 for p in powers):
        return 0.0
    odd = [math.prod(range(p - 1, 0, -2)) for p in powers]
    return math.prod(odd) / math.prod(range(sum(powers) + 1, 0, -2))


def monomial(points: Tensor, powers: tuple[int, ...]) -> Tensor:
    return (points ** torch.tensor(powers)).prod(-1)


def test_the_icosahedron_is_exact_to_degree_five_and_unbiased_beyond() -> None:
    points = icosahedron()
    every = itertools.product(range(7), repeat=3)
    wrong: dict[int, float] = dict.fromkeys(range(7), 0.0)
    for powers in (p for p in every if sum(p) <= 6):
        off = abs(float(monomial(points, powers).mean()) - sphere_mean(powers))
        wrong[sum(powers)] = max(wrong[sum(powers)], off)
    assert max(wrong[degree] for degree in range(6)) < 1e-15
    assert wrong[6] > 1e-2
    means = monomial(turned(points, 20_000, runtime.generator(1)), (6, 0, 0)).mean(1)
    error = float(means.std()) / math.sqrt(len(means))
    assert abs(float(means.mean()) - 1 / 7) < 4 * error < 1e-3


def test_legendre_polynomials_are_those_of_numpy() -> None:
    x = torch.linspace(-1, 1, 9).double()
    for highest in (0, 1, 4):
        wanted = np.polynomial.legendre.legvander(x.numpy(), highest)
        np.testing.assert_allclose(legendre(x, highest).numpy(), wanted, atol=1e-14)


@pytest.mark.parametrize("symbol", ["H", "He", "Li", "C", "Na", "Si", "Fe", "Br", "Au"])
def test_a_core_takes_the_pole_and_its_electrons_away(symbol: str) -> None:
    system = molecule([symbol], ATOM, core="ccecp")
    assert float(system.nuclear_cusps.abs()) < 1e-12
    assert float(system.charges) == system.electrons
    assert system.exact is None
    near = torch.tensor([[1e-4], [1e-3]]).double()
    assert system.cores is not None
    assert bool((system.cores.local(near).abs() < 1e4).all())


class Bell(nn.Module):
    """``exp(-a |r - c|^2)`` for one electron."""

    def __init__(self, rate: float, centre: Tensor) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor([rate]).double())
        self.centre = centre

    def forward(self, r):
        square = jet.square(jet.shift(r, -self.centre))
        log = jet.linear(lambda t: -self.rate * t.sum(-1), square)
        total = jet.sum_electrons(log)
        value = total.value if isinstance(total, jet.Jet) else total
        return torch.ones_like(value), total

    def walkers(self, count: int) -> Tensor:
        noise = torch.randn(count, 1, 3, generator=runtime.generator(7)).double()
        return self.centre + noise / math.sqrt(4 * float(self.rate.detach()))


def one_electron(symbol: str, rate: float) -> tuple[Molecule, Electrons, Tensor]:
    """One electron of an ion in a Gaussian beside the nucleus, with exact samples."""
    valence = molecule([symbol], ATOM, core="ccecp").electrons
    place = torch.tensor([[-0.4, 0.7, 0.1]]).double()  # the energy does not depend on it
    ion = molecule([symbol], place, charge=valence - 1, core="ccecp")
    psi = Bell(rate, place[0] + torch.tensor([0.2, 0.3, 0.5]).double())
    return ion, Electrons(ion, Flat(psi), chunk=4000), psi.walkers(60_000)


def gaussian_energy(symbol: str, rate: float) -> float:
    """The same by PySCF's analytic integrals."""
    mole = gto.M(
        atom=[("X", (0.2, 0.3, 0.5)), (symbol, (0.0, 0.0, 0.0))],
        unit="bohr",
        basis={"X": [[0, [rate, 1.0]]], symbol: [[0, [1.0, 1.0]]]},
        ecp={symbol: "ccecp"},
        spin=None,
        verbose=0,
    )
    parts = ("int1e_kin", "int1e_nuc", "ECPscalar")
    return sum(float(mole.intor(part)[0, 0]) for part in parts)


@pytest.mark.parametrize(
    ("symbol", "channel", "factor"), [("C", 0, 1.1), ("Si", 1, 1.4), ("Au", 0, 1.2)]
)
def test_the_potential_is_that_of_pyscf_s_integrals(symbol, channel, factor) -> None:
    """Channels up to s, p and f; a planted error of one of them is noticed."""
    ion, problem, walkers = one_electron(symbol, 1.0)
    wanted = gaussian_energy(symbol, 1.0)

    def sigmas(problem: Electrons) -> float:
        energy = problem.local_energy(walkers, runtime.generator(3))
        return abs(float(energy.mean()) - wanted) / float(energy.std()) * len(energy) ** 0.5

    assert sigmas(problem) < 3
    assert ion.cores is not None
    channels = ion.cores.channels
    weights = channels.weights.clone()
    weights[:, channel] *= factor
    wrong = replace(ion.cores, channels=replace(channels, weights=weights))
    assert sigmas(replace(problem, hamiltonian=replace(ion, cores=wrong))) > 6


def test_the_gradient_of_the_energy_holds_with_a_non_local_part() -> None:
    _, problem, walkers = one_electron("Si", 1.0)
    step = 1e-3
    ends = [gaussian_energy("Si", 1.0 + sign * step) for sign in (1, -1)]
    wanted = (ends[0] - ends[1]) / (2 * step)
    energy = problem.local_energy(walkers, runtime.generator(3))
    score = problem.scores(walkers)[:, 0]
    terms = 2 * (energy - energy.mean()) * (score - score.mean())
    error = float(terms.std()) / math.sqrt(len(terms))
    assert abs(float(terms.mean()) - wanted) < 3 * error < 0.1 * abs(wanted)


def test_threads_do_not_share_a_module_whose_parameters_are_exchanged() -> None:
    _, problem, walkers = one_electron("Si", 1.0)
    alone, threads = problem.scores(walkers), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = [problem.scores(walkers) for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    for each in together:
        torch.testing.assert_close(each, alone, rtol=1e-12, atol=1e-12)


def at_hartree_fock(system: Molecule, basis: str, sweeps: int) -> Evaluation:
    """Sample the determinant of Hartree-Fock itself."""
    bare = SlaterJastrow(
        surroundings(system), system.orbitals(basis), system.up, system.down, cusps=None
    )
    problem = Electrons(system, Flat(bare.double()), chunk=512)
    state = Vmc(problem, Spring(), walkers=512, burn_in=40).init(runtime.generator(2))
    return evaluate(problem, state.walkers, state.width, runtime.generator(3), sweeps)


@pytest.mark.parametrize(
    ("symbols", "positions", "core", "sweeps"),
    [
        pytest.param(["C"], ATOM, "ccecp", 80, marks=pytest.mark.slow),
        pytest.param(["Si"], ATOM, "ccecp", 80, marks=pytest.mark.slow),
        pytest.param(
            ["H", "H"], [*ATOM, [0.0, 0.0, 1.4]], "ccecp", 40, marks=pytest.mark.slow
        ),
        (["Li", "H"], [*ATOM, [0.0, 0.0, 3.015]], {"Li": "ccecp"}, 40),
    ],
)
def test_the_determinant_of_hartree_fock_has_its_energy(
    symbols, positions, core, sweeps
) -> None:
    system = molecule(symbols, positions, core=core)
    wanted = hartree_fock(system).energy
    found = at_hartree_fock(system, "cc-pvtz", sweeps)
    assert abs(found.energy - wanted) < 3 * found.error < 0.03


@pytest.mark.slow
def test_one_electron_in_a_core_potential_is_exact() -> None:
    """Hartree-Fock of one electron in a large basis: its local energy hardly varies."""
    sodium = molecule(["Na"], ATOM, core="ccecp")
    found = at_hartree_fock(sodium, "ccecp-cc-pV5Z", 20)
    assert abs(found.energy - hartree_fock(sodium, "cc-pv5z").energy) < 3 * found.error
    assert found.error < 1e-4
    assert found.variance < 2e-4


def test_networks_start_at_hartree_fock_and_repeat_their_steps() -> None:
    carbon = molecule(["C"], ATOM, core="ccecp")
    assert (carbon.up, carbon.down) == (3, 1)
    form = DeterminantForm(width=8, pair_width=4, layers=1, determinants=2)
    problem = Electrons(carbon, Flat(form.build(carbon).float()))
    world = Vmc(problem, Spring(), walkers=512, burn_in=30)
    state = world.init(runtime.generator(1))
    start, error = state.start.tolist()
    assert start - hartree_fock(carbon).energy < 5e-3 + 3 * error
    once, again = world.step(state), world.step(state)
    assert torch.equal(once.parameters, again.parameters)
    assert torch.equal(once.energy, again.energy)


class Wave(nn.Module):
    """One electron of the angular momentum ``degree`` along z."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree, self.size = degree, nn.Parameter(torch.ones(1).double())

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        cosine = r[:, 0, 2] / r[:, 0].norm(dim=-1)
        angular = legendre(cosine, 2)[:, self.degree]
        return angular.sign(), angular.abs().log() + self.size.log()


@pytest.mark.parametrize("degree", [0, 1])
def test_a_wave_of_one_momentum_feels_its_own_channel(degree: int) -> None:
    """Twelve directions are exact for ``P_l`` of a wave of that ``l``, signs and all."""
    ion = molecule(["Si"], ATOM, charge=3, core="ccecp")
    assert ion.cores is not None and ion.cores.highest == 1
    problem = Electrons(ion, Flat(Wave(degree)))
    unit = torch.randn(30, 1, 3, generator=runtime.generator(3), dtype=torch.float64)
    r = 0.7 * unit / unit.norm(dim=-1, keepdim=True)
    hops = ion.hops(r, runtime.generator(4))
    assert hops is not None and len(hops.weights) == 12 * 30  # near enough to be certain
    found = problem._hopped(hops, *problem.psi_of(r))
    channels = ion.cores.channels(torch.full((1, 1), 0.7).double())[0]
    wanted = channels[degree] / (2 * degree + 1)
    torch.testing.assert_close(found, wanted.expand(30), rtol=1e-6, atol=1e-9)


def test_hops_go_round_a_nucleus_wherever_it_is() -> None:
    r = torch.randn(20, 4, 3, generator=runtime.generator(1), dtype=torch.float64)
    away = torch.tensor([[3.0, -2.0, 5.0]]).double()
    core = molecule(["C"], ATOM, core="ccecp").cores
    assert core is not None
    here = core.hops(r, torch.zeros_like(away), runtime.generator(2))
    there = core.hops(r + away, away, runtime.generator(2))
    assert len(here.weights) > 100
    torch.testing.assert_close(there.weights, here.weights)
    torch.testing.assert_close(there.positions, here.positions + away)


def test_elements_keep_what_the_table_does_not_name() -> None:
    where = [*ATOM, [0.0, 0.0, 2.9]]
    mixed = molecule(["Si", "H"], where, core={"Si": "ccecp"})
    assert mixed.charges.tolist() == [4.0, 1.0]
    assert mixed.numbers.tolist() == [14.0, 1.0]
    assert mixed.nuclear_cusps.tolist() == [0.0, 1.0]
    assert cores_of(["Si"], {}) is None
    assert molecule(["Si"], ATOM).up - molecule(["Si"], ATOM).down == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"symbols": ["Tc"]}, "core 'ccecp' has no potential for 'Tc'"),
        ({"core": {"Ge": "ccecp"}}, "core of 'Ge', which is not in the molecule"),
        ({"core": "bfd"}, "core 'bfd' is not known; allowed: ccecp"),
        ({"charge": 4}, "leaves 0 of 4 electrons"),
    ],
)
def test_impossible_cores_are_refused(changes, said) -> None:
    asked = {"symbols": ["Si"], "positions": ATOM, "core": "ccecp", **changes}
    with pytest.raises(InputError, match=said):
        molecule(**asked)


def scenario(**changes) -> dict:
    system = {"kind": "molecule", "symbols": ["Si"], "positions": ATOM, "core": "ccecp"}
    common = {"version": 1, "kind": "vmc", "wavefunction": {"kind": "determinant"}}
    return {**common, "system": system, **changes}


def test_scenarios_say_what_does_not_go_with_cores(tmp_path) -> None:
    forces = {"forces": True}
    with pytest.raises(InputError, match=r"evaluation\.forces: none with core"):
        parse(scenario(evaluation=forces))
    scan = {key: value for key, value in scenario().items() if key != "system"}
    points = [{"coordinate": 1.0, "positions": [[0.0, 0.0, 0.0]]}]
    scan |= {"symbols": ["Si"], "points": points, "core": "ccecp"}
    with pytest.raises(InputError, match=r"evaluation\.forces: none with core"):
        parse({**scan, "evaluation": forces})
    with pytest.raises(InputError, match="core"):
        parse(scenario(system={"kind": "trap", "core": "ccecp"}))
    poor = {"kind": "determinant", "basis": "sto-3g"}
    with pytest.raises(InputError, match=r"basis: .*'ccecp-sto-3g' for Si; another basis$"):
        assemble(parse(scenario(wavefunction=poor)), tmp_path)
