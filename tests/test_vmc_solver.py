"""Hamiltonians, sampling, natural gradient, evaluation, forces, restart, bad input."""

import math
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from scalebridge.engine import commands, runtime
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.jobs import assemble, vmc
from scalebridge.engine.jobs.vmc import make_problem
from scalebridge.engine.ritz import solver
from scalebridge.engine.run import Reporter, pack
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc import (
    electrons,
    forces,
    lattice,
    optimiser,
    references,
    results,
)
from scalebridge.engine.vmc import verdicts as verdicts_of
from scalebridge.engine.vmc.differences import warp
from scalebridge.engine.vmc.electrons import Electrons, replace_bad
from scalebridge.engine.vmc.evaluate import Density, Evaluation, evaluate
from scalebridge.engine.vmc.hamiltonian import (
    Molecule,
    Trap,
    from_atoms,
    molecule,
)
from scalebridge.engine.vmc.hartree_fock import hartree_fock
from scalebridge.engine.vmc.labeler import VmcCalculator, VmcLabeler, balanced
from scalebridge.engine.vmc.optimiser import Adam, Spring, clipped, gram
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.scan import Scan
from scalebridge.engine.vmc.solve import Solution, Solver, nearest
from scalebridge.engine.vmc.spins import Spins
from scalebridge.engine.vmc.statistics import (
    Extrapolation,
    autocorrelation_time,
    blocked_error,
    extrapolate,
    walker_error,
)
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.wavefunctions import jet
from scalebridge.models.wavefunctions.attention import AttentionForm
from scalebridge.models.wavefunctions.deepwf import DeepWf
from scalebridge.models.wavefunctions.determinant import DeterminantForm
from scalebridge.models.wavefunctions.rbm import Rbm, RbmForm, SymmetricRbm
from scalebridge.models.wavefunctions.ritz import RitzNet

pytestmark = pytest.mark.usefixtures("one_thread")


def small(hamiltonian: Molecule | Trap, seed: int = 0, double: bool = True) -> Electrons:
    form = DeterminantForm(width=8, pair_width=4, layers=1, determinants=2, basis="cc-pvdz")
    net = form.build(hamiltonian, seed)
    return Electrons(hamiltonian, Flat(net.double() if double else net.float()), moves=5)


# -- bad input ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "positions", "charge", "spin", "said"),
    [
        (["Xx"], [[0, 0, 0]], 0, None, "'Xx' is no chemical element"),
        (["He"], [[0, 0, 0]], 2, None, "leaves 0 of 2 electrons"),
        (["He"], [[0, 0, 0]], 0, 1, "spin 1 (unpaired electrons) is impossible for 2"),
        (["He"], [[0, 0, 0]], 0, 4, "spin 4"),
        (["H", "H"], [[0, 0, 0], [0, 0, 0.01]], 0, 0, "0.01 bohr apart"),
        (["H", "H"], [[0, 0, 0]], 0, 0, "2 symbols but 1 positions"),
        (["H"], [[0, 0, math.nan]], 0, None, "not a finite number"),
        (["H"], [[0, 0, 0]], -9, None, "no such anion"),
        (["H", "He"], [[0, 0, 0], [0, 0, 2e3]], 0, None, "nucleus 1 (He) is 2000 bohr"),
    ],
)
def test_impossible_molecules_are_refused(symbols, positions, charge, spin, said) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        molecule(symbols, positions, charge, spin)


def helium(**changes) -> dict:
    return {
        "version": 1,
        "kind": "vmc",
        "system": {"kind": "molecule", "symbols": ["He"], "positions": [[0.0, 0.0, 0.0]]},
        "wavefunction": {"kind": "determinant"},
        **changes,
    }


