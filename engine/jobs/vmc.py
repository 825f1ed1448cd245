"""Jobs of variational Monte Carlo: the only place that matches on its kinds."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.wavefunctions.deepwf import DeepWf
from ...models.wavefunctions.determinant import DeterminantNet
from ...models.wavefunctions.rbm import Rbm, SymmetricRbm
from ...models.wavefunctions.ritz import RitzNet
from .. import runtime
from ..errors import InputError, Interrupted
from ..protocols import Check, Figure, Job, Outcome, told
from ..ritz.solver import DeepRitz, Mixed, RitzState, Slit
from ..run import Observed, Reporter, Simulation, interruptible
from ..rundir import RunFolder
from ..schema.vmc import (
    AdamSection,
    DeepWfSection,
    DeterminantSection,
    EvaluationSection,
    HeisenbergSection,
    IsingSection,
    OptimiserSection,
    PointSection,
    PretrainingSection,
    RbmSection,
    RitzScenario,
    SamplingSection,
    SlaterJastrowSection,
    SpringSection,
    VmcScanScenario,
    VmcScenario,
)
from ..units import BOHR_ANGSTROM
from ..vmc.electrons import Electrons, needed_bytes
from ..vmc.evaluate import Density, Evaluation, can_have_forces, evaluate
from ..vmc.hamiltonian import Continuous, Molecule, Trap, molecule
from ..vmc.lattice import Heisenberg, Ising, Lattice, correlation
from ..vmc.optimiser import Adam, Optimiser, Spring
from ..vmc.parameters import Flat
from ..vmc.pretrain import pretrain, slater_jastrow, starting_orbitals
from ..vmc.solve import Solution, Solver
from ..vmc.spins import Spins
from ..vmc.statistics import extrapolate
from ..vmc.world import Problem, Vmc, VmcState

SIZES = {"small": (32, 16, 3, 8), "medium": (64, 32, 4, 16), "large": (256, 32, 4, 16)}
EVALUATION_STREAM = 1 << 40
"""Random stream of the frozen evaluation: far from those of the steps."""


def assemble(scenario: VmcScenario | VmcScanScenario | RitzScenario, base: Path) -> Job:
    """Return the job of one of the three kinds of scenario.

    Raises:
        InputError: impossible charge or spin, coinciding nuclei, unknown elements, or more
            electrons than the memory holds.
    """
    del base
    if scenario.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is not available here; allowed: cpu")
    # The matrices are tiny: a second thread costs, on a busy machine a factor of eight.
    torch.set_num_threads(1)
    match scenario:
        case VmcScenario():
            return _ground_state(scenario)
        case VmcScanScenario():
            return _scan(scenario)
        case RitzScenario():
            return _deep_ritz(scenario)


def _ground_state(scenario: VmcScenario) -> Job:
    problem = make_problem(scenario)
    world = Vmc(
        problem,
        make_optimiser(scenario.optimiser),
        scenario.sampling.walkers,
        scenario.seed,
        scenario.sampling.burn_in,
    )
    return Simulation(
        world=world,
        initial=lambda: prepared(world, scenario.pretraining, scenario.seed),
        steps=scenario.iterations,
        time_step=1.0,
        report_every=1,
        checkpoint_every=scenario.checkpoint_every,
        headline=headline(problem),
        finish=Finish(problem, scenario.evaluation, scenario.seed),
    )


def _deep_ritz(scenario: RitzScenario) -> Job:
    equation = Slit() if scenario.problem == "slit" else Mixed(scenario.dim)
    net = RitzNet(scenario.dim, scenario.width, scenario.blocks, scenario.seed)
    flat = Flat(net.to(scenario.device, runtime.dtype_of(scenario.precision)))
    world = DeepRitz(
        equation,
        flat,
        scenario.points,
        scenario.penalty,
        scenario.rate,
        scenario.decay,
        scenario.damping,
        seed=scenario.seed,
    )

    def finish(folder: RunFolder, state: RitzState, observed: Observed) -> Outcome:
        points, exact = equation.reference()
        found = world.solution(state, points)
        _write_solution(folder, points, found, exact)
        error = float((found - exact).norm() / exact.norm())
        return Outcome(
            {
                "relative_error": Figure(error),
                "boundary_violation": Figure(float(observed["boundary"]) ** 0.5),
                "functional": Figure(float(observed["energy"])),
            },
            [
                Check(
                    "reference",
                    "accuracy",
                    error,
                    0.05,
                    note="relative error",
                )
            ],
        )

    return Simulation(
        world=world,
        initial=lambda: world.init(runtime.generator(scenario.seed)),
        steps=scenario.iterations,
        time_step=1.0,
        report_every=max(scenario.iterations // 50, 1),
        checkpoint_every=max(scenario.iterations // 4, 1),
        headline=lambda observed: {"I(u)": f"{float(observed['energy']):.5f}"},
        finish=finish,
    )


def _scan(scenario: VmcScanScenario) -> Job:
    def make(molecule: Molecule) -> Electrons:
        return electrons(
            molecule,
            scenario.wavefunction,
            scenario.sampling,
            scenario.precision,
            scenario.seed,
            scenario.device,
        )

    solver = Solver(
        make,
        make_optimiser(scenario.optimiser),
        scenario.sampling.walkers,
        scenario.seed,
        scenario.first_iterations,
        scenario.iterations,
        scenario.pretraining.steps,
        scenario.pretraining.basis,
        scenario.evaluation.sweeps,
        scenario.evaluation.forces,
        scenario.sampling.burn_in,
    )
    molecules = [
        molecule(scenario.symbols, point.positions, scenario.charge, scenario.spin)
        for point in scenario.points
    ]
    make(molecules[0])
    return Scan(solver, molecules, scenario.points, scenario.axis)


def make_hamiltonian(scenario: VmcScenario) -> Continuous:
    """Return the continuous Hamiltonian of a scenario."""
    system = scenario.system
    match system.kind:
        case "molecule":
            scale = 1 / BOHR_ANGSTROM if system.unit == "angstrom" else 1.0
            positions = torch.tensor(system.positions, dtype=torch.float64) * scale
            return molecule(system.symbols, positions, system.charge, system.spin)
        case "trap":
            return Trap(
                system.omega,
                system.up,
                system.down,
                system.repulsion,
                system.bosons,
                system.dim,
            )
        case kind:
            raise InputError(f"system: {kind} is no continuous system")


def make_problem(scenario: VmcScenario) -> Problem:
    """Return Hamiltonian and wavefunction of a scenario."""
    system, ansatz, sampling = scenario.system, scenario.wavefunction, scenario.sampling
    if not isinstance(ansatz, RbmSection):
        hamiltonian = make_hamiltonian(scenario)
        return electrons(
            hamiltonian,
            ansatz,
            sampling,
            scenario.precision,
            scenario.seed,
            scenario.device,
        )
    match system:
        case IsingSection():
            lattice = Ising(tuple(system.shape), system.field, system.coupling)
        case HeisenbergSection():
            lattice = Heisenberg(tuple(system.shape))
        case _:
            raise InputError(f"system: {system.kind} is no lattice")
    _ = lattice.bonds  # refuses sides that are too short
    if ansatz.symmetric:
        module: nn.Module = SymmetricRbm(lattice.shape, ansatz.alpha, scenario.seed)
    else:
        module = Rbm(lattice.sites, ansatz.alpha, scenario.seed)
    flat = Flat(module.to(scenario.device, runtime.dtype_of(scenario.precision)))
    return Spins(lattice, flat, sampling.moves, max(sampling.chunk, 1))


def trained_wavefunction(folder: Path) -> Electrons:
    """Return the problem of a finished run of kind ``vmc`` with its averaged parameters.

    Raises:
        InputError: not such a run, or it holds no checkpoint.
        DamagedFileError: the checkpoint does not match its hash.
    """
    from ..scenario import parse

    with RunFolder.open(folder) as opened:
        scenario = parse(opened.resolved["scenario"], str(folder / "resolved.json"))
        checkpoint = opened.load_checkpoint()
    if not isinstance(scenario, VmcScenario) or checkpoint is None:
        raise InputError(f"{folder}: no run of kind vmc with a checkpoint")
    problem = make_problem(scenario)
    if not isinstance(problem, Electrons):
        raise InputError(f"{folder}: only electrons are audited, not spins on a lattice")
    problem.flat.load(checkpoint.tensors["state/average"])
    return problem


def electrons(
    hamiltonian: Continuous,
    ansatz: DeterminantSection | SlaterJastrowSection | DeepWfSection,
    sampling: SamplingSection,
    precision: str,
    seed: int,
    device: str = "cpu",
) -> Electrons:
    """Return a continuous problem.

    Raises:
        InputError: it needs more memory than the machine has.
    """
    module = make_ansatz(hamiltonian, ansatz, seed)
    flat = Flat(module.to(device, runtime.dtype_of(precision)))
    wide, dets = getattr(ansatz, "width", 8), getattr(ansatz, "determinants", 1)
    needed = needed_bytes(
        hamiltonian.electrons,
        hamiltonian.dim,
        sampling.walkers,
        sampling.chunk,
        flat.size,
        wide,
        dets,
        flat.vector.element_size(),
    )
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise InputError(
            f"system: {hamiltonian.electrons} electrons with {sampling.walkers} walkers "
            f"need about {needed / 2**30:.1f} GiB, this machine has {present / 2**30:.1f}; "
            "lower sampling.walkers or sampling.chunk"
        )
    return Electrons(
        hamiltonian, flat, sampling.moves, sampling.exchange, chunk=sampling.chunk
    )


def make_ansatz(
    hamiltonian: Continuous,
    ansatz: DeterminantSection | SlaterJastrowSection | DeepWfSection,
    seed: int,
) -> nn.Module:
    """Return the wavefunction of a continuous Hamiltonian."""
    trap = isinstance(hamiltonian, Trap)
    repel = not (trap and hamiltonian.repulsion == 0)
    strength = hamiltonian.repulsion if trap else 1.0
    cusps = (0.5 * strength, 0.25 * strength) if repel else None
    match ansatz.kind:
        case "determinant":
            width, pair_width, layers, determinants = (
                SIZES[ansatz.size]
                if ansatz.size
                else (ansatz.width, ansatz.pair_width, ansatz.layers, ansatz.determinants)
            )
            return DeterminantNet(
                hamiltonian.positions,
                hamiltonian.charges,
                hamiltonian.up,
                hamiltonian.down,
                width,
                pair_width,
                layers,
                determinants,
                "gaussian" if trap else "exponential",
                cusps,
                seed,
            )
        case "deepwf":
            if trap and hamiltonian.bosons and cusps:
                cusps = (cusps[0], cusps[0])
            return DeepWf(
                hamiltonian.positions,
                hamiltonian.charges,
                hamiltonian.up,
                hamiltonian.down,
                ansatz.width,
                ansatz.pair_width,
                ansatz.layers,
                "gaussian" if trap else "exponential",
                cusps,
                trap and hamiltonian.bosons,
                seed,
            )
        case "slater_jastrow":
            assert isinstance(hamiltonian, Molecule)
            return slater_jastrow(hamiltonian, ansatz.basis, seed)


def make_optimiser(section: OptimiserSection) -> Optimiser:
    """Return the optimiser of a scenario."""
    match section:
        case SpringSection():
            return Spring(
                section.rate,
                section.momentum,
                section.ramp,
                section.damping,
                section.max_norm,
                section.decay,
                section.clip,
            )
        case AdamSection():
            return Adam(section.rate, clip=section.clip)


def prepared(world: Vmc, pretraining: PretrainingSection, seed: int) -> VmcState:
    """Return the first state, after pretraining where that is possible."""
    problem = world.problem
    if (
        pretraining.steps
        and isinstance(problem, Electrons)
        and isinstance(problem.psi, DeterminantNet)
    ):
        rng = runtime.generator(seed, 1 << 41)
        orbitals = starting_orbitals(problem.hamiltonian, pretraining.basis)
        pretrain(
            problem, orbitals, problem.start(world.walkers, rng), pretraining.steps, rng
        )
    return world.init(runtime.generator(seed, 0))


def headline(problem: Problem) -> Callable[[Observed], Mapping[str, str]]:
    """Return the progress text: energy, and its distance from the exact one."""
    exact = problem.exact

    def text(observed: Observed) -> Mapping[str, str]:
        energy, error = float(observed["energy"]), float(observed["energy_error"])
        shown = {
            "E": f"{energy:.5f} +- {error:.5f}",
            "var": f"{float(observed['variance']):.3g}",
        }
        if exact is not None and problem.unit == "hartree":
            shown["from exact"] = f"{1e3 * (energy - exact):+.2f} mHa"
        elif exact is not None:
            shown["from exact"] = f"{(energy - exact) / abs(exact):+.1e}"
        return shown

    return text


def _write_solution(
    folder: RunFolder, points: Tensor, found: Tensor, exact: Tensor
) -> None:
    """Write maps over the plane, or in more dimensions the pairs of values."""
    group = folder.store.require_group("solution")
    group.attrs["title"] = "Solution"
    columns = {"solution": found, "solution_reference": exact}
    axis = points[:, 0].unique()
    if points.shape[1] == 2 and len(axis) ** 2 == len(points):
        columns = {"solution": found, "error": found - exact}
        columns = {name: values.view(len(axis), -1) for name, values in columns.items()}
        columns |= {"x": axis, "y": points[:, 1].unique()}
    else:
        group.attrs["plot"] = "parity"
    for name, values in columns.items():
        group.create_array(name, data=values.cpu().numpy(), overwrite=True)


@dataclass(frozen=True)
class Finish:
    """The frozen evaluation at the end of a run: figures, verdicts, arrays."""

    problem: Problem
    section: EvaluationSection
    seed: int

    def __call__(self, folder: RunFolder, state: VmcState, observed: Observed) -> Outcome:
        """Measure with the averaged parameters and write the arrays of the report."""
        self.problem.flat.load(state.average)
        density = None
        if self.section.density and isinstance(self.problem, Electrons):
            density = Density(self.problem, self.section.density)
        result = evaluate(
            self.problem,
            state.walkers,
            state.width,
            runtime.generator(self.seed, EVALUATION_STREAM),
            self.section.sweeps,
            self.section.forces and can_have_forces(self.problem),
            self.section.spin,
            density or (lambda walkers: None),
        )
        units = {"variance": f"{self.problem.unit}^2", "width": "bohr"}
        if isinstance(self.problem, Spins):
            del units["width"]
            _write_correlation(folder, self.problem.lattice, result.walkers)
        else:
            _write(folder, "walkers", result.walkers, "bohr")
        folder.store.attrs["observable_units"] = units
        if density is not None:
            field = density.field()
            box = {"low": density.low.tolist(), "high": density.high.tolist()}
            _write(folder, "density", field, f"1/bohr^{field.dim()}", **box)
        reseeded = int(state.reseeded) + result.reseeded
        figures = energy_figures(result, self.problem) | {
            "acceptance": Figure(float(observed["acceptance"])),
            "parameters": Figure(float(self.problem.flat.size)),
            "reseeded_walkers": Figure(float(reseeded)),
        }
        figures |= _extrapolated(folder, self.problem.unit)
        return Outcome(figures, told(verdicts(result, self.problem.exact)))


def _write_correlation(folder: RunFolder, lattice: Lattice, spins: Tensor) -> None:
    """Write ``<s_i s_(i+r)>`` beside the exact one, where that is known."""
    found, error = correlation(spins, lattice.shape)
    group = folder.store.require_group("correlation")
    columns = {"r": torch.arange(1, len(found) + 1), "spins": found, "spins_error": error}
    if lattice.exact_correlation is not None:
        columns["spins_exact"] = torch.tensor(lattice.exact_correlation)
    for name, values in columns.items():
        group.create_array(name, data=values.cpu().numpy(), overwrite=True)
    group["r"].attrs["long_name"] = "distance along the first axis, in sites"
    group["spins"].attrs["long_name"] = "correlation of two spins"
    group.attrs["title"] = "Correlation of two spins over their distance"


def _extrapolated(folder: RunFolder, unit: str) -> dict[str, Figure]:
    """Return the energy at variance zero from the course of the optimisation."""
    path = folder.path / "events.jsonl"
    if not path.exists():
        return {}
    with open(path, encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    course = [(e["energy"], e["variance"]) for e in events if "variance" in e]
    if not course:
        return {}
    energy, variance = torch.tensor(course, dtype=torch.float64).T
    found = extrapolate(energy, variance)
    if found is None:
        return {}
    note = "line through energy and variance of the optimisation, at no variance; no bound"
    return {"energy_extrapolated": Figure(found.energy, unit, found.error, note)}


def energy_figures(result: Evaluation, problem: Problem) -> dict[str, Figure]:
    """Return energy, variance, correlation, and what else was measured."""
    unit, exact = problem.unit, problem.exact
    figures = {
        "energy": Figure(result.energy, unit, result.error),
        "variance": Figure(result.variance, unit and f"{unit}^2"),
        "autocorrelation": Figure(result.correlation, "sweeps"),
    }
    if exact is not None:
        off, sigma = result.energy - exact, result.error
        figures["exact_energy"] = Figure(exact, unit)
        figures["energy_error"] = (
            Figure(1e3 * off, "millihartree", 1e3 * sigma)
            if unit == "hartree"
            else Figure(off / abs(exact), "of the exact energy", sigma / abs(exact))
        )
    if result.forces is not None:
        for nucleus in range(len(result.forces.value)):
            for axis, letter in enumerate("xyz"):
                figures[f"force_{nucleus}_{letter}"] = Figure(
                    float(result.forces.value[nucleus, axis]),
                    "hartree/bohr",
                    float(result.forces.error[nucleus, axis]),
                )
    if result.spin is not None:
        figures["spin_squared"] = Figure(float(result.spin), "", float(result.spin.error))
    return figures


def verdicts(result: Evaluation, exact: float | None) -> dict[str, str]:
    """Check that walkers stayed finite and, where the exact energy is known, the bound."""
    found = {"finite": "ok"} if exact is None else {"variational": "ok", "finite": "ok"}
    if exact is not None and result.energy < exact - 3 * result.error:
        below = (exact - result.energy) / result.error
        found["variational"] = f"the energy lies {below:.1f} sigma below the exact one"
    if result.reseeded:
        found["finite"] = f"{result.reseeded} walkers were not finite and were replaced"
    return found


def _write(
    folder: RunFolder, name: str, values: Tensor, unit: str, **attributes: list[float]
) -> None:
    array = folder.store.create_array(name, data=values.cpu().numpy(), overwrite=True)
    array.attrs.update({"unit": unit, **attributes})


@dataclass(frozen=True)
class Scan:
    """A job that solves geometries in order and keeps a checkpoint after each.

    Attributes:
        solver: how one is solved.
        molecules: the geometries.
        points: their coordinates and reference energies.
        axis: what the coordinate is.
    """

    solver: Solver
    molecules: Sequence[Molecule]
    points: Sequence[PointSection]
    axis: str

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Solve all geometries that the newest checkpoint does not hold.

        Raises:
            Interrupted: asked to stop; the geometries solved so far are kept.
        """
        known, energies = self._restored(folder)
        with interruptible() as asked:
            for number in range(len(known), len(self.points)):
                solution, result = self.solver.solve(
                    self.molecules[number], known, self._progress(number, report)
                )
                known.append(solution)
                row = [result.energy, result.error, result.variance]
                energies = torch.cat([energies, torch.tensor([row]).double()])
                folder.log(
                    point=number,
                    coordinate=self.points[number].coordinate,
                    energy=result.energy,
                    error=result.error,
                    variance=result.variance,
                )
                self._save(folder, known, energies)
                if asked.is_set() and number + 1 < len(self.points):
                    raise Interrupted(
                        f"stopped after {number + 1} geometries; "
                        f"engine resume {folder.path}"
                    )
        return self._outcome(folder, energies)

    def _progress(
        self, number: int, report: Reporter
    ) -> Callable[[int, int, VmcState], None]:
        def show(step: int, steps: int, state: VmcState) -> None:
            done = (number + step / steps) * 1000
            text = {
                self.axis: f"{self.points[number].coordinate:g}",
                "E": f"{float(state.energy):.5f}",
            }
            report.progress(int(done), 1000 * len(self.points), text)

        return show

    def _save(self, folder: RunFolder, known: Sequence[Solution], energies: Tensor) -> None:
        tensors = {"energies": energies}
        for number, solution in enumerate(known):
            tensors[f"{number}/parameters"] = solution.parameters
            tensors[f"{number}/walkers"] = solution.walkers
            tensors[f"{number}/width"] = solution.width
        folder.save_checkpoint(len(known), tensors)

    def _restored(self, folder: RunFolder) -> tuple[list[Solution], Tensor]:
        checkpoint = folder.load_checkpoint()
        if checkpoint is None:
            return [], torch.zeros(0, 3, dtype=torch.float64)
        stored = checkpoint.tensors
        known = [
            Solution(
                self.molecules[number],
                stored[f"{number}/parameters"],
                stored[f"{number}/walkers"],
                stored[f"{number}/width"],
            )
            for number in range(checkpoint.step)
        ]
        return known, stored["energies"]

    def _write_curve(
        self, folder: RunFolder, coordinate: Tensor, columns: Mapping[str, Tensor]
    ) -> None:
        """Write the energies in the order of their coordinate, with its name."""
        group, order = folder.store.require_group("energies"), coordinate.argsort()
        group.attrs["title"] = "Energy along the curve"
        array = group.create_array("at", data=coordinate[order].numpy(), overwrite=True)
        array.attrs["long_name"] = self.axis
        for name, values in columns.items():
            if not bool(values.isfinite().any()):
                continue
            array = group.create_array(name, data=values[order].numpy(), overwrite=True)
            array.attrs.update({"unit": "hartree", "axes": ["at"]})

    def _outcome(self, folder: RunFolder, energies: Tensor) -> Outcome:
        coordinate = torch.tensor([p.coordinate for p in self.points]).double()
        missing = float("nan")
        reference = torch.tensor([p.reference or missing for p in self.points]).double()
        coupled = torch.tensor([p.ccsd_t or missing for p in self.points]).double()
        columns = {
            "energy": energies[:, 0],
            "energy_error": energies[:, 1],
            "energy_reference": reference,
            "ccsd_t": coupled,
        }
        self._write_curve(folder, coordinate, columns)
        figures, found = {}, {}
        for point, (energy, error, _) in zip(self.points, energies.tolist(), strict=True):
            name = f"energy_at_{point.coordinate:g}"
            figures[name] = Figure(energy, "hartree", error)
        wrong = 1e3 * (energies[:, 0] - reference)
        if bool(wrong.isfinite().any()):
            worst = float(wrong[wrong.isfinite()].abs().max())
            figures["largest_error"] = Figure(worst, "millihartree")
            found["variational"] = "ok"
            below = float((-wrong / (1e3 * energies[:, 1]))[wrong.isfinite()].max())
            if below > 3:
                found["variational"] = (
                    f"an energy lies {below:.1f} sigma below the reference"
                )
        other = 1e3 * (coupled - reference)
        if bool(other.isfinite().any()):
            figures["largest_error_ccsd_t"] = Figure(
                float(other[other.isfinite()].abs().max()), "millihartree"
            )
        return Outcome(figures, told(found))
