"""What a wavefunction sees in a cubic periodic cell, and its plane waves."""

import math

from torch import Tensor, nn

from . import jet
from .jet import Field


class Torus(nn.Module):
    """Smooth periodic features of particles and of pairs in a cube of edge ``L``.

    A particle has ``sin`` and ``cos`` of ``2 pi r / L`` along each axis, a pair those of
    its difference; a distance is ``|(L / pi) sin(pi d / L)|`` over all axes, which is
    ``|d|`` where two particles meet and smooth where they are half a cell apart.

    Reference: Cassella et al., Phys. Rev. Lett. 130, 036401 (2023); Wilson et al., Phys.
    Rev. B 107, 235139 (2023).

    Args:
        period: edge of the cell in bohr.
        dim: space dimensions.
    """

    def __init__(self, period: float, dim: int) -> None:
        super().__init__()
        self.period, self.count = period, 1
        self.features, self.pair_features = 2 * dim, 2 * dim + 1

    def forward(self, r: Field) -> tuple[Field, Field, Field]:
        """Return features ``[b, n, 2 dim]``, and 0 for ``d`` and ``u``: no centre."""

        def none(t: Tensor) -> Tensor:
            return 0 * t[..., :1]

        nowhere = jet.linear(none, r)
        return self._waves(r), nowhere, nowhere

    def apart(self, difference: Field) -> Field:
        """Return periodic distances ``[..., 1]`` of differences ``[..., dim]``."""
        half = jet.linear(lambda t: (math.pi / self.period) * t, difference)
        chord = jet.linear(lambda t: (self.period / math.pi) * t, jet.sin(half))
        return jet.norm(chord)

    def meeting(self, difference: Field, apart: Field) -> Field:
        """Return the features of pairs, ``[..., 2 dim + 1]``."""
        smooth = jet.log1p(jet.multiply(jet.square(apart), jet.inverse1p(apart)))
        return jet.concat(self._waves(difference), smooth)

    def _waves(self, x: Field) -> Field:
        phase = jet.linear(lambda t: (math.tau / self.period) * t, x)
        return jet.concat(jet.sin(phase), jet.cos(phase))


class PlaneWaves(nn.Module):
    """Real plane waves ``1, cos k.r, sin k.r, ...`` of the lowest ``|k|``.

    Args:
        period: edge of the cell in bohr.
        waves: ``[orbitals / 2, dim]`` whole numbers ``m``, ``k = 2 pi m / L``, one of each
            pair ``m, -m``.
    """

    waves: Tensor

    def __init__(self, period: float, waves: Tensor) -> None:
        super().__init__()
        self.register_buffer("waves", (math.tau / period) * waves.double().T)

    def forward(self, r: Field) -> Field:
        """Return all orbitals ``[batch, n, orbitals]`` at ``r [batch, n, dim]``."""
        phase = jet.linear(lambda t: t @ self.waves.to(t), r)
        one = jet.shift(jet.linear(lambda t: 0 * t[..., :1], r), 1.0)
        return jet.concat(one, jet.cos(phase), jet.sin(phase))