def test_bad_scenarios_say_what_is_allowed(tmp_path) -> None:
    with pytest.raises(InputError, match="rbm cannot describe molecule"):
        parse(helium(wavefunction={"kind": "rbm"}))
    with pytest.raises(InputError, match="did you mean walkers"):
        parse(helium(sampling={"walker": 3}))
    with pytest.raises(InputError, match="must be even"):
        parse(
            helium(
                system={"kind": "heisenberg", "shape": [5]}, wavefunction={"kind": "rbm"}
            )
        )
    crowd = {
        "kind": "molecule",
        "symbols": ["U"] * 4,
        "positions": [[0.0, 0.0, 5.0 * i] for i in range(4)],
    }
    with pytest.raises(InputError, match=r"368 electrons .* GiB, this machine has"):
        assemble(parse(helium(system=crowd, sampling={"walkers": 8, "chunk": 8})), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda is not available"):
            assemble(parse(helium(device="cuda")), tmp_path)
    with pytest.raises(InputError, match="second neighbours need a ring of at least 6"):
        parse(
            helium(
                system={"kind": "heisenberg", "shape": [4], "second": 0.1},
                wavefunction={"kind": "rbm"},
            )
        )
    with pytest.raises(InputError, match="at least 3 sites"):
        assemble(
            parse(
                helium(system={"kind": "ising", "shape": [2]}, wavefunction={"kind": "rbm"})
            ),
            tmp_path,
        )
    bosons = {"kind": "trap", "up": 2, "down": 0, "bosons": True}
    with pytest.raises(InputError, match=r"evaluation\.spin: bosons have none"):
        parse(
            helium(
                system=bosons, wavefunction={"kind": "deepwf"}, evaluation={"spin": True}
            )
        )
    again = tiny_scan()
    again["points"][1]["coordinate"] = 1.4 + 1e-9
    with pytest.raises(InputError, match=r"points: two at 1\.4"):
        parse(again)


def test_moves_of_a_sweep_are_those_of_the_system() -> None:
    text = {"version": 1, "kind": "vmc", "title": "t", "description": "d"}
    helium = {"kind": "molecule", "symbols": ["He"], "positions": [[0.0, 0.0, 0.0]]}
    ring = {"kind": "ising", "shape": [4]}
    for system, form, wanted in (
        (helium, {"kind": "determinant"}, 5),
        (ring, {"kind": "rbm"}, 10),
    ):
        data = {**text, "system": system, "wavefunction": form}
        for asked, moves in (({}, wanted), ({"sampling": {"moves": 3}}, 3)):
            assert make_problem(parse({**data, **asked}, "t")).moves == moves


@pytest.mark.parametrize(
    "system", [Trap(), molecule(["Li", "H"], [[0, 0, 0], [0, 0, 3.0]])]
)
def test_every_centre_has_its_cusp(system) -> None:
    assert system.nuclear_cusps.shape == system.positions.shape[:1]


def test_molecules_come_from_ase() -> None:
    ours = from_atoms(Atoms("LiH", [[0, 0, 0], [0, 0, 1.6]]), charge=1)
    assert (ours.up, ours.down) == (2, 1)
    torch.testing.assert_close(
        ours.positions[1, 2], torch.tensor(1.6 / 0.529177210903, dtype=torch.float64)
    )
    with pytest.raises(InputError, match="periodic"):
        from_atoms(Atoms("H", pbc=True))
    quartet = molecule(["N"], [[0, 0, 0]])
    assert (quartet.up, quartet.down, quartet.exact) == (5, 2, -54.5892)


TINY = {"kind": "determinant", "width": 4, "pair_width": 4, "layers": 1, "determinants": 1}


def tiny_scan() -> dict:
    return {
        "version": 1,
        "kind": "vmc",
        "symbols": ["H", "H"],
        "points": [
            {"coordinate": r, "positions": [[0, 0, 0], [0, 0, r]], "reference": -1.1}
            for r in (1.4, 1.6)
        ],
        "wavefunction": TINY,
        "sampling": {"walkers": 16, "moves": 2, "burn_in": 1},
        "evaluation": {"sweeps": 10},
        "first_iterations": 2,
        "iterations": 2,
    }


def test_a_scenario_leaves_figures_and_arrays(tmp_path) -> None:
    data = helium(
        wavefunction=TINY,
        sampling={"walkers": 16, "moves": 2, "burn_in": 1},
        evaluation={"sweeps": 10, "forces": True, "spin": True, "density": 8},
        iterations=3,
    )
    folder = RunFolder.create(tmp_path / "run", "", {})
    outcome = assemble(parse(data), tmp_path).run(folder, Reporter(quiet=True))
    assert {"energy", "energy_error", "variance", "spin_squared", "force_0_x"} <= set(
        outcome.figures
    )
    assert folder.store["density"].shape == (8, 8, 8)


def test_a_run_that_has_not_converged_goes_on(tmp_path) -> None:
    tiny = [f"wavefunction.{key}={value}" for key, value in TINY.items()]
    tiny += ["sampling.walkers=16", "sampling.burn_in=1", "evaluation.spin=false"]
    few = ["iterations=3", "evaluation.sweeps=10"]
    more = ["iterations=5", "evaluation.sweeps=12"]
    whole = commands.run("vmc_hooke", tiny + more, tmp_path / "whole", strict=False)
    commands.run("vmc_hooke", tiny + few, tmp_path / "parts", strict=False)
    again = commands.resume(tmp_path / "parts", more, strict=False)
    assert again.figures == whole.figures


@pytest.mark.parametrize(("sigmas", "passed"), [(2.5, True), (3.5, False)])
def test_no_energy_of_a_scan_may_lie_below_its_reference(tmp_path, sigmas, passed) -> None:
    scan = assemble(parse(tiny_scan()), tmp_path)
    assert isinstance(scan, Scan)
    energies = torch.tensor([[-1.09, 0.001, 0.1], [-1.1 - 0.002 * sigmas, 0.002, 0.1]])
    folder = RunFolder.create(tmp_path / "run", "", {})
    outcome = scan.outcome(folder, energies.double(), [])
    check = next(check for check in outcome.checks if check.name == "variational")
    assert check.value == pytest.approx(sigmas, abs=1e-3) and check.passed == passed
    assert outcome.figures["largest_error"].value == pytest.approx(10.0, abs=1e-3)


@pytest.mark.parametrize(
    ("energy", "failed"),
    [
        (-1.174, []),
        (-1.16, ["exact_energy"]),
        (-1.1, ["exact_energy", "hartree_fock"]),
        (-1.3, ["variational", "exact_energy"]),
    ],
)
def test_every_point_of_a_scan_is_checked(tmp_path, energy, failed) -> None:
    pytest.importorskip("pyscf", reason="pip install scalebridge[label]")
    data = tiny_scan()
    for point, known in zip(data["points"], (-1.17447, -1.16858), strict=True):
        point["reference"] = known
    scan = assemble(parse(data), tmp_path)
    assert isinstance(scan, Scan)
    energies = torch.tensor([[energy, 0.0005, 0.1], [-1.168, 0.0005, 0.1]]).double()
    outcome = scan.outcome(RunFolder.create(tmp_path / "run", "", {}), energies, [])
    found = [check for check in outcome.checks if not check.passed]
    assert [check.name for check in found] == failed
    assert all("at 1.4" in check.note for check in found if check.name != "variational")


def test_hartree_fock_bounds_in_the_basis_of_the_run() -> None:
    pytest.importorskip("pyscf", reason="pip install scalebridge[label]")
    potassium = molecule(["K"], [[0, 0, 0]])
    assert verdicts_of.lowest_mean_field(potassium, "cc-pvtz") is None  # PySCF has none
    assert verdicts_of.lowest_mean_field(potassium, "sto-3g") < -590
    noble = molecule(["He"], [[0, 0, 0]])
    assert verdicts_of.lowest_mean_field(noble, "sto-3g") < -2.86  # of the larger one


def test_a_basis_that_is_missing_is_refused_in_one_line() -> None:
    pytest.importorskip("pyscf", reason="pip install scalebridge[label]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="basis: PySCF does not have 'cc-pvtz' for U;"):
            hartree_fock(molecule(["U"], [[0, 0, 0]]), "cc-pvtz")


def test_a_scan_goes_on_where_it_stopped(tmp_path) -> None:
    job = assemble(parse(tiny_scan()), tmp_path)
    folder = RunFolder.create(tmp_path / "run", "", {})
    straight = job.run(folder, Reporter(quiet=True))
    assert {"energy_at_1.4", "energy_at_1.6", "largest_error"} <= set(straight.figures)
    folder.use_previous = True  # the checkpoint after the first geometry
    again = assemble(parse(tiny_scan()), tmp_path).run(folder, Reporter(quiet=True))
    assert again.figures == straight.figures


# -- potentials and estimators -------------------------------------------------------------


def test_pyscf_agrees_on_nuclear_repulsion_and_forces() -> None:
    lih = molecule(["Li", "H"], [[0, 0, 0], [0, 0.5, 3.0]])
    distance = math.hypot(0.5, 3.0)
    assert math.isclose(lih.nuclear_repulsion, 3 / distance)
    pull = lih.nuclear_forces()
    assert torch.allclose(pull.sum(0), torch.zeros(3).double())
    assert math.isclose(float(pull[1].norm()), 3 / distance**2)


def cloud_force(distance: float) -> float:
    """Force on a proton at ``distance`` from the centre of a hydrogen 1s cloud."""
    inside = 1 - math.exp(-2 * distance) * (1 + 2 * distance + 2 * distance**2)
    return -inside / distance**2


class Cloud(nn.Module):
    """``psi = exp(-|r - c|)`` with c at the origin, wherever the nucleus stands."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(1).double())

    def forward(self, r):
        log = jet.sum_electrons(jet.linear(lambda t: -self.rate * t[..., 0], jet.norm(r)))
        return torch.ones(1), log


def exact_cloud(count: int) -> Tensor:
    """Exact samples of the 1s density: the radius is a sum of three exponentials."""
    rng = torch.Generator().manual_seed(5)
    radius = -0.5 * torch.rand(count, 3, generator=rng).double().log().sum(1)
    direction = torch.randn(count, 3, generator=rng).double()
    return (radius[:, None] * direction / direction.norm(dim=1, keepdim=True))[:, None]


def test_zero_variance_force_is_the_field_of_the_cloud() -> None:
    nucleus = molecule(["H"], [[0.0, 0.0, 0.7]])
    problem = Electrons(nucleus, Flat(Cloud()), chunk=100_000)
    _, parts = forces.force_samples(problem, exact_cloud(100_000), runtime.generator(1))
    bare = parts[:, 0, 0]
    sigma = bare.std(0) / len(bare) ** 0.5
    wanted = torch.tensor([0.0, 0.0, cloud_force(0.7)]).double()
    assert bool(((bare.mean(0) - wanted).abs() < 4 * sigma).all())
    assert float(sigma.max()) < 0.01
    # Planted defect: without the subtracted term the mean is another one.
    wrong = bare.mean(0)[2] + 0.5 * parts[:, 1, 0].mean(0)[2]
    assert abs(float(wrong) - float(wanted[2])) > 4 * float(sigma[2])


def test_blocking_sees_correlation() -> None:
    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(4096, 64, generator=rng).double()
    chain = torch.zeros_like(noise)
    for t in range(1, len(noise)):
        chain[t] = 0.9 * chain[t - 1] + noise[t]
    tau = (1 + 0.9) / (1 - 0.9)
    assert abs(autocorrelation_time(chain) - tau) < 0.15 * tau
    true = 1 / (1 - 0.9) / math.sqrt(chain.numel())
    assert abs(walker_error(chain) - true) < 0.35 * true
    assert abs(blocked_error(chain.mean(1)) - true) < 0.35 * true
    naive = float(chain.mean(1).std()) / math.sqrt(len(chain))
    assert naive < 0.4 * true
    line = extrapolate(
        -2.9 + 0.3 * torch.linspace(0.1, 0.01, 80), torch.linspace(0.1, 0.01, 80)
    )
    assert line is not None
    assert abs(line.energy + 2.9) < 1e-3


def test_density_counts_every_electron() -> None:
    problem = small(molecule(["He"], [[0, 0, 0]]))
    density = Density(problem, 16, 8.0)
    density(problem.start(500, torch.Generator().manual_seed(1)))
    assert math.isclose(float(density.field().sum()), 2.0, rel_tol=1e-9)


# -- sampling and optimisation -------------------------------------------------------------


class Gauss(nn.Module):
    """The ground state of one particle in a trap."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = nn.Parameter(torch.tensor(omega).double())

    def forward(self, r):
        square = jet.linear(lambda t: -0.5 * self.omega * t.sum(-1), jet.square(r))
        return torch.ones(1), jet.sum_electrons(square)


def test_metropolis_samples_the_density_and_adapts() -> None:
    problem = Electrons(Trap(1.0, 1, 0), Flat(Gauss(1.0)), moves=10)
    rng = torch.Generator().manual_seed(2)
    walkers, width = 3 * problem.start(512, rng), torch.tensor(0.05).double()
    squares = []
    for sweep in range(150):
        swept = problem.sweep(walkers, width, rng)
        walkers, width = swept.walkers, swept.width
        if sweep >= 50:
            squares.append(walkers.square().sum((1, 2)))
    samples = torch.stack(squares)
    assert abs(float(swept.acceptance) - 0.4) < 0.05
    assert abs(float(samples.mean()) - 1.5) < 4 * walker_error(samples)
    energy = problem.local_energy(walkers, rng)
    torch.testing.assert_close(energy, torch.full_like(energy, 1.5))


class Unequal(nn.Module):
    """``psi = exp(-r_1^2 / 4 - r_2^2)``: exchanges are often refused."""

    rates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()).double())
        self.register_buffer("rates", torch.tensor([0.25, 1.0]).double())

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        log = -self.scale * (r.square().sum(-1) * self.rates).sum(-1)
        return torch.ones_like(log), log


