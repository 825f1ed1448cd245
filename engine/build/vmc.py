"""Jobs of variational Monte Carlo: the only place that matches on its kinds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.wavefunctions.determinant import DeterminantNet
from .. import runtime
from ..errors import InputError
from ..protocols import Figure, Job, Outcome
from ..run import Observed, Simulation, every
from ..rundir import RunFolder
from ..schema.vmc import (
    AdamSection,
    DeepWfSection,
    DeterminantSection,
    EvaluationSection,
    OptimiserSection,
    PretrainingSection,
    SamplingSection,
    SlaterJastrowSection,
    SpringSection,
    VmcScenario,
)
from ..units import BOHR_ANGSTROM
from ..vmc.electrons import Electrons, needed_bytes
from ..vmc.evaluate import Density, Evaluation, can_have_forces, evaluate
from ..vmc.hamiltonian import Continuous, Molecule, Trap, molecule
from ..vmc.optimiser import Adam, Optimiser, Spring
from ..vmc.parameters import Flat
from ..vmc.pretrain import hartree_fock, pretrain
from ..vmc.statistics import extrapolate
from ..vmc.world import Problem, Vmc, VmcState

SIZES = {"small": (32, 16, 3, 8), "medium": (64, 32, 4, 16), "large": (256, 32, 4, 16)}
EVALUATION_STREAM = 1 << 40
"""Random stream of the frozen evaluation: far from those of the steps."""


def build(scenario: VmcScenario, base: Path) -> Job:
    """Return the job that optimises a wavefunction and then measures it.

    Raises:
        InputError: impossible charge or spin, coinciding nuclei, unknown elements, or more
            electrons than the memory holds.
    """
    del base
    _refuse_device(scenario.device)
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
        writers=(),
        report_every=10,
        checkpoint_every=scenario.checkpoint_every,
        headline=headline(problem.exact),
        finish=Finish(problem, scenario.evaluation, scenario.seed),
    )


def _refuse_device(device: str) -> None:
    if device != "cpu":
        raise InputError(f"device: vmc runs on cpu only, not on {device}")


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
    return electrons(
        make_hamiltonian(scenario),
        scenario.wavefunction,
        scenario.sampling,  # type: ignore
        scenario.precision,
        scenario.seed,
    )


def electrons(
    hamiltonian: Continuous,
    ansatz: DeterminantSection | SlaterJastrowSection | DeepWfSection,
    sampling: SamplingSection,
    precision: str,
    seed: int,
) -> Electrons:
    """Return a continuous problem.

    Raises:
        InputError: it needs more memory than the machine has.
    """
    module = make_ansatz(hamiltonian, ansatz, seed)
    flat = Flat(module.to(runtime.dtype_of(precision)))
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
        case kind:
            raise InputError(f"wavefunction: {kind} is unknown")


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
        and isinstance(problem.hamiltonian, Molecule)
        and isinstance(problem.psi, DeterminantNet)
    ):
        rng = runtime.generator(seed, 1 << 41)
        orbitals = hartree_fock(problem.hamiltonian, pretraining.basis)
        pretrain(
            problem, orbitals, problem.start(world.walkers, rng), pretraining.steps, rng
        )
    return world.init(runtime.generator(seed, 0))


def headline(exact: float | None) -> Callable[[Observed], Mapping[str, str]]:
    """Return the progress text: energy, and its distance from the exact one."""

    def text(observed: Observed) -> Mapping[str, str]:
        energy, error = float(observed["energy"]), float(observed["energy_error"])
        shown = {
            "E": f"{energy:.5f} +- {error:.5f}",
            "var": f"{float(observed['variance']):.3g}",
        }
        if exact is not None:
            shown["from exact"] = f"{1e3 * (energy - exact):+.2f} mHa"
        return shown

    return text


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
        _write(folder, "walkers", result.walkers, "bohr")
        if density is not None:
            _write(folder, "density", density.field(), "1/bohr^3")
        reseeded = int(state.reseeded) + result.reseeded
        figures = energy_figures(result, self.problem.exact) | {
            "acceptance": Figure(float(observed["acceptance"])),
            "parameters": Figure(float(self.problem.flat.size)),
            "reseeded_walkers": Figure(float(reseeded)),
        }
        return Outcome(figures, verdicts(result, self.problem.exact))


def energy_figures(result: Evaluation, exact: float | None) -> dict[str, Figure]:
    """Return energy, variance, correlation, and what else was measured."""
    figures = {
        "energy": Figure(result.energy, "hartree", result.error),
        "variance": Figure(result.variance, "hartree^2"),
        "autocorrelation": Figure(result.correlation, "sweeps"),
    }
    if exact is not None:
        error = 1e3 * (result.energy - exact)
        figures["exact_energy"] = Figure(exact, "hartree")
        figures["energy_error"] = Figure(error, "millihartree", 1e3 * result.error)
    if result.forces is not None:
        for name, estimate in (("force", result.forces),):
            for nucleus in range(len(estimate.value)):
                for axis, letter in enumerate("xyz"):
                    figures[f"{name}_{nucleus}_{letter}"] = Figure(
                        float(estimate.value[nucleus, axis]),
                        "hartree/bohr",
                        float(estimate.error[nucleus, axis]),
                    )
    if result.spin is not None:
        figures["spin_squared"] = Figure(float(result.spin), "", float(result.spin.error))
    return figures


def verdicts(result: Evaluation, exact: float | None) -> dict[str, str]:
    """Check the variational principle and that walkers stayed finite."""
    found = {"variational": "ok", "finite": "ok"}
    if exact is not None and result.energy < exact - 3 * result.error:
        below = (exact - result.energy) / result.error
        found["variational"] = f"the energy lies {below:.1f} sigma below the exact one"
    if result.reseeded:
        found["finite"] = f"{result.reseeded} walkers were not finite and were replaced"
    return found


def _write(folder: RunFolder, name: str, values: Tensor, unit: str) -> None:
    array = folder.store.create_array(name, data=values.numpy(), overwrite=True)
    array.attrs["unit"] = unit


__all__ = ["build", "every", "extrapolate"]
