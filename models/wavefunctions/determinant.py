"""Determinant network: a FermiNet-class ansatz with exact cusps."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from ..parts import part
from . import jet
from .electrons import (
    Backbone,
    Cusps,
    Envelope,
    Features,
    NuclearCusp,
    PairCusp,
    Particles,
    jastrow,
    normal,
    surroundings,
    zeros,
)
from .jet import Field

SIZES = {"small": (32, 16, 3, 8), "medium": (64, 32, 4, 16), "large": (256, 32, 4, 16)}
"""Width, width of pairs, layers and determinants of the named sizes."""
START = 0.02
"""Size of the first amplitudes: they tell determinants apart, the energy hardly moves."""


class Determinants(ABC):
    """What forms of determinant networks share: they differ in their backbone."""

    determinants: Any
    orbitals: Any
    basis: Any

    @abstractmethod
    def backbone(self, system: Particles, generator: torch.Generator) -> Features:
        """Return the layers that electrons pass before they enter orbitals."""

    def build(self, system: Particles, seed: int = 0) -> "DeterminantNet":
        """Return the network for a system.

        Raises:
            ValueError: the particles are bosons.
        """
        known = system.orbitals(self.basis) if self.orbitals == "hartree_fock" else None
        return self._network(system, seed, known)

    def parameter_count(self, system: Particles) -> int:
        """Return the number of parameters, without solving Hartree-Fock.

        Raises:
            ValueError: the particles are bosons.
        """
        net = self._network(system, 0, None)
        return sum(p.numel() for p in net.parameters())

    def _network(
        self, system: Particles, seed: int, orbitals: nn.Module | None
    ) -> "DeterminantNet":
        if system.bosons:
            raise ValueError("a determinant is antisymmetric; bosons need deepwf")
        generator = torch.Generator().manual_seed(seed)
        return DeterminantNet(
            self.backbone(system, generator), system.nuclear_cusps, self.determinants,
            system.envelope, system.cusps, generator, orbitals,
        )  # fmt: skip


@part
class DeterminantForm(Determinants):
    """FermiNet-class determinant network with exact cusps."""

    size: Literal["small", "medium", "large"] | None = None
    """Sets width, pair_width, layers and determinants: small is 32, 16, 3, 8; medium is
    64, 32, 4, 16; large is 256, 32, 4, 16."""
    width: Annotated[int, Ge(1), Le(1024)] = 32
    """Features of an electron."""
    pair_width: Annotated[int, Ge(1), Le(256)] = 16
    """Features of a pair of electrons."""
    layers: Annotated[int, Ge(0), Le(12)] = 3
    """Message-passing layers."""
    determinants: Annotated[int, Ge(1), Le(64)] = 8
    """Terms in the sum of determinants."""
    orbitals: Literal["hartree_fock", "none"] = "hartree_fock"
    """What the network corrects: the orbitals of Hartree-Fock (of the empty trap), so that
    it starts at their energy or below; or nothing, and it starts from random orbitals."""
    basis: str = "cc-pvtz"
    """Gaussian basis of Hartree-Fock (PySCF name)."""
    kind: Literal["determinant"] = "determinant"
    space: ClassVar[str] = "continuum"

    def __post_init__(self) -> None:
        if self.size is None:
            return
        names = ("width", "pair_width", "layers", "determinants")
        for name, value in zip(names, SIZES[self.size], strict=True):
            if getattr(self, name) not in (value, getattr(DeterminantForm, name)):
                raise ValueError(f"size {self.size} sets {name} to {value}; leave it out")
            object.__setattr__(self, name, value)

    def backbone(self, system: Particles, generator: torch.Generator) -> Backbone:
        """Return the layers that electrons pass before they enter orbitals."""
        return Backbone(
            surroundings(system), system.up, system.down, self.width, self.pair_width,
            self.layers, generator,
        )  # fmt: skip

    def pair_numbers(self, electrons: int, dim: int) -> int:
        """Return how many numbers a layer keeps of each pair in a jet."""
        del electrons
        return (dim + 2) * self.pair_width


class DeterminantNet(nn.Module):
    """``psi = exp(J) * sum over d of det[phi^d_k(r_i; r)]`` with dense determinants.

    The orbitals are

        phi^d_k(i) = f_k(i) + a^d_k(i) (s^d_k f_k(i) + sum_A pi^d_kA exp(-sigma^d_kA u_iA)),
        a^d_k(i) = w^d_k . h_i + b^d_k,

    with fixed orbitals ``f`` (Hartree-Fock's, divided by the nuclear factor of ``J``; in
    the first term they vanish for the other spin), the backbone's features ``h`` and
    ``u = d^2 / (1 + d)`` (``u = d^2`` for a Gaussian envelope in a trap). The amplitudes
    ``a`` start near zero: the network starts as Hartree-Fock times a pair factor. Without
    fixed orbitals only the last sum is left and ``a`` starts at random. ``J`` holds the
    exact electron-electron and electron-nucleus cusps and a pooled term ``sum_i q . h_i``.
    All but the cusps in ``J`` is continuously differentiable, so the cusps are exact for
    every value of the weights.

    Reference: Pfau, Spencer, Matthews, Foulkes, Phys. Rev. Research 2, 033429 (2020),
    eqs. 3-8 (full determinants as in Lin, Goldshlager, Lin, J. Comput. Phys. 474 (2023)).

    Args:
        backbone: of the particles, those with spin up first.
        charges: ``[centres]``; 0 where there is no cusp.
        determinants: terms of the sum.
        envelope: how orbitals decay.
        cusps: slopes of ``log|psi|`` at contact for opposite and for equal spins; None for
            particles that do not repel.
        generator: source of the initial weights.
        orbitals: fixed orbitals ``[batch, n, max(up, down)]`` of positions or their local
            jet, with the cusps at the nuclei; None for none.
    """

    own: Tensor
    repeat: Tensor

    def __init__(
        self,
        backbone: Features,
        charges: Tensor,
        determinants: int,
        envelope: Envelope,
        cusps: Cusps | None,
        generator: torch.Generator,
        orbitals: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.up, self.count = backbone, backbone.up, backbone.count
        self.determinants, width = determinants, backbone.width
        self.gaussian = envelope == "gaussian"
        self.nuclear = NuclearCusp(charges)
        repel = cusps is not None and self.count > 1
        self.pair = PairCusp(self.backbone.same, cusps) if repel and cusps else None
        channels, count = determinants * self.count, len(charges)
        gain = 1.0 if orbitals is None else START
        self.orbital_weight = normal(
            2, width, channels, fan_in=width, generator=generator, gain=gain
        )
        self.orbital_bias = zeros(2, channels)
        # Beside fixed orbitals the envelopes start at nothing: where the orbitals are small
        # they would make the scores of a few walkers ten times those of all others.
        self.share = nn.Parameter(
            torch.full((2, count, channels), 1.0 if orbitals is None else 0.0)
        )
        spread = 0.3 * torch.rand(2, count, channels, generator=generator)
        self.decay = nn.Parameter((0.25 if self.gaussian else 0.7) + spread)
        self.pool = zeros(width, 1)
        self.fixed = orbitals
        if orbitals is not None:
            self.fixed_share = nn.Parameter(torch.ones(2, channels))
        spin = self.backbone.spin
        self.register_buffer("own", spin @ spin.T)
        # orbitals repeated for every determinant, as a product
        self.register_buffer("repeat", torch.eye(self.count).repeat(1, determinants))

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return the sign and ``log|psi|``, both ``[batch]``.

        Args:
            r: positions ``[batch, n, dim]`` in bohr, or their jet
                (:func:`~.jet.coordinates`).
        """
        matrix, nuclear, apart, h = self._orbitals(r)
        sign, logarithm = jet.log_determinants(matrix)
        pair = self.pair(apart) if self.pair is not None and apart is not None else None
        pooled = jet.linear(lambda t: (t @ self.pool)[..., 0].sum(-1), h)
        return sign, jet.add(logarithm, jastrow(nuclear, pair, pooled))

    def _orbitals(self, r: Field) -> tuple[Field, Field, Field | None, Field]:
        h, distance, smooth, apart = self.backbone(r)
        nuclear = self.nuclear(distance)
        amplitude = jet.linear(self._project, h)
        amplitude = jet.shift_(amplitude, self.backbone.spin @ self.orbital_bias)
        reach = jet.square(distance) if self.gaussian else smooth
        envelope = self._envelope(reach)
        if self.fixed is None:
            orbitals = jet.scale_(amplitude, envelope)
        else:
            fixed = self._fixed(r, nuclear)
            share = self.backbone.spin @ self.fixed_share
            repeated = jet.linear(lambda t: t @ self.repeat, fixed)
            factor = jet.add_(jet.linear(lambda t: t * share, repeated), envelope)
            known = jet.linear(lambda t: (t * self.own) @ self.repeat, fixed)
            orbitals = jet.add_local(jet.scale_(amplitude, factor), known)

        def arrange(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.determinants, self.count)).transpose(-2, -3)

        return jet.linear(arrange, orbitals), nuclear, apart, h

    def _fixed(self, r: Field, nuclear: Field) -> Field:
        """Fixed orbitals of both spins over the nuclear factor, ``[batch, n, n]``."""
        assert self.fixed is not None
        down, up = self.count - self.up, self.up

        def both(t: Tensor) -> Tensor:
            return torch.cat([t[..., :up], t[..., :down]], -1)

        inverse = jet.exp(jet.linear(lambda t: -t[..., None], nuclear))
        return jet.linear(both, jet.multiply(self.fixed(r), inverse))

    def _project(self, h: Tensor) -> Tensor:
        weight, up = self.orbital_weight, self.up
        if up == self.count:
            return h @ weight[0]
        return torch.cat([h[..., :up, :] @ weight[0], h[..., up:, :] @ weight[1]], -2)

    def _envelope(self, reach: Field) -> Field:
        spin = self.backbone.spin
        total: Field | None = None
        for centre in range(self.decay.shape[1]):
            rate = (spin @ self.decay[:, centre]).abs()
            share = spin @ self.share[:, centre]
            own = jet.linear(lambda t, c=centre: t[..., c : c + 1], reach)
            term = jet.linear(lambda t, p=share: t * p, jet.decay(own, rate))
            total = term if total is None else jet.add_(total, term)
        assert total is not None
        return total