def test_exchanges_by_lot_keep_the_distribution() -> None:
    problem = Electrons(molecule(["He"], [[0, 0, 0]]), Flat(Unequal()), moves=3)
    rng = torch.Generator().manual_seed(5)
    walkers, width = problem.start(512, rng).double(), torch.tensor(0.5).double()
    squares = []
    for sweep in range(120):
        swept = problem.sweep(walkers, width, rng)
        walkers, width = swept.walkers, swept.width
        if sweep >= 40:
            squares.append(walkers.square().sum(2))
    samples = torch.stack(squares)
    assert abs(float(swept.acceptance) - 0.4) < 0.05
    for electron, wanted in enumerate((3.0, 0.75)):
        found = samples[:, :, electron]
        assert abs(float(found.mean()) - wanted) < 4 * walker_error(found)


def test_bad_walkers_are_replaced_and_counted() -> None:
    good = torch.tensor([True, False, True, False])
    chosen = replace_bad(good, torch.Generator().manual_seed(0))
    assert set(chosen.tolist()) <= {0, 2}
    assert chosen[0] == 0
    problem = Electrons(Trap(1.0, 1, 0), Flat(Gauss(1.0)), moves=2)
    walkers = problem.start(16, torch.Generator().manual_seed(1))
    walkers[3] = math.nan
    swept = problem.sweep(
        walkers, torch.tensor(0.5).double(), torch.Generator().manual_seed(2)
    )
    assert int(swept.reseeded) == 1
    assert bool(swept.walkers.isfinite().all())
    world = Vmc(problem, Spring(), 16, burn_in=0)
    state = replace(world.init(torch.Generator().manual_seed(1)), walkers=walkers)
    after = world.step(state)
    assert int(after.reseeded) == 1
    assert math.isfinite(float(after.energy))
    with pytest.raises(GuardError, match="not finite"):
        world.step(replace(state, parameters=torch.full_like(state.parameters, math.nan)))


