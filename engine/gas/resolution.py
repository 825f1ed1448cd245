r"""What half the cells, or one more order of moments, would change of a flow.

Every field counts by the size that it has of its own: density and temperature by their
means, the velocity by the root of the mean temperature. A flow's signal is how far its
fields are from their means over the gas, and its change the distance of two answers,

    change = max_t sum_q <|q' - q|> / max_t sum_q <|q - <q>|>,        q = rho, u, T,

with the means over the cells of gas and the largest of all frames; between walls and
around solids the velocity counts as it is, not from its mean. L1: at shocks both answers
are of first order, and the change is the error of the finer one; where the flow is smooth
and the scheme of second order, the error is a third of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

CHANGE = 0.05
"""What half the cells may change: an error of 5 % of the flow at shocks and of schemes of
first order, of 1.7 % where it is smooth."""
STILL = 1e-9
"""A signal below it is round-off, or a gas at rest."""
FIELDS = ("density", "velocity", "temperature")

Seen = Mapping[str, Tensor]


def coarsened(x: Tensor, refine: int, dim: int) -> Tensor:
    """Return means over ``refine`` cells along each axis of ``[batch, *cells, ...]``."""
    for axis in range(1, 1 + dim if refine > 1 else 1):
        x = x.unflatten(axis, (-1, refine)).mean(axis + 1)
    return x


def signal_gap(seen: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float | None:
    """Return the distance of two answers by what there is to predict, the batch's largest.

    ``|a - b| / |a - mean(a)|`` of density and temperature together, each over its mean.
    None where ``seen`` is uniform.
    """
    miss = signal = torch.zeros(())
    for name in ("density", "temperature"):
        own, other = (x[name].double().flatten(1) for x in (seen, found))
        mean = own.mean(1, keepdim=True)
        miss = miss + ((own - other) / mean).square().mean(1)
        signal = signal + (own / mean - 1.0).square().mean(1)
    return None if bool((signal < 1e-20).any()) else float((miss / signal).sqrt().amax())


@dataclass
class Change:
    """Follows two answers to a flow, frame by frame.

    Attributes:
        gas: ``[*cells]`` which cells are compared.
        bound: whether walls or solids say what rest is.
    """

    gas: Tensor
    bound: bool
    _scales: tuple[Tensor, ...] = ()
    _signal: Tensor = field(default_factory=lambda: torch.zeros(()))
    _distance: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, own: Seen, other: Seen) -> None:
        """Take a frame of both, fields ``[batch, *cells]``, velocity with components."""
        a, b = self._rows(own), self._rows(other)
        if not self._scales:
            rho, _, t = a
            mean = t.mean((1, 2), keepdim=True)
            self._scales = rho.mean((1, 2), keepdim=True), mean.sqrt(), mean
        signal = distance = torch.zeros(len(a[0]), dtype=torch.float64)
        for name, x, y, scale in zip(FIELDS, a, b, self._scales, strict=True):
            still = name == "velocity" and self.bound
            off = x if still else x - x.mean(1, keepdim=True)
            signal = signal + (off / scale).norm(dim=-1).mean(1)
            distance = distance + ((x - y) / scale).norm(dim=-1).mean(1)
        self._signal = torch.maximum(self._signal, signal)
        self._distance = torch.maximum(self._distance, distance)

    @property
    def value(self) -> float:
        """The change, the largest of the batch."""
        return float((self._distance / self._signal.clamp(min=STILL)).amax())

    def _rows(self, seen: Seen) -> list[Tensor]:
        """Return the fields at the cells of gas, ``[batch, cells, components]``."""
        found = []
        for name in FIELDS:
            x = seen[name].double()
            found.append(x[:, self.gas].reshape(len(x), int(self.gas.sum()), -1))
        return found


__all__ = ["CHANGE", "Change", "coarsened", "signal_gap"]
