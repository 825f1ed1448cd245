"""What a finished run of variational Monte Carlo leaves: figures, checks, arrays."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import runtime
from ..comparison import worst
from ..protocols import Check, Figure, Outcome
from ..run import Observed
from ..rundir import RunFolder, write_array
from .electron_gas import ElectronGas
from .electrons import Electrons
from .evaluate import Density, Evaluation, PairCorrelation, can_have_forces, evaluate
from .excited import Lifted
from .hartree_fock import BASIS
from .lattice import Lattice, correlation
from .solve import EVALUATION_STREAM
from .spins import Spins
from .statistics import Extrapolation, drift, extrapolate
from .verdicts import accuracy_checks
from .world import Problem, VmcState

BELOW = 3.0
"""Standard errors by which an energy may lie below the exact one."""
SIGMAS = 3.0
"""Standard errors that are added to every other bound."""
START = 5.0
"""Millihartree by which a run may start above Hartree-Fock."""
DRIFT = 5.0
"""Standard errors between the first and the last third of a frozen evaluation."""
OVERLAP = 0.01
"""Squared overlap of an excited state with a lower one that still counts as none."""
LENGTHS = 3.0
"""Autocorrelation times that a frozen evaluation must last."""


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


@dataclass(frozen=True)
class Reference:
    """An energy that any converged run must lie below.

    Attributes:
        energy: hartree.
        method: what it is of.
        begins: whether the wavefunction begins there.
    """

    energy: float
    method: str
    begins: bool = True


@dataclass(frozen=True)
class Finish:
    """The frozen evaluation at the end of a run: figures, checks, arrays."""

    problem: Problem
    seed: int
    sweeps: int
    forces: bool
    spin: bool
    density: int
    """Cells along each axis of the density grid; 0 for none."""
    tolerance: float = 1.6
    """Error that counts as converged: millihartree, or thousandths of the energy."""
    reference: Reference | None = None
    """Hartree-Fock of a molecule."""
    basis: str = BASIS
    """In which it is."""

    def __call__(self, folder: RunFolder, state: VmcState, observed: Observed) -> Outcome:
        """Measure with the averaged parameters and write the arrays of the report."""
        problem, density = self.problem.at(state.average), None
        hamiltonian = getattr(problem, "hamiltonian", None)
        if isinstance(hamiltonian, ElectronGas):
            density = PairCorrelation(hamiltonian)
        elif self.density and isinstance(problem, Electrons):
            density = Density(problem, self.density)
        result = evaluate(
            problem,
            state.walkers,
            state.width,
            runtime.generator(self.seed, EVALUATION_STREAM, state.walkers.device),
            self.sweeps,
            self.forces and can_have_forces(problem),
            self.spin,
            density or (lambda walkers: None),
        )
        units = {"variance": problem.unit and f"{problem.unit}^2", "width": "bohr"}
        if isinstance(problem, Spins):
            del units["width"]
            _write_correlation(folder, problem.lattice, result.walkers)
        else:
            axes = ("walker", "electron", "axis")
            assert isinstance(problem, Electrons)
            period, walkers, box = problem.hamiltonian.period, result.walkers, {}
            if period is not None:
                walkers, box = walkers % period, {"low": [0.0] * 3, "high": [period] * 3}
            write_array(folder.store, "walkers", walkers, "bohr", "", axes, **box)
        folder.store.attrs["observable_units"] = units
        if isinstance(density, PairCorrelation):
            _write_pairs(folder, density)
        elif density is not None:
            field = density.field()
            write_array(
                folder.store, "density", field, f"1/bohr^{field.dim()}",
                low=density.low.tolist(), high=density.high.tolist(),
            )  # fmt: skip
        reseeded = int(state.reseeded) + result.reseeded
        figures = energy_figures(result, problem) | {
            "acceptance": Figure(float(observed["acceptance"])),
            "parameters": Figure(float(problem.flat.size)),
            "reseeded_walkers": Figure(float(reseeded)),
        }
        course = _course(folder)
        line = extrapolate(course[:, 0], course[:, 1]) if len(course) else None
        made = [*checks(result, problem.exact), *equilibrium(result)]
        made += accuracy_checks(problem, result, course[:, 0].tolist(), self.basis)
        if self.reference is not None:
            figures |= against(self.reference, state.start)
            made += started(self.reference, state.start)
        if isinstance(problem, Lifted):
            where = result.walkers.device
            rng = runtime.generator(self.seed, EVALUATION_STREAM + 1, where)
            found = problem.overlaps(result.walkers, rng).tolist()
            figures |= {f"overlap_{k}": Figure(s) for k, s in enumerate(found)}
            made.append(orthogonal(worst(found)))
        if line is not None:
            scale = 1.0 if problem.unit == "hartree" else abs(result.energy)
            allowed = 1e-3 * self.tolerance * scale
            made.append(extrapolated(result, line, allowed, problem.unit))
            note = "line through energy and variance of the optimisation, at no variance"
            figures["energy_extrapolated"] = Figure(
                line.energy, problem.unit, line.error, f"{note}; no bound"
            )
        return Outcome(figures, made)


def _write_correlation(folder: RunFolder, lattice: Lattice, spins: Tensor) -> None:
    """Write ``<s_i s_(i+r)>``, and the exact one where that is known."""
    found, error = correlation(spins, lattice.shape)
    group = folder.store.require_group("correlation")
    columns = {"r": torch.arange(1, len(found) + 1), "spins": found, "spins_error": error}
    if lattice.exact_correlation is not None:
        columns["spins_exact"] = torch.tensor(lattice.exact_correlation)
    words = {
        "r": "distance along the first axis, in sites",
        "spins": "correlation of two spins",
    }
    for name, values in columns.items():
        write_array(group, name, values, "", words.get(name, ""), ["r"])
    group.attrs["title"] = "Correlation of two spins over their distance"


def _write_pairs(folder: RunFolder, pairs: PairCorrelation) -> None:
    """Write ``g(r)`` of equal and of opposite spins."""
    group = folder.store.require_group("pairs")
    words = {"r": "distance of two electrons"}
    for name, values in pairs.columns().items():
        unit = "bohr" if name == "r" else ""
        write_array(group, name, values, unit, words.get(name, ""), ["r"])
    group.attrs["title"] = "Pair correlation of electrons with equal and opposite spins"


def _course(folder: RunFolder) -> Tensor:
    """Return energy and variance of every step of the optimisation, ``[steps, 2]``."""
    path = folder.path / "events.jsonl"
    if not path.exists():
        return torch.zeros(0, 2)
    with open(path, encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    rows = [(e["energy"], e["variance"]) for e in events if "variance" in e]
    return torch.tensor(rows, dtype=torch.float64).view(-1, 2)


def against(reference: Reference, start: Tensor) -> dict[str, Figure]:
    """Return the reference, and how far above it the run started."""
    energy, error = start.tolist()
    note = f"before the first step, above {reference.method}"
    return {
        "hartree_fock_energy": Figure(reference.energy, "hartree", note=reference.method),
        "start_above_hf_mha": Figure(
            1e3 * (energy - reference.energy), "millihartree", 1e3 * error, note
        ),
    }


def started(reference: Reference, start: Tensor) -> list[Check]:
    """Check that a run which begins at Hartree-Fock does so, where that was measured."""
    first, error = (1e3 * start).tolist()
    if math.isnan(first) or not reference.begins:
        return []
    note = f"the energy before the first step, above {reference.method}"
    above, bound = first - 1e3 * reference.energy, START + SIGMAS * error
    return [Check("start", "accuracy", above, bound, unit="millihartree", note=note)]


def equilibrium(result: Evaluation) -> list[Check]:
    """Check that the walkers of the frozen evaluation were in equilibrium."""
    note = "the last third of the frozen evaluation against the first"
    moved = abs(drift(result.samples))
    lengths = len(result.series) / result.correlation
    long = "length of the frozen evaluation in autocorrelation times"
    return [
        Check("equilibration", "health", moved, DRIFT, unit="sigma", note=note),
        Check("autocorrelation", "health", lengths, LENGTHS, at_least=True, note=long),
    ]


def extrapolated(
    result: Evaluation, line: Extrapolation, tolerance: float, unit: str
) -> Check:
    """Check the energy against that at no variance, on the line of the optimisation."""
    note = "not converged: the energy above that at no variance"
    bound = tolerance + SIGMAS * math.hypot(result.error, line.error)
    above = result.energy - line.energy
    return Check("variance", "accuracy", above, bound, unit=unit, note=note)


def orthogonal(overlap: float) -> Check:
    """Check that an excited state is none of those below it."""
    note = (
        "largest squared overlap with a lower state; a larger excited.penalty or more "
        "iterations lower it"
    )
    return Check("orthogonal", "accuracy", overlap, OVERLAP, note=note)


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


def checks(result: Evaluation, exact: float | None) -> list[Check]:
    """Check that walkers stayed finite and, where the exact energy is known, the bound."""
    note = "walkers that were not finite and were replaced"
    finite = Check("finite", "health", result.reseeded, 0, note=note)
    if exact is None:
        return [finite]
    return [not_below((exact - result.energy) / max(result.error, 1e-300)), finite]


def not_below(sigmas: float) -> Check:
    """Check that no energy lies below its lower bound by more than chance allows."""
    note = "the lowest energy below the exact one"
    return Check("variational", "accuracy", sigmas, BELOW, unit="sigma", note=note)


__all__ = ["BELOW", "Finish", "checks", "energy_figures", "headline", "not_below"]