def test_spring_is_the_same_on_both_sides() -> None:
    rng = torch.Generator().manual_seed(4)
    energy = torch.randn(40, generator=rng).double()
    wide = torch.randn(40, 60, generator=rng).double()
    spring = Spring(ramp=0)
    old = 0.3 * torch.randn(60, generator=rng).double()
    error = -(energy - energy.mean())
    by_walkers = spring._by_walkers(wide, error, old, 0)
    by_parameters = spring._by_parameters(wide, error, old, 0)
    torch.testing.assert_close(by_walkers, by_parameters, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(gram(wide, torch.float64), wide @ wide.T)
    # Planted defect: forgetting the old direction gives another answer.
    assert (spring._by_walkers(wide, error, 0 * old, 0) - by_parameters).abs().max() > 1e-3
    outlier = torch.cat([energy, torch.tensor([1e6]).double()])
    assert float(clipped(outlier, 5.0).max()) < 1e6
    assert torch.equal(clipped(outlier, 0.0), outlier)


@pytest.mark.parametrize(("walkers", "size"), [(40, 60), (60, 40)])
@pytest.mark.parametrize(("step", "bound"), [(0, 1e9), (30, 1e9), (30, 1e-4)])
def test_a_step_of_spring_solves_its_equation(walkers, size, step, bound) -> None:
    rng = torch.Generator().manual_seed(8)
    scores = torch.randn(walkers, size, generator=rng).double() + 0.4
    energy = torch.randn(walkers, generator=rng).double()
    energy[0] = 100.0  # a walker that is clipped
    old = 0.3 * torch.randn(size, generator=rng).double()
    spring = Spring(
        rate=0.3, momentum=0.8, ramp=40, decay=60.0, damping=0.05, max_norm=bound
    )
    o = (scores - scores.mean(0)) / math.sqrt(walkers)
    e = energy.clamp(
        max=float(energy.median() + 5 * (energy - energy.median()).abs().mean())
    )
    e = (e - e.mean()) / math.sqrt(walkers)
    mu = 0.8 * step / 40
    # argmin |O phi + e|^2 + damping |phi - mu old|^2 by its normal equations
    wanted = torch.linalg.solve(
        o.T @ o + 0.05 * torch.eye(size).double(), -o.T @ e + 0.05 * mu * old
    )
    change, memory = spring.update(scores.clone(), energy, {"direction": old}, step)
    torch.testing.assert_close(memory["direction"], wanted, rtol=1e-6, atol=1e-9)
    full = wanted * 0.3 / (1 + step / 60)
    shorter = min(1.0, math.sqrt(bound) / float(full.norm()))
    torch.testing.assert_close(change, full * shorter, rtol=1e-6, atol=1e-9)
    assert (shorter < 1) == (bound < 1)


@pytest.mark.parametrize("damping", [1e-3, 0.3])
def test_iterations_end_where_factors_do(damping, monkeypatch) -> None:
    rng = torch.Generator().manual_seed(6)
    sizes = torch.logspace(-3, 1, 600)  # stiff directions, as those of a wavefunction
    scores = (
        torch.randn(64, 600, generator=rng) * sizes + 0.3
    )  # of a mean that is taken out
    error = torch.randn(64, generator=rng).double()
    error = error - error.mean()
    old = 0.1 * torch.randn(600, generator=rng)
    spring = Spring(damping=damping)
    wanted = spring._by_walkers(scores.double(), error, old.double(), 0)

    def off() -> float:
        found = spring._by_walkers(scores, error, old, 0)
        return float((found - wanted).norm() / wanted.norm())

    made: list[torch.dtype] = []

    def counted(scores: Tensor, dtype: torch.dtype, blocks: int = 4) -> Tensor:
        made.append(dtype)
        return gram(scores, dtype, blocks)

    monkeypatch.setattr(optimiser, "gram", counted)
    assert off() < 0.02
    assert made == [torch.float32]  # of the sketch alone
    monkeypatch.setattr(optimiser, "PRECISE", math.inf)
    assert off() > 0.05  # planted: one iteration is noticed
    monkeypatch.setattr(optimiser, "PRECISE", 0.0)
    assert off() < 1e-4  # never as precise as that: by the whole matrix
    assert made[-1] is torch.float64


def test_a_sketch_has_the_products_of_all_columns_in_the_mean() -> None:
    scores = torch.randn(4, 20000, generator=torch.Generator().manual_seed(2))
    found = optimiser.sketch(scores, 3000)
    assert found.shape == (4, 3000)
    # off by sqrt(columns joined) numbers of size one: 1 / sqrt(3000) of the square
    wanted = scores @ scores.T
    assert float((found @ found.T - wanted).abs().max()) < 5 * 20000 / math.sqrt(3000)
    assert torch.equal(found, optimiser.sketch(scores, 3000))


def test_scores_and_chunks_agree_with_autograd() -> None:
    problem = small(molecule(["Li"], [[0, 0, 0]]))
    walkers = problem.start(6, torch.Generator().manual_seed(1)).double()
    scores = problem.scores(walkers)
    for number in range(2):
        _, log = problem.psi(walkers[number : number + 1])
        parts = torch.autograd.grad(
            log[0], list(problem.psi.parameters()), allow_unused=True
        )
        named = list(problem.psi.parameters())
        flat = torch.cat([
            (torch.zeros_like(p) if g is None else g).reshape(-1)
            for g, p in zip(parts, named, strict=True)
        ])  # fmt: skip
        torch.testing.assert_close(scores[number], flat, rtol=1e-9, atol=1e-10)
    chunked = replace(problem, chunk=2)
    torch.testing.assert_close(chunked.scores(walkers), scores)
    rng = runtime.generator(1)
    found, expected = (p.local_energy(walkers, rng) for p in (chunked, problem))
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", [Spring(ramp=20), Adam(rate=1e-2)])
def test_hooke_s_atom_is_found_from_above(optimiser) -> None:
    trap = Trap(0.5, 1, 1)
    problem = small(trap)
    rng = runtime.generator(1)
    world = Vmc(problem, optimiser, 128)
    state = world.init(rng)
    first = float(problem.local_energy(state.walkers, rng).mean())
    for _ in range(80):
        state = world.step(state)
    problem = problem.at(state.average)
    result = evaluate(problem, state.walkers, state.width, rng, 20, spin=True)
    assert result.energy < first
    assert -3 * result.error < result.energy - 2.0 < 0.05
    assert result.spin is not None
    assert abs(float(result.spin)) < 0.05


def test_a_run_goes_on_bit_for_bit() -> None:
    world = Vmc(small(molecule(["He"], [[0, 0, 0]])), Spring(), 16, burn_in=1)
    state = world.init(runtime.generator(1))
    for _ in range(3):
        state = world.step(state)
    saved = {name: tensor.clone() for name, tensor in pack(state).items()}
    straight = world.step(world.step(state))
    fresh = Vmc(small(molecule(["He"], [[0, 0, 0]]), seed=9), Spring(), 16, burn_in=1)
    from scalebridge.engine.run import unpack

    resumed = unpack(fresh.init(runtime.generator(5)), saved)
    resumed = fresh.step(fresh.step(resumed))
    for name, tensor in pack(straight).items():
        assert torch.equal(tensor, pack(resumed)[name]), name


# -- Hartree-Fock --------------------------------------------------------------------------


def one_electron_energies(system: Molecule, field, orbitals) -> tuple[Tensor, Tensor]:
    """``<-lap/2 + V>`` of normalised orbitals: on a fine grid, and by PySCF."""
    from pyscf import dft

    grid = dft.gen_grid.Grids(field.mole)
    grid.level, grid.prune = 5, None  # finer grids change the eighth digit
    grid.build()
    r, weight = torch.tensor(grid.coords), torch.tensor(grid.weights)[:, None]
    found = orbitals(jet.coordinates(r[:, None]))
    apart = (r[:, None] - system.positions).norm(dim=-1)
    well = -(system.charges / apart).sum(-1, keepdim=True)
    density = 0.5 * found.jacobian[:, :, 0].square().sum(0)
    density = density + well * found.value[:, 0].square()
    back = np.linalg.pinv(field.mole.cart2sph_coeff()) @ field.orbitals.numpy()
    matrix = field.mole.intor("int1e_kin") + field.mole.intor("int1e_nuc")
    norm = (weight * found.value[:, 0].square()).sum(0)
    wanted = torch.tensor(np.diag(back.T @ matrix @ back))
    return (weight * density).sum(0) / norm, wanted


@pytest.mark.parametrize(
    "symbols", [["Be"], pytest.param(["N", "H"], marks=pytest.mark.slow)]
)
def test_orbitals_are_hartree_fock_s_with_cusps(symbols: list[str], monkeypatch) -> None:
    from scalebridge.engine.vmc import hartree_fock as module

    where = [[0.0, 0.0, 1.9 * i] for i in range(len(symbols))]
    system = molecule(symbols, where, spin=0)
    field = hartree_fock(system, "cc-pvtz")
    orbitals = module.orbitals_of(system, field)
    # They are PySCF's own but for the oscillations of Gaussians.
    r = system.start(50, torch.Generator().manual_seed(1))
    theirs = field.mole.eval_gto("GTOval_cart", r.flatten(0, 1).numpy())
    theirs = torch.tensor(theirs @ field.orbitals.numpy()).view(*r.shape[:2], -1)
    off = (orbitals(r) - theirs).square().mean() / theirs.square().mean()
    assert float(off) < 0.02**2
    # The cusp is Kato's: the mean over opposite sides falls by Z.
    for charge, nucleus in zip(system.charges, system.positions, strict=True):
        h = torch.tensor([[0.0, 1e-4, 0.0], [0.0, -1e-4, 0.0]]).double()
        at = orbitals((nucleus + 1e-12)[None, None])[0, 0]
        slope = (orbitals((nucleus + h)[None])[0].mean(0) - at) / 1e-4
        torch.testing.assert_close(slope, -charge * at, rtol=0.01, atol=0.02)
    ours, wanted = one_electron_energies(system, field, orbitals)
    assert (ours - wanted).abs().max() < 1e-3
    # Planted defect: too few exponents are noticed.
    monkeypatch.setattr(module, "SPREAD", 4.0)
    spoilt = module.orbitals_of(system, field)
    ours, _ = one_electron_energies(system, field, spoilt)
    assert (ours - wanted).abs().max() > 5e-3


def test_local_energies_do_not_oscillate_near_a_nucleus(monkeypatch) -> None:
    from scalebridge.engine.vmc import hartree_fock as module

    system = molecule(["He"], [[0, 0, 0]])
    field = hartree_fock(system, "cc-pvtz")
    d = torch.linspace(0.02, 1.0, 200).double()
    r = torch.nn.functional.pad(d[:, None, None], (0, 2))

    def roughness() -> float:
        """Sum of the ups and downs of ``-phi'' / 2 phi - Z / d`` beyond its rise."""
        found = module.orbitals_of(system, field)(jet.coordinates(r))
        well = 2 / d[:, None, None]
        energy = (-0.5 * found.laplacian / found.value - well)[:, 0, 0]
        return float(energy.diff().abs().sum() - (energy[-1] - energy[0]).abs())

    assert roughness() < 0.01
    # Planted: the Gaussians themselves.
    monkeypatch.setattr(module, "_with_cusp", lambda own, value, charge: own)
    assert roughness() > 1


@pytest.mark.parametrize(
    "small",
    [
        DeterminantForm(width=16, pair_width=4, layers=2, determinants=4),
        AttentionForm(width=16, heads=2, layers=1, determinants=4),
    ],
)
def test_the_network_starts_at_hartree_fock(small) -> None:
    lih = molecule(["Li", "H"], [[0, 0, 0], [0, 0, 3.015]])
    net = small.build(lih, 1)
    world = Vmc(Electrons(lih, Flat(net.float())), Spring(), 256, burn_in=60)
    energy, error = world.init(runtime.generator(1)).start.tolist()
    field = hartree_fock(lih, "cc-pvtz")
    assert error < 0.02
    assert energy - 3 * error < field.energy + 5e-3
    # Planted defect: random orbitals start far above.
    blank = replace(small, orbitals="none").build(lih, 1)
    world = Vmc(Electrons(lih, Flat(blank.float())), Spring(), 64, burn_in=60)
    energy, error = world.init(runtime.generator(1)).start.tolist()
    assert energy - 3 * error > field.energy + 0.1


def test_orbitals_do_not_depend_on_the_gauge() -> None:
    """Any basis of the occupied space gives the same orbitals."""
    from scalebridge.engine.vmc import hartree_fock as module

    draws = torch.Generator().manual_seed(1)
    half = torch.randn(9, 9, generator=draws).double()
    overlap = half @ half.T + torch.eye(9)
    space = torch.randn(9, 3, generator=draws).double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=draws).double())[0]
    left = torch.linalg.cholesky(space.T @ overlap @ space)
    space = torch.linalg.solve_triangular(left, space.T, upper=False).T
    first = module._localised(space, overlap)
    torch.testing.assert_close(module._localised(space @ turn, overlap), first)
    torch.testing.assert_close(first.T @ overlap @ first, torch.eye(3).double())


