"""Hartree-Fock determinant with a Jastrow factor: the baseline."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..parts import part
from . import jet
from .electrons import (
    ELECTRONS,
    Cusps,
    PairCusp,
    Surroundings,
    jastrow,
    normal,
    surroundings,
    zeros,
)
from .jet import Field


@part
class SlaterJastrowForm:
    """Hartree-Fock determinant with a Jastrow factor: the baseline."""

    basis: str = "cc-pvtz"
    """Gaussian basis of the orbitals (PySCF name)."""
    kind: Literal["slater_jastrow"] = "slater_jastrow"
    space: ClassVar[str] = "continuum"

    def build(self, system: Any, seed: int = 0) -> "SlaterJastrow":
        """Return the module for a molecule or a trap of fermions.

        Raises:
            ValueError: the particles are bosons, or the system has no orbitals.
        """
        if not hasattr(system, "orbitals"):
            raise ValueError("slater_jastrow needs a system with orbitals")
        if system.bosons:
            raise ValueError("a determinant is antisymmetric; bosons need deepwf")
        return SlaterJastrow(
            surroundings(system), system.orbitals(self.basis), system.up, system.down,
            system.cusps, seed=seed,
        )  # fmt: skip


class SlaterJastrow(nn.Module):
    """``psi = exp(J) det[phi_up] det[phi_down]`` with fixed Hartree-Fock orbitals.

    The orbitals have the exact cusps at the nuclei. ``J`` holds those of pairs, a one-body
    network of the smooth distances to the centres and a two-body network of the smooth
    distance of a pair; only ``J`` is optimised.

    Reference: Foulkes, Mitas, Needs, Rajagopal, Rev. Mod. Phys. 73, 33 (2001), section IV.

    Args:
        centres: what the particles see.
        orbitals: gives ``[batch, n, orbitals]``; both spins fill it from the first.
        up: particles with spin up.
        down: particles with spin down.
        cusps: slopes of ``log|psi|`` at contact for opposite and for equal spins; None for
            particles that do not repel.
        hidden: units of the two Jastrow networks.
        seed: of the initial weights.
    """

    def __init__(
        self,
        centres: Surroundings,
        orbitals: nn.Module,
        up: int,
        down: int,
        cusps: Cusps | None = ELECTRONS,
        hidden: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.up, self.down = up, down
        count, entry = up + down, centres.count
        self.orbitals = orbitals
        self.centres = centres
        spin = torch.tensor([0] * self.up + [1] * self.down)
        same = (spin == spin[jet.others(count)]).to(torch.get_default_dtype())
        self.pair = PairCusp(same, cusps) if count > 1 and cusps else None
        self.one_in = normal(entry, hidden, fan_in=entry, generator=generator)
        self.one_bias, self.one_out = zeros(hidden), zeros(hidden)
        self.two_in = normal(1, hidden, fan_in=1, generator=generator)
        self.two_bias = zeros(2, hidden)
        self.two_out = zeros(hidden)
        self.register_buffer("kinds", torch.stack([1 - same, same], -1))

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return sign and ``log|psi|``, both ``[batch]``, of positions or their jet."""
        orbitals = self.orbitals(r)
        sign, log = self._determinant(orbitals, 0, self.up)
        if self.down:
            other, down = self._determinant(orbitals, self.up, self.down)
            sign, log = sign * other, jet.add(log, down)
        _, _, smooth = self.centres(r)
        hidden = jet.tanh(jet.affine(jet.log1p(smooth), self.one_in, self.one_bias))
        one = jet.linear(lambda t: t @ self.one_out, hidden)
        return sign, jet.add(log, jastrow(one, self._pairs(r), None))

    def _pairs(self, r: Field) -> Field | None:
        if self.pair is None:
            return None
        apart = self.centres.apart(jet.pairs(r))
        smooth = jet.log1p(jet.multiply(jet.square(apart), jet.inverse1p(apart)))
        bias = self.get_buffer("kinds") @ self.two_bias
        hidden = jet.tanh(jet.affine(smooth, self.two_in, bias))
        cusp = self.pair(jet.linear(lambda t: t[..., 0], apart))
        return jet.add(cusp, jet.linear(lambda t: t @ self.two_out, hidden))

    def _determinant(self, orbitals: Field, begin: int, count: int) -> tuple[Tensor, Field]:
        def block(t: Tensor) -> Tensor:
            return t[..., None, begin : begin + count, :count]

        return jet.log_determinants(jet.linear(block, jet.spread(orbitals)))
