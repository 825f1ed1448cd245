"""What a finished run of the Deep Ritz method leaves: figures, a check, the solution."""

from dataclasses import dataclass

from torch import Tensor

from ..protocols import Check, Figure, Outcome
from ..run import Observed
from ..rundir import RunFolder, write_array
from .solver import DeepRitz, RitzState

AGREEMENT = 0.05
"""Relative error of the solution that is called agreement with the reference."""


@dataclass(frozen=True)
class Finish:
    """Compares the solution with its reference and writes both."""

    world: DeepRitz

    def __call__(self, folder: RunFolder, state: RitzState, observed: Observed) -> Outcome:
        """Return error, violation of the boundary condition, and the functional."""
        points, exact = self.world.equation.reference()
        found = self.world.solution(state, points)
        _write_solution(folder, points, found, exact)
        error = float((found - exact).norm() / exact.norm())
        figures = {
            "relative_error": Figure(error),
            "boundary_violation": Figure(float(observed["boundary"]) ** 0.5),
            "functional": Figure(float(observed["energy"])),
        }
        check = Check("reference", "accuracy", error, AGREEMENT, note="relative error")
        return Outcome(figures, [check])


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
        axes = ("x", "y") if "x" in columns else ("point", "value")
        own = (name,) if name in axes else axes[: values.dim()]
        write_array(group, name, values, dimensions=own)


__all__ = ["Finish"]