# -- checks that can fail ------------------------------------------------------------------


def evaluation(energy: float, error: float = 1e-4) -> Evaluation:
    draws = torch.Generator().manual_seed(1)
    samples = energy + 0.05 * torch.randn(60, 64, generator=draws).double()
    return Evaluation(energy, error, 0.0025, 1.2, samples, samples)


def verdicts(found) -> dict[str, bool]:
    return {check.name: check.passed for check in found}


def test_a_start_above_hartree_fock_is_noticed() -> None:
    reference = results.Reference(-54.4, "Hartree-Fock, cc-pvtz")
    start = torch.tensor([-54.41, 0.01]).double()
    assert verdicts(results.started(reference, start)) == {"start": True}
    high = torch.tensor([-53.4, 0.01]).double()
    assert verdicts(results.started(reference, high)) == {"start": False}
    assert not results.started(replace(reference, begins=False), high)
    assert not results.started(reference, torch.full((2,), math.nan))


@pytest.mark.parametrize(("orbitals", "begins"), [("hartree_fock", True), ("none", False)])
def test_a_start_elsewhere_is_not_compared(orbitals: str, begins: bool, tmp_path) -> None:
    pytest.importorskip("pyscf", reason="pip install scalebridge[label]")
    form = {"kind": "determinant", "orbitals": orbitals}
    job = assemble(parse(helium(wavefunction=form)), tmp_path)
    assert job.finish.reference.begins is begins


