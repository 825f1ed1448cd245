"""Quantities that a gas run does not store and that follow from what it stores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .record import Column, Group
from .solids import solid_cells

NEEDED = ("density", "velocity", "temperature")


@dataclass(frozen=True)
class Lazy:
    """An array that is computed where it is read, one moment at a time.

    Attributes:
        name: of :data:`scalebridge.engine.gas.derived.DERIVED`.
        columns: the stored fields.
        medium: :class:`scalebridge.engine.gas.derived.Medium`.
        frames: whether the first axis is that of moments.
    """

    name: str
    columns: Mapping[str, Column]
    medium: Any
    frames: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, that of the density."""
        return self.columns["density"].shape

    @property
    def dtype(self) -> np.dtype:
        """Type of its numbers."""
        return np.dtype(float)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return values; only the moments that the first index names are computed."""
        given = index if isinstance(index, tuple) else (index,)
        if not self.frames or given[0] is Ellipsis:
            chosen, rest = range(self.shape[0] if self.frames else 1), given
            values = np.stack([self._moment(n) for n in chosen])
            return (values if self.frames else values[0])[rest]
        if isinstance(given[0], slice):
            chosen = range(*given[0].indices(self.shape[0]))
            values = np.stack([self._moment(n) for n in chosen])
            return values[(slice(None), *given[1:])]
        return self._moment(int(given[0]))[given[1:]]

    def _moment(self, frame: int) -> np.ndarray:
        import torch

        from ..engine.gas.derived import derive

        at = frame if self.frames else Ellipsis
        fields = {
            n: torch.as_tensor(np.asarray(c.array[at], float))
            for n, c in self.columns.items()
        }
        found = derive(self.name, fields, self.medium).numpy()
        solid = self.medium.solid
        return found if solid is None else np.where(solid.numpy(), np.nan, found)


def with_derived(group: Group, scenario: Mapping[str, Any]) -> Group:
    """Return the fields of a gas with all quantities that follow from them."""
    stored = {n: group.columns[n] for n in NEEDED if n in group.columns}
    medium = _medium(stored, scenario) if len(stored) == len(NEEDED) else None
    if medium is None:
        return group
    from ..engine.gas.derived import DERIVED

    density, frames = stored["density"], bool(group.frames)
    more = {
        name: Column(name, Lazy(name, stored, medium, frames), unit, "", density.axes,
                     density.labels)
        for name, (_, unit) in DERIVED.items()
        if name not in group.columns
        and not (name == "mean_free_path" and _unknown_path(scenario))
    }  # fmt: skip
    return replace(group, columns={**group.columns, **more})


def _unknown_path(scenario: Mapping[str, Any]) -> bool:
    """Whether a table gives the viscosity, or the start the Knudsen numbers."""
    own = (scenario.get("initial") or {}).get("kind") in ("flows", "plane_flows")
    return own or (scenario.get("gas") or {}).get("kind") == "transport"


def _medium(stored: Mapping[str, Column], scenario: Mapping[str, Any]) -> Any:
    """Return grid, gas and Knudsen numbers of a scenario; None where it has none."""
    from ..engine.gas.derived import Medium
    from ..engine.gas.grid import Grid
    from ..engine.gas.material import Gas

    grid, gas = scenario.get("grid"), scenario.get("gas") or {}
    if scenario.get("kind") != "gas" or not isinstance(grid, Mapping):
        return None
    if gas.get("kind") == "mixture":
        return None  # its pressure is not density times temperature
    import torch

    dim = len(grid["cells"])
    batch_at = stored["density"].axes.index("batch") if stored["density"].axes else 0
    shape = stored["density"].shape[batch_at + 1 :]
    law = (
        Gas.constant_time(gas.get("dimension", 3))
        if gas.get("viscosity") == "constant_time"
        else Gas.power_law(gas.get("dimension", 3), gas.get("omega", 1.0))
    )
    ends = scenario.get("boundaries") or {}
    kinds = [((ends.get(a) or {}).get("low") or {}).get("kind", "periodic") for a in "xyz"]
    own = (scenario.get("model") or {}).get("gamma")
    solid = solid_cells(tuple(shape), scenario)
    return Medium(
        Grid(tuple(shape), tuple(grid["lower"]), tuple(grid["upper"])),
        tuple(kind == "periodic" for kind in kinds[:dim]),
        law,
        own or law.gamma,
        torch.as_tensor(scenario.get("knudsen") or [1.0], dtype=torch.float64),
        None if solid is None else torch.from_numpy(solid),
    )
