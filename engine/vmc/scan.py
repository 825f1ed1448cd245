"""A molecule along a path of geometries, each solved from the nearest one known."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import Interrupted
from ..protocols import Check, Figure, Outcome
from ..run import Reporter, interruptible
from ..rundir import RunFolder, write_array
from .differences import OVERLAP
from .hamiltonian import Molecule
from .hartree_fock import BASIS
from .results import not_below
from .solve import Solution, Solver, nearest
from .verdicts import CHEMICAL, below_mean_field, lowest_mean_field, near_exact
from .world import VmcState


@dataclass(frozen=True)
class Scan:
    """A job that solves geometries in order and keeps a checkpoint after each.

    Attributes:
        solver: how one is solved.
        molecules: the geometries.
        coordinates: of each.
        axis: what the coordinate is.
        references: exact energies in hartree; NaN where none is known.
        ccsd_t: coupled-cluster energies, in the same way.
        differences: whether each further geometry is also measured against the nearest
            one before it.
        basis: of Hartree-Fock, below which every energy must lie.
    """

    solver: Solver
    molecules: Sequence[Molecule]
    coordinates: Sequence[float]
    axis: str
    references: Sequence[float]
    ccsd_t: Sequence[float]
    differences: bool = False
    basis: str = BASIS

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Solve all geometries that the newest checkpoint does not hold.

        Raises:
            Interrupted: asked to stop; the geometries solved so far are kept.
        """
        known, energies, steps = self._restored(folder)
        with interruptible() as asked:
            for number in range(len(known), len(self.molecules)):
                solution, result = self.solver.solve(
                    self.molecules[number], known, self._progress(number, report)
                )
                steps += self.steps(solution, known)
                known.append(solution)
                row = [result.energy, result.error, result.variance]
                energies = torch.cat([energies, torch.tensor([row]).double()])
                folder.log(
                    point=number,
                    coordinate=self.coordinates[number],
                    energy=result.energy,
                    error=result.error,
                    variance=result.variance,
                )
                self._save(folder, known, energies, steps)
                if asked.is_set() and number + 1 < len(self.molecules):
                    raise Interrupted(
                        f"stopped after {number + 1} geometries; "
                        f"engine resume {folder.path}"
                    )
        return self.outcome(folder, energies, steps)

    def steps(self, solution: Solution, known: Sequence[Solution]) -> list[list[float]]:
        """Return rows of the point before, difference, error, overlap, if asked for.

        Args:
            solution: the geometry just solved.
            known: those before it.
        """
        before = nearest(solution.molecule, known)
        if before is None or not self.differences:
            return []
        found = self.solver.difference(before, solution)
        place = next(k for k, each in enumerate(known) if each is before)
        return [[place, found.value, found.error, found.overlap]]

    def _progress(
        self, number: int, report: Reporter
    ) -> Callable[[int, int, VmcState], None]:
        def show(step: int, steps: int, state: VmcState) -> None:
            done = (number + step / steps) * 1000
            text = {
                self.axis: f"{self.coordinates[number]:g}",
                "E": f"{float(state.energy):.5f}",
            }
            report.progress(int(done), 1000 * len(self.molecules), text)

        return show

    def _save(
        self,
        folder: RunFolder,
        known: Sequence[Solution],
        energies: Tensor,
        steps: Sequence[Sequence[float]],
    ) -> None:
        tensors = {"energies": energies}
        tensors["steps"] = torch.tensor(steps, dtype=torch.float64).view(-1, 4)
        for number, solution in enumerate(known):
            tensors[f"{number}/parameters"] = solution.parameters
            tensors[f"{number}/walkers"] = solution.walkers
            tensors[f"{number}/width"] = solution.width
        folder.save_checkpoint(len(known), tensors)

    def _restored(
        self, folder: RunFolder
    ) -> tuple[list[Solution], Tensor, list[list[float]]]:
        checkpoint = folder.load_checkpoint()
        if checkpoint is None:
            return [], torch.zeros(0, 3, dtype=torch.float64), []
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
        return known, stored["energies"], stored["steps"].tolist()

    def _write_curve(
        self, folder: RunFolder, coordinate: Tensor, columns: Mapping[str, Tensor]
    ) -> None:
        """Write the energies in the order of their coordinate, with its name."""
        group, order = folder.store.require_group("energies"), coordinate.argsort()
        group.attrs["title"] = "Energy along the curve"
        write_array(group, "at", coordinate[order], "", self.axis, ["at"])
        for name, values in columns.items():
            if bool(values.isfinite().any()):
                write_array(
                    group, name, values[order], "hartree", dimensions=["at"], axes=["at"]
                )

    def outcome(
        self, folder: RunFolder, energies: Tensor, steps: Sequence[Sequence[float]]
    ) -> Outcome:
        """Write the curve; return its figures and checks.

        Args:
            folder: of the run.
            energies: ``[geometries, 3]`` energy, error and variance.
            steps: of each but the first, where asked for (:meth:`steps`).
        """
        coordinate = torch.tensor(self.coordinates).double()
        reference = torch.tensor(self.references).double()
        coupled = torch.tensor(self.ccsd_t).double()
        columns = {
            "energy": energies[:, 0],
            "energy_error": energies[:, 1],
            "energy_reference": reference,
            "ccsd_t": coupled,
        }
        self._write_curve(folder, coordinate, columns)
        figures, found = {}, []
        for at, (energy, error, _) in zip(self.coordinates, energies.tolist(), strict=True):
            name = f"energy_at_{at:g}"
            figures[name] = Figure(energy, "hartree", error)
        for at, (before, above, error, overlap) in zip(
            self.coordinates[1:], steps, strict=False
        ):
            name = f"energy_at_{at:g}_above_{self.coordinates[int(before)]:g}"
            if overlap >= OVERLAP:
                figures[name] = Figure(1e3 * above, "millihartree", 1e3 * error)
        if steps:
            found.append(_overlapping(min(row[3] for row in steps)))
        wrong = 1e3 * (energies[:, 0] - reference)
        if bool(wrong.isfinite().any()):
            worst = float(wrong[wrong.isfinite()].abs().max())
            figures["largest_error"] = Figure(worst, "millihartree")
            below = -wrong / (1e3 * energies[:, 1])
            found.append(not_below(float(below[wrong.isfinite()].max())))
        found += self._accuracy(energies)
        other = 1e3 * (coupled - reference)
        if bool(other.isfinite().any()):
            figures["largest_error_ccsd_t"] = Figure(
                float(other[other.isfinite()].abs().max()), "millihartree"
            )
        return Outcome(figures, found)

    def _accuracy(self, energies: Tensor) -> Iterator[Check]:
        """Yield the checks of a single run at the geometry that keeps them worst."""
        exact, above = [], []
        for number, (energy, error, _) in enumerate(energies.tolist()):
            at = f", at {self.coordinates[number]:g}"
            molecule, reference = self.molecules[number], self.references[number]
            if math.isfinite(reference):
                allowed = CHEMICAL * molecule.electrons
                exact.append(near_exact(energy, error, reference, allowed, "hartree", at))
            bound = lowest_mean_field(molecule, self.basis)
            if bound is not None:
                above.append(below_mean_field(energy, error, bound, at))
        for checks in (exact, above):
            if checks:
                yield max(checks, key=lambda check: check.value - check.bound)


def _overlapping(overlap: float) -> Check:
    """Check that neighbouring geometries are near enough for their differences."""
    note = "share of the walkers that count at the next geometry; nearer points raise it"
    return Check("overlap", "health", overlap, OVERLAP, at_least=True, note=note)


__all__ = ["Scan"]