def test_what_is_left_to_gain_is_noticed() -> None:
    result = evaluation(-2.9)
    good = [*results.equilibrium(result)]
    good.append(results.extrapolated(result, Extrapolation(-2.9005, 1e-4, 1), 1.6e-3, ""))
    assert all(verdicts(good).values())
    far = Extrapolation(-2.95, 1e-3, 1.0)
    assert not results.extrapolated(result, far, 1.6e-3, "").passed
    ramp = 0.1 * torch.linspace(0, 1, 60).double()[:, None]
    drifting = replace(result, samples=result.samples + ramp)
    assert not verdicts(results.equilibrium(drifting))["equilibration"]
    sticky = replace(result, correlation=30.0)
    assert not verdicts(results.equilibrium(sticky))["autocorrelation"]


@pytest.mark.parametrize("kind", ["determinant", "attention", "slater_jastrow"])
def test_bosons_are_refused_where_the_ansatz_is_antisymmetric(kind: str, tmp_path) -> None:
    trap = {"kind": "trap", "up": 2, "down": 0, "bosons": True, "repulsion": 0.0}
    with pytest.raises(InputError, match="antisymmetric; bosons need deepwf"):
        assemble(parse(helium(system=trap, wavefunction={"kind": kind})), tmp_path)


def test_files_with_pretraining_are_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="starts at Hartree-Fock by construction"):
        parse(helium(pretraining={"steps": 10}))


