"""Rotation-invariant contractions of moments."""

import torch
from torch import Tensor, nn

from .harmonics import quadrupole_matrices


class GramContraction(nn.Module):
    """``D = T T_<^T``, summed over the components of l = 0 and 1 together."""

    def __init__(self, channels: int, axis: int) -> None:
        super().__init__()
        self.axis, self.blocks = axis, (channels * axis,)

    def forward(self, moments: Tensor) -> Tensor:
        """``[members, atoms, channels, 4] -> [members, atoms, channels * axis]``."""
        return (moments @ moments[..., : self.axis, :].mT).flatten(-2)


class MomentContraction(nn.Module):
    """``T^0``, ``T^l . T^l`` (l = 1..lmax) and three-moment products of a few channels."""

    quadrupole: Tensor

    def __init__(self, channels: int, axis: int, lmax: int, products: int) -> None:
        super().__init__()
        self.axis, self.lmax, self.products = axis, lmax, products if lmax >= 2 else 0
        self.blocks = (channels, *[channels * axis] * lmax, *[self.products] * 3)
        self.register_buffer(
            "quadrupole", quadrupole_matrices().reshape(5, 9).float(), persistent=False
        )

    def _apply(self, fn, recurse: bool = True):  # noqa: ANN001, ANN202 - torch's signature
        super()._apply(fn, recurse)
        self.quadrupole = quadrupole_matrices().reshape(5, 9).to(self.quadrupole)
        return self

    def forward(self, moments: Tensor) -> Tensor:
        """``[members, atoms, channels, (lmax + 1)^2] -> [members, atoms, features]``."""
        parts = [moments[..., 0]]
        for degree in range(1, self.lmax + 1):
            block = moments[..., degree**2 : (degree + 1) ** 2]
            parts.append((block @ block[..., : self.axis, :].mT).flatten(-2))
        if self.products:
            chosen = moments[..., -self.products :, :]
            q = (chosen[..., 4:9] @ self.quadrupole).unflatten(-1, (3, 3))
            v = chosen[..., 1:4]
            # Elementwise: batched products of 3 x 3 matrices cost five times as much.
            qv = (q * v[..., None, :]).sum(-1)
            square = (q[..., :, None, :] * q[..., None, :, :]).sum(-1)
            parts += [
                (v * qv).sum(-1),
                (square * q).sum((-2, -1)),
                (qv * qv).sum(-1),
            ]
        return torch.cat(parts, -1)


__all__ = ["GramContraction", "MomentContraction"]
