"""Hartree-Fock determinant with a Jastrow factor: the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..parts import part
from . import jet
from .electrons import Centres, NuclearCusp, PairCusp, jastrow, normal, zeros
from .jet import Field


@dataclass(frozen=True)
class Shell:
    """Contracted Cartesian Gaussians of one angular momentum at one centre.

    Attributes:
        centre: index of the centre.
        momentum: angular momentum; ``x^a y^b z^c`` with ``a + b + c = momentum``.
        exponents: ``[primitives]`` in bohr^-2.
        coefficients: ``[primitives, contractions]``, all normalisation included.
    """

    centre: int
    momentum: int
    exponents: Tensor
    coefficients: Tensor


class GaussianBasis(nn.Module):
    """``chi(r) = x^a y^b z^c sum_p c_p exp(-alpha_p d^2)`` for every shell.

    The order of the functions is that of libcint: shells, then contractions, then
    ``(a, b, c)`` with ``a`` falling first.
    """

    def __init__(self, positions: Tensor, shells: Sequence[Shell]) -> None:
        super().__init__()
        self.register_buffer("positions", positions)
        self.layout = [(shell.centre, shell.momentum) for shell in shells]
        for number, shell in enumerate(shells):
            self.register_buffer(f"exponents{number}", shell.exponents)
            self.register_buffer(f"coefficients{number}", shell.coefficients)

    def forward(self, r: Field) -> Field:
        """Return the basis functions ``[batch, n, functions]`` (local)."""
        positions: Tensor = self.get_buffer("positions")
        local: dict[int, tuple[Field, Field]] = {}
        found: list[Field] = []
        for number, (centre, momentum) in enumerate(self.layout):
            if centre not in local:
                x = jet.shift(r, -positions[centre])
                local[centre] = (
                    x,
                    jet.linear(lambda t: t.sum(-1, keepdim=True), jet.square(x)),
                )
            x, squared = local[centre]
            exponents = self.get_buffer(f"exponents{number}")
            coefficients = self.get_buffer(f"coefficients{number}")
            decay = jet.exp(jet.linear(lambda t, a=exponents: -t * a, squared))
            radial = jet.linear(lambda t, c=coefficients: t @ c, decay)
            found.extend(self._functions(x, radial, momentum, coefficients.shape[1]))
        return jet.concat(*found)

    def _functions(self, x: Field, radial: Field, momentum: int, count: int) -> list[Field]:
        powers = [
            (a, b, momentum - a - b)
            for a in range(momentum, -1, -1)
            for b in range(momentum - a, -1, -1)
        ]
        functions = []
        for which in range(count):
            for power in powers:
                value = jet.linear(lambda t, k=which: t[..., k : k + 1], radial)
                for axis, exponent in enumerate(power):
                    own = jet.linear(lambda t, k=axis: t[..., k : k + 1], x)
                    for _ in range(exponent):
                        value = jet.multiply(value, own)
                functions.append(value)
        return functions


@part
class SlaterJastrowForm:
    """Hartree-Fock determinant with a Jastrow factor: the baseline."""

    basis: str = "cc-pvdz"
    """Gaussian basis of the orbitals (PySCF name)."""
    kind: Literal["slater_jastrow"] = "slater_jastrow"
    space: ClassVar[str] = "continuum"

    def build(self, system: Any, seed: int = 0) -> "SlaterJastrow":
        """Return the module for a molecule, with float64 orbitals.

        Raises:
            ValueError: the system has no orbitals in a Gaussian basis.
        """
        if not hasattr(system, "gaussian_orbitals"):
            raise ValueError(
                "slater_jastrow needs a molecule: its orbitals come from PySCF"
            )
        shells, up, down = system.gaussian_orbitals(self.basis)
        return SlaterJastrow(system.positions, system.charges, shells, up, down, seed=seed)


class SlaterJastrow(nn.Module):
    """``psi = exp(J) det[phi_up] det[phi_down]`` with fixed Hartree-Fock orbitals.

    ``J`` holds the exact cusps, a one-body network of the smooth distances to the centres
    and a two-body network of the smooth distance of a pair; only ``J`` is optimised.

    Reference: Foulkes, Mitas, Needs, Rajagopal, Rev. Mod. Phys. 73, 33 (2001), section IV.

    Args:
        positions: nuclei ``[nuclei, 3]`` in bohr.
        charges: ``[nuclei]``.
        shells: the Gaussian basis.
        up: orbital coefficients ``[functions, n_up]``.
        down: ``[functions, n_down]``.
        hidden: units of the two Jastrow networks.
        seed: of the initial weights.
    """

    def __init__(
        self,
        positions: Tensor,
        charges: Tensor,
        shells: Sequence[Shell],
        up: Tensor,
        down: Tensor,
        hidden: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.up, self.down = up.shape[1], down.shape[1]
        count = self.up + self.down
        self.basis = GaussianBasis(positions, shells)
        self.register_buffer("up_orbitals", up)
        self.register_buffer("down_orbitals", down)
        self.centres = Centres(positions)
        self.nuclear = NuclearCusp(charges)
        with torch.no_grad():
            self.nuclear.range.copy_(4 * charges)
        spin = torch.tensor([0] * self.up + [1] * self.down)
        same = (spin[:, None] == spin[jet.others(count)]).to(torch.get_default_dtype())
        self.pair = PairCusp(same, (0.5, 0.25)) if count > 1 else None
        self.one_in = normal(len(charges), hidden, fan_in=len(charges), generator=generator)
        self.one_bias, self.one_out = zeros(hidden), zeros(hidden)
        self.two_in = normal(1, hidden, fan_in=1, generator=generator)
        self.two_bias = zeros(2, hidden)
        self.two_out = zeros(hidden)
        self.register_buffer("kinds", torch.stack([1 - same, same], -1))

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return sign and ``log|psi|``, both ``[batch]``, of positions or their jet."""
        basis = self.basis(r)
        sign, log = self._determinant(basis, "up_orbitals", 0, self.up)
        if self.down:
            other, down = self._determinant(basis, "down_orbitals", self.up, self.down)
            sign, log = sign * other, jet.add(log, down)
        _, distance, smooth = self.centres(r)
        hidden = jet.tanh(jet.affine(jet.log1p(smooth), self.one_in, self.one_bias))
        one = jet.add(
            self.nuclear(distance), jet.linear(lambda t: t @ self.one_out, hidden)
        )
        return sign, jet.add(log, jastrow(one, self._pairs(r), None))

    def _pairs(self, r: Field) -> Field | None:
        if self.pair is None:
            return None
        apart = jet.norm(jet.pairs(r))
        smooth = jet.log1p(jet.multiply(jet.square(apart), jet.inverse1p(apart)))
        bias = self.get_buffer("kinds") @ self.two_bias
        hidden = jet.tanh(jet.affine(smooth, self.two_in, bias))
        cusp = self.pair(jet.linear(lambda t: t[..., 0], apart))
        return jet.add(cusp, jet.linear(lambda t: t @ self.two_out, hidden))

    def _determinant(
        self, basis: Field, name: str, begin: int, count: int
    ) -> tuple[Tensor, Field]:
        orbitals = self.get_buffer(name)
        matrix = jet.spread(jet.linear(lambda t: t @ orbitals, basis))
        block = jet.linear(lambda t: t[..., None, begin : begin + count, :], matrix)
        return jet.log_determinants(block)