def test_warm_start_takes_the_nearest_geometry() -> None:
    def solution(distance: float) -> Solution:
        h2 = molecule(["H", "H"], [[0, 0, 0], [0, 0, distance]])
        return Solution(h2, torch.zeros(1), torch.zeros(1), torch.zeros(1))

    known = [solution(1.0), solution(2.0), solution(4.0)]
    target = molecule(["H", "H"], [[0, 0, 5.0], [0, 0, 7.3]])
    assert nearest(target, known) is known[1]
    assert nearest(molecule(["He"], [[0, 0, 0]]), known) is None
    old, new = torch.zeros(2, 3), torch.zeros(2, 3)
    old[1, 2], new[1, 2] = 2.0, 3.0
    moved, _ = warp(torch.tensor([[[0.0, 0.0, 0.001], [0.1, 0.0, 2.0]]]), old, new)
    torch.testing.assert_close(
        moved[0, 0], torch.tensor([0.0, 0.0, 0.001]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(
        moved[0, 1], torch.tensor([0.1, 0.0, 3.0]), atol=1e-2, rtol=0
    )


def test_every_step_of_a_solver_is_told() -> None:
    told = []
    solver = Solver(small, Spring(), 16, 1, 3, 2, 10, False, 1)
    hydrogen = molecule(["H", "H"], [[0, 0, 0], [0, 0, 1.4]])
    solver.solve(hydrogen, progress=lambda step, steps, state: told.append((step, steps)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_labeler_gives_energies_and_forces_with_errors() -> None:
    solver = Solver(small, Spring(), 64, 1, 20, 5, 10, True, 2)
    labeler = VmcLabeler(solver)
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    label = labeler.label(atoms)
    assert label.forces.shape == (2, 3)
    assert label.energy_error > 0
    assert (label.forces_error[:, 2] > 0).all()
    assert label.forces_error[0, 1] < 1e-6
    atoms.positions[1, 2] += 0.05
    atoms.calc = VmcCalculator(labeler.label)
    energy = atoms.get_potential_energy()
    assert energy < label.energy + 4 * label.energy_error
    assert len(labeler.known) == 2
    assert "Spring" in labeler.identity


@pytest.mark.slow
def test_forces_are_the_slope_of_the_energy() -> None:
    """H2 off equilibrium against full CI; z of every component."""
    from pyscf import fci, gto, scf

    def full_ci(apart: float) -> float:
        mole = gto.M(
            atom=f"H 0 0 0; H 0 0 {apart}", unit="bohr", basis="cc-pvqz", verbose=0
        )
        return float(fci.FCI(scf.RHF(mole).run()).kernel()[0])

    slope = (full_ci(1.84) - full_ci(1.76)) / 0.08
    solver = Solver(
        lambda m: Electrons(m, Flat(DeterminantForm(orbitals="none").build(m))),
        Spring(), 512, 1, 250, 50, 100,
    )  # fmt: skip
    _, result = solver.solve(molecule(["H", "H"], [[0, 0, 0], [0, 0, 1.8]]))
    assert result.forces is not None
    wanted = torch.tensor([[0, 0, slope], [0, 0, -slope]]).double()
    z = (result.forces.value - wanted) / result.forces.error
    assert float(z.abs().max()) < 4
    assert float(result.forces.error.max()) < 0.003


# -- lattices ------------------------------------------------------------------------------


def every_state(sites: int) -> Tensor:
    state = torch.arange(2**sites)
    return 1.0 - 2.0 * ((state[:, None] >> torch.arange(sites)) & 1).double()


def test_exact_lattice_energies_agree() -> None:
    assert math.isclose(references.ising_ring(8, 1.0), -10.251661790966, abs_tol=1e-9)
    assert math.isclose(references.heisenberg_ring(8), -3.651093408937, abs_tol=1e-9)
    for model in (lattice.Ising((8,), 0.7), lattice.Heisenberg((8,))):
        assert math.isclose(lattice.ground_energy(model), model.exact or 0, abs_tol=1e-9)
    square = lattice.Heisenberg((4, 4))
    assert math.isclose(square.exact or 0, -11.2284832, abs_tol=1e-6)
    # Schulz, Ziman, Poilblanc, J. Phys. I 6, 675 (1996), 16 sites
    frustrated = lattice.Heisenberg((4, 4), 0.5)
    assert math.isclose(frustrated.exact or 0, 16 * -0.528620, abs_tol=1e-4)
    ring = lattice.Heisenberg((8,), 0.5)
    assert math.isclose(lattice.ground_energy(ring), ring.exact or 0, abs_tol=1e-9)
    assert lattice.Ising((3, 3), 3.0).exact is not None
    assert lattice.Heisenberg((6, 6)).exact is None


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "model",
    [lattice.Ising((6,), 0.8), lattice.Heisenberg((6,)), lattice.Heisenberg((6,), 0.3)],
)
def test_lattice_local_energy_is_h_psi_over_psi(model, symmetric: bool) -> None:
    psi = SymmetricRbm((6,), 2, scale=0.3) if symmetric else Rbm(6, 2, scale=0.3)
    problem = Spins(model, Flat(psi.double()))
    states = every_state(6)
    values = torch.exp(psi(states)[1]).detach()
    expected = model.diagonal(states) * values
    for number, sites in enumerate(model.flips.tolist()):
        flipped = states.clone()
        flipped[:, sites] *= -1
        change = torch.exp(psi(flipped)[1]).detach()
        expected += model.amplitudes(states)[:, number] * change
    kept = states.sum(1) == 0 if isinstance(model, lattice.Heisenberg) else slice(None)
    torch.testing.assert_close(
        problem.local_energy(states, runtime.generator(1))[kept],
        (expected / values)[kept],
        rtol=1e-9,
        atol=1e-9,
    )
    scores = problem.scores(states[3:5])
    for number, state in enumerate(states[3:5]):
        grads = torch.autograd.grad(psi(state[None])[1][0], list(psi.parameters()))
        flat = torch.cat([g.reshape(-1) for g in grads])
        torch.testing.assert_close(scores[number], flat, rtol=1e-9, atol=1e-9)


def test_lattice_sampler_keeps_the_distribution() -> None:
    model = lattice.Ising((4,), 0.8)
    problem = Spins(model, Flat(Rbm(4, 1, scale=0.5).double()), moves=2)
    rng = torch.Generator().manual_seed(1)
    walkers = problem.start(2048, rng)
    counts = torch.zeros(16).double()
    weights = 2.0 ** torch.arange(4)
    for sweep in range(60):
        walkers = problem.sweep(walkers, torch.tensor(0.0), rng).walkers
        if sweep >= 10:
            index = ((1 - walkers) / 2 @ weights.double()).long()
            counts += torch.bincount(index, minlength=16)
    share = counts / counts.sum()
    wanted = torch.softmax(2 * problem.psi(every_state(4))[1], 0).detach()
    assert (share - wanted).abs().max() < 0.01
    assert (share - 1 / 16).abs().max() > 0.02  # planted: the uniform distribution differs


@pytest.mark.parametrize(("model", "goal"), [
    (lattice.Ising((10,)), 2e-3), (lattice.Heisenberg((10,)), 5e-3),
    (lattice.Heisenberg((10,), 0.2), 5e-3),
])  # fmt: skip
def test_lattice_ground_states(model, goal: float) -> None:
    problem = Spins(model, Flat(SymmetricRbm((10,), 2).double()))
    spring = Spring(momentum=0.8, ramp=20, max_norm=0.1, clip=0.0)
    world = Vmc(problem, spring, 256)
    state = world.init(runtime.generator(1))
    for _ in range(80):
        state = world.step(state)
    problem = problem.at(state.average)
    result = evaluate(problem, state.walkers, state.width, runtime.generator(2), 40)
    exact = model.exact
    assert exact is not None
    assert -3 * result.error < result.energy - exact < goal * abs(exact) + 3 * result.error


# -- other ansaetze ------------------------------------------------------------------------


def test_deepwf_is_antisymmetric_and_bosons_are_not() -> None:
    r = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(3)).double()
    centre, charge = torch.zeros(1, 3), torch.tensor([3.0])
    fermions = DeepWf(centre, charge, 2, 1, 8, 4, 1).double()
    sign, log = fermions(r)
    swapped, other = fermions(r[:, [1, 0, 2]])
    assert torch.equal(swapped, -sign)
    torch.testing.assert_close(other, log, rtol=0, atol=1e-11)
    bosons = DeepWf(centre, charge, 3, 0, 8, 4, 1, bosons=True).double()
    assert torch.equal(bosons(r)[0], torch.ones(6).double())
    torch.testing.assert_close(bosons(r[:, [1, 0, 2]])[1], bosons(r)[1])


def test_deep_ritz_learns_a_harmonic_function() -> None:
    flat = Flat(RitzNet(2, 8, 1).double())
    world = solver.DeepRitz(solver.Mixed(2), flat, 200, 500.0)
    state = world.init(runtime.generator(1))
    for _ in range(30):
        state = world.step(state)
    assert world.relative_error(state) < 0.03
    # Planted defect: a metric that forgets the boundary does not get there.
    blind = replace(world, penalty=1e-3)
    state = blind.init(runtime.generator(1))
    for _ in range(30):
        state = blind.step(state)
    assert blind.relative_error(state) > 0.1


def test_deep_ritz_metric_is_the_hessian_of_a_linear_network() -> None:
    """For parameters that enter linearly the metric is the Hessian of the functional."""
    flat = Flat(RitzNet(2, 5, 1).double())
    world = solver.DeepRitz(solver.Mixed(2), flat, damping=0.0, penalty=30.0)
    rng = torch.Generator().manual_seed(1)
    x, y = world.equation.inside(40, rng), world.equation.boundary(20, rng)
    metric = world.metric(x, y)
    names = [name for name, _ in flat.module.named_parameters()]
    assert names[:3] == ["entry", "entry_bias", "read"]
    read = slice(15, 20)

    def total(values: Tensor) -> Tensor:
        flat.vector[read] = values
        energy, boundary = world.functional(x, y)
        return energy.detach() + world.penalty * boundary.detach()

    start, step = flat.vector[read].clone(), torch.eye(5).double()
    for i in range(5):
        for j in range(5):
            second = (
                total(start + step[i] + step[j])
                - total(start + step[i])
                - total(start + step[j])
                + total(start)
            )
            found = metric[read, read][i, j]
            torch.testing.assert_close(found, second, rtol=1e-8, atol=1e-9)


def test_slit_reference_vanishes_on_the_slit() -> None:
    points, solution = solver.Slit(20).reference()
    on_slit = (points[:, 0] >= 0) & (points[:, 1] == 0)
    assert float(solution[on_slit].abs().max()) == 0
    assert 0.1 < float(solution.max()) < 0.3


def test_spin_correlations_of_the_ising_ring_are_exact() -> None:
    """Against the ground state of eight spins, with a field and a coupling of their own."""
    ring = lattice.Ising((8,), field=0.7, coupling=1.3)
    states = torch.arange(2**8)
    spins = 1.0 - 2.0 * ((states[:, None] >> torch.arange(8)) & 1).double()
    matrix = torch.diag(ring.diagonal(spins))
    for site in range(8):
        matrix[states, states ^ (1 << site)] += -0.7
    weight = torch.linalg.eigh(matrix)[1][:, 0].square()
    exact = [
        float((weight * (spins * spins.roll(-r, 1)).mean(1)).sum()) for r in range(1, 5)
    ]
    assert ring.exact_correlation == pytest.approx(exact, abs=1e-10)
    # Samples of the same state agree within their error; a wrong field does not.
    drawn = spins[torch.multinomial(weight, 4000, True, generator=runtime.generator(1))]
    found, error = lattice.correlation(drawn, (8,))
    away = ((found - torch.tensor(exact)) / error).abs()
    assert float(away.max()) < 4
    other = torch.tensor(lattice.Ising((8,), 1.2, 1.3).exact_correlation)
    assert float(((found - other) / error).abs().max()) > 10


def test_balanced_forces_have_no_net_force_and_torque() -> None:
    rng = np.random.default_rng(4)
    positions, forces = rng.normal(size=(2, 4, 3))
    errors = rng.uniform(0.1, 2.0, (4, 3))
    found, left = balanced(forces, errors, positions)
    arms = positions - positions.mean(0)
    np.testing.assert_allclose(found.sum(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.cross(arms, found).sum(0), 0.0, atol=1e-12)
    again, _ = balanced(found, errors, positions)
    np.testing.assert_allclose(again, found, atol=1e-12)
    noise = errors * rng.normal(size=(4000, 4, 3))
    spread = np.std([balanced(found + n, errors, positions)[0] for n in noise], axis=0)
    np.testing.assert_allclose(spread, left, rtol=0.06)
    assert np.all(left <= errors)


def test_a_sure_nucleus_speaks_for_an_unsure_one() -> None:
    """Two nuclei: only the bond's force is left, and it is that of the surer one."""
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.6]])
    forces = np.array([[0.3, -0.2, 5.0], [0.1, 0.1, -1.0]])
    errors = np.array([[1.0, 1.0, 1.0], [0.01, 0.01, 0.01]])
    found, left = balanced(forces, errors, positions)
    np.testing.assert_allclose(found[1], [0.0, 0.0, -1.0], atol=1e-3)
    np.testing.assert_allclose(found[0], -found[1], atol=1e-12)
    assert left[0, 2] == pytest.approx(0.01, rel=1e-3) and left[0, 0] < 1e-6
    alone, none = balanced(forces[:1], errors[:1], positions[:1])
    assert not alone.any() and not none.any()


