"""The kinetic equation as the micro-scale model of closures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from ....models.parts import part
from ...gas.flows.lines import solve
from ..closures import FlowLabel, FlowSample, on_cells
from ..label_store import LabelError


@part
class Kinetic:
    """The BGK equation on a finer grid."""

    refinement: Annotated[int, Ge(1), Le(16)] = 2
    """The kinetic grid is finer by this factor."""
    velocities: Annotated[int, Ge(24), Le(1024)] = 72
    """Discrete velocities in [-7.2, 7.2]."""
    kind: Literal["kinetic"] = "kinetic"

    def labeler(self, times: Sequence[float], order: int, cells: int) -> "KineticLabeler":
        """Return the labeler of closures of order M on a grid, see below."""
        return KineticLabeler(times, order, cells, self.refinement, self.velocities)


@dataclass(frozen=True)
class KineticLabeler:
    """Solves the BGK equation for one flow and keeps its moments along the way.

    Attributes:
        times: rising from 0; when the moments are kept.
        order: M of the closure.
        cells: on which the closure learns.
        refinement: the kinetic grid is finer by this factor.
        nodes: discrete velocities in [-limit, limit].
        limit: unit sqrt(R T0).
    """

    times: Sequence[float]
    order: int = 5
    cells: int = 100
    refinement: int = 2
    nodes: int = 72
    limit: float = 7.2

    def label(self, sample: FlowSample) -> FlowLabel:
        """Solve.

        Raises:
            LabelError: the solution is not finite.
        """
        some = [sample.flow]
        fine, order = self.cells * self.refinement, self.order + 1
        raw = solve(
            some, self.times, fine, self.nodes, self.cells, order, self.limit
        )  # fmt: skip
        if not bool(raw.isfinite().all()):
            raise LabelError(f"{sample.stratum}, flow {sample.index}: not finite")
        return FlowLabel(raw[:, 0], on_cells(some, self.cells)[0])
