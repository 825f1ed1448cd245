"""Force and heat of solids among simulated molecules: over time, and their averages."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..protocols import Figure
from ..run import ZarrWriter
from ..rundir import RunFolder
from .fields import write_field
from .kinetic.dsmc import DsmcState
from .solids import Body, load_units, loads


class LoadFrames:
    """Writes force and heat of the solids, means over the time since the frame before.

    Args:
        frames: writes what it is given as observed.
        pooled: the mean over ensembles.
    """

    def __init__(self, frames: ZarrWriter, pooled: Callable[[Tensor], Tensor]) -> None:
        self._frames, self._pooled = frames, pooled
        self._last: tuple[Tensor, Tensor] | None = None
        self.newest: Tensor | None = None

    def write(self, step: int, time: float, state: DsmcState, observed: object) -> None:
        """Record one frame; the first has no time before it."""
        now = state.impulse.clone(), torch.tensor(time, dtype=torch.float64)
        before = now if self._last is None else self._last
        long = (now[1] - before[1]).clamp(min=1e-300)
        self.newest = self._pooled((now[0] - before[0]) / long)
        self._frames.write(step, time, state, {"solid_loads": self.newest})
        self._last = now

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored."""
        if self._last is None or self.newest is None:
            return self._frames.tensors()
        impulse, time = self._last
        own = {"impulse": impulse, "time": time, "newest": self.newest}
        return {**self._frames.tensors(), **own}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` returned."""
        self._frames.restore(tensors)
        if "impulse" in tensors:
            self._last = tensors["impulse"], tensors["time"]
            self.newest = tensors["newest"]


def average_loads(body: Body, blocks: Tensor, folder: RunFolder) -> dict[str, Figure]:
    """Return mean force and heat of every solid with their errors; store all systems.

    Args:
        body: the solids.
        blocks: ``[blocks, knudsen, solids, 4]``.
        folder: of the run.
    """
    mean, error = blocks.mean(0), blocks.std(0) / len(blocks) ** 0.5
    units, errors, found = load_units(body), loads(body, error), {}
    group = folder.store.require_group("average_loads")
    group.attrs["plot"] = "hidden"
    for key, values in loads(body, mean).items():
        write_field(group, key, values)
        write_field(group, f"{key}_error", errors[key])
        what = (
            "energy per time that it takes" if key.endswith("heat") else "of the gas on it"
        )
        if len(values) > 1:
            what += ", of the first system; of all in the store's group average_loads"
        note = f"{what}; error from {len(blocks)} blocks of time"
        found[key] = Figure(
            float(values[0]), units[key], error=float(errors[key][0]), note=note
        )
    return found


def last_loads(body: Body, newest: Tensor) -> dict[str, Figure]:
    """Return force and heat of every solid over the last frame."""
    units = load_units(body)
    note = "mean over the last frame, of the first system"
    return {
        key: Figure(float(values[0]), units[key], note=note)
        for key, values in loads(body, newest).items()
    }


__all__ = ["LoadFrames", "average_loads", "last_loads"]