def test_threads_share_walkers_and_change_nothing(monkeypatch) -> None:
    problem = small(molecule(["Li"], [[0, 0, 0]]))
    walkers = problem.start(24, torch.Generator().manual_seed(1)).double()

    def measure(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            rng = torch.Generator().manual_seed(2)
            width = torch.tensor(0.3).double()
            swept = problem.sweep(walkers, width, rng).walkers
            energy, gradient = problem.local_energies(walkers, rng)
            return [swept, energy, gradient, problem.scores(walkers)]
        finally:
            torch.set_num_threads(before)

    alone = measure(1)
    used: list[tuple[int, int]] = []

    def noted(part: Tensor) -> tuple[Tensor, ...]:
        used.append((threading.get_ident(), torch.get_num_threads()))
        return taken(part)

    taken = problem._measured
    monkeypatch.setattr(electrons, "SHARE", 1)
    monkeypatch.setattr(Electrons, "_measured", lambda self, part: noted(part))
    for found, wanted in zip(measure(2), alone, strict=True):
        assert not found.requires_grad
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    assert len(used) == 2
    assert {threads for _, threads in used} == {1}
    assert threading.get_ident() not in {thread for thread, _ in used}


def test_passes_of_all_threads_count_for_the_memory(tmp_path, monkeypatch) -> None:
    sampled = {"walkers": 100, "chunk": 16}
    asked: list[int] = []

    def noted(count: int, dim: int, walkers: int, chunk: int, *others: int) -> int:
        asked.append(chunk)
        return 0

    monkeypatch.setattr(vmc, "needed_bytes", noted)
    for threads in (1, 4, 8):
        monkeypatch.setattr(runtime, "threads", lambda count=threads: count)
        assemble(parse(helium(sampling=sampled)), tmp_path)
    assert asked == [16, 64, 100]


@pytest.mark.parametrize(
    ("shape", "form"), [([100_000], {}), ([1000], {"alpha": 32, "symmetric": False})]
)
def test_a_lattice_that_no_memory_holds_is_refused(tmp_path, shape, form) -> None:
    data = helium(
        system={"kind": "ising", "shape": shape}, wavefunction={"kind": "rbm", **form}
    )
    with pytest.raises(InputError, match=r"000 spins with 512 walkers need about .* GiB"):
        assemble(parse(data), tmp_path)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_parameters_of_a_machine_are_counted(symmetric: bool) -> None:
    form, square = RbmForm(alpha=3, symmetric=symmetric), lattice.Ising((3, 4))
    assert Flat(form.build(square)).size == form.parameter_count(square)
