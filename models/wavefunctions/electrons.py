"""What all continuous wavefunctions share: features, message passing, exact cusps."""

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from . import jet
from .jet import Field
from .periodic import Torus

Envelope = Literal["exponential", "gaussian"]


class Cusps(NamedTuple):
    """How particles that repel each other meet.

    Attributes:
        opposite: slope of ``log|psi|`` where opposite spins meet, 1 / bohr.
        equal: the same for equal spins.
        reach: distance in bohr over which the first wavefunction keeps them apart. A short
            one lowers the energy of Hartree-Fock without moving the density much.
    """

    opposite: float
    equal: float
    reach: float = 0.25


ELECTRONS = Cusps(0.5, 0.25)
"""Electrons in three dimensions."""


@runtime_checkable
class Particles(Protocol):
    """What a form must know of a continuous system to describe its ground state."""

    @property
    def positions(self) -> Tensor:
        """Centres ``[centres, dim]`` in bohr."""
        ...

    @property
    def period(self) -> float | None:
        """Edge of the cubic cell that repeats itself, in bohr; None in open space."""
        ...

    @property
    def nuclear_cusps(self) -> Tensor:
        """Charges ``[centres]`` that give cusps; 0 where the potential has no pole."""
        ...

    @property
    def up(self) -> int:
        """Particles with spin up; they come first."""
        ...

    @property
    def down(self) -> int:
        """Particles with spin down."""
        ...

    @property
    def envelope(self) -> Envelope:
        """How the wavefunction decays."""
        ...

    @property
    def cusps(self) -> Cusps | None:
        """How particles meet; None where they do not repel."""
        ...

    @property
    def bosons(self) -> bool:
        """Whether the wavefunction is symmetric."""
        ...

    def orbitals(self, basis: str) -> nn.Module:
        """Return orbitals to start from, those of the down particles first."""
        ...


# Every parameter enters through a product ``x @ weight`` and nowhere else, a bias as the
# product with a one or with the unit vector of a spin: so one backward pass of the whole
# batch leaves the derivatives of each walker behind (engine/vmc/scores.py).


def normal(
    *shape: int, fan_in: int, generator: torch.Generator, gain: float = 1.0
) -> nn.Parameter:
    """Return weights of variance ``gain^2 / fan_in``."""
    return nn.Parameter(gain * torch.randn(*shape, generator=generator) / math.sqrt(fan_in))


def zeros(*shape: int) -> nn.Parameter:
    """Return a parameter of zeros."""
    return nn.Parameter(torch.zeros(*shape))


class Centres(nn.Module):
    """Distances and smooth features of every particle to every centre, and of pairs.

    Network features are continuously differentiable at the centre: with
    ``u = d^2 / (1 + d)`` they are ``(r - R) / (1 + d)`` and ``log(1 + u)``; so the exact
    electron-nucleus cusp is in one factor, :class:`NuclearCusp`, and nowhere else.

    Args:
        positions: ``[centres, dim]`` in bohr.
    """

    positions: Tensor

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        self.register_buffer("positions", positions.to(torch.get_default_dtype()))
        self.count, dim = positions.shape
        self.features, self.pair_features = self.count * (dim + 1), dim + 1

    def apart(self, difference: Field) -> Field:
        """Return the distances ``[..., 1]`` of differences ``[..., dim]``."""
        return jet.norm(difference)

    def meeting(self, difference: Field, apart: Field) -> Field:
        """Return the features of pairs, ``[..., dim + 1]``: those of a centre."""
        inverse = jet.inverse1p(apart)
        smooth = jet.log1p(jet.multiply(jet.square(apart), inverse))
        return jet.concat(jet.multiply(difference, inverse), smooth)

    def forward(self, r: Field) -> tuple[Field, Field, Field]:
        """Return features ``[b, n, centres * (dim + 1)]``; ``d``, ``u [b, n, centres]``."""

        def repeat(t: Tensor) -> Tensor:
            return t.unsqueeze(-2).expand(*t.shape[:-1], self.count, t.shape[-1])

        difference = jet.shift(jet.linear(repeat, r), -self.positions)
        distance = jet.norm(difference)
        inverse = jet.inverse1p(distance)
        smooth = jet.multiply(jet.square(distance), inverse)
        features = jet.concat(jet.multiply(difference, inverse), jet.log1p(smooth))

        def squeeze(t: Tensor) -> Tensor:
            return t[..., 0]

        return (
            jet.linear(lambda t: t.flatten(-2), features),
            jet.linear(squeeze, distance),
            jet.linear(squeeze, smooth),
        )


Surroundings = Centres | Torus
"""What particles see: centres in open space, or a cell that repeats itself."""


def surroundings(system: Particles) -> Surroundings:
    """Return what the particles of a system see."""
    if system.period is None:
        return Centres(system.positions)
    return Torus(system.period, system.positions.shape[1])


class NuclearCusp(nn.Module):
    """Electron-nucleus factor ``sum over i, A of (Z_A / b_A) / (1 + b_A d_iA)``.

    Its slope at the nucleus is ``-Z_A`` (Kato's condition), whatever ``b_A > 0`` is.
    """

    charges: Tensor
    one: Tensor

    def __init__(self, charges: Tensor) -> None:
        super().__init__()
        self.register_buffer("charges", charges.to(torch.get_default_dtype()))
        start = charges.to(torch.get_default_dtype()).clamp(min=1.0)
        self.range = nn.Parameter(torch.log(torch.expm1(start))[None])
        self.register_buffer("one", torch.ones(1, 1))

    def forward(self, distance: Field) -> Field:
        """Return the local field ``[batch, n]`` to be summed over electrons."""
        b = softplus(self.one @ self.range)
        strength = self.charges / b
        inverse = jet.inverse1p(jet.linear(lambda t: t * b, distance))
        return jet.linear(lambda t: (t * strength).sum(-1), inverse)


class PairCusp(nn.Module):
    """Repulsion factor ``- sum over i < j of c a^2 / (a + r_ij)``.

    Its slope at contact is ``c``: for electrons in three dimensions 1/2 for opposite and
    1/4 for equal spins (Pack and Byers Brown, J. Chem. Phys. 45, 556 (1966)).

    Args:
        same: ``[n - 1, n]`` 1 where the two spins are equal.
        cusps: how particles meet.
    """

    kinds: Tensor
    slope: Tensor

    def __init__(self, same: Tensor, cusps: Cusps) -> None:
        super().__init__()
        self.register_buffer("kinds", torch.stack([1 - same, same], -1))
        slope = cusps.opposite + (cusps.equal - cusps.opposite) * same
        self.register_buffer("slope", slope)
        start = cusps.reach + math.log(-math.expm1(-cusps.reach))
        self.range = nn.Parameter(torch.full((2, 1), start))

    def forward(self, distance: Field) -> Field:
        """Return the local field ``[batch, n - 1, n]`` to be summed over pairs."""
        a = softplus(self.kinds @ self.range)[..., 0]
        inverse = jet.inverse1p(jet.linear(lambda t: t / a, distance))
        return jet.linear(lambda t: -self.slope * a * t, inverse)


class Features(nn.Module):
    """What a backbone has of every particle before particles meet.

    A backbone returns features equivariant under exchange of equal spins; its subclasses
    differ in how particles hear of each other.

    Args:
        centres: the features of the particles.
        up: number of particles of the first kind.
        down: number of particles of the second kind.
        width: features of a particle.
        generator: source of the initial weights.
    """

    spin: Tensor
    same: Tensor
    kinds: Tensor

    def __init__(
        self,
        centres: Surroundings,
        up: int,
        down: int,
        width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.centres, self.width, self.up, self.count = centres, width, up, up + down
        spin = torch.tensor([0] * up + [1] * down)
        dtype = torch.get_default_dtype()
        self.register_buffer("spin", torch.eye(2, dtype=dtype)[spin])
        same = (spin == spin[jet.others(self.count)]).to(dtype)
        self.register_buffer("same", same)
        self.register_buffer("kinds", torch.stack([1 - same, same], -1))
        entry = centres.features
        self.entry_weight = normal(entry, width, fan_in=entry, generator=generator)
        self.entry_bias = normal(2, width, fan_in=4, generator=generator)

    def entry(self, r: Field) -> tuple[Field, Field, Field]:
        """Return ``W f_i + b_spin(i) [b, n, width]`` of the centres, ``d`` and ``u``."""
        features, distance, smooth = self.centres(r)
        bias = self.spin @ self.entry_bias
        return jet.affine(features, self.entry_weight, bias), distance, smooth


class Backbone(Features):
    """Message passing over electrons, equivariant under exchange of equal spins.

    The pair stream ``g_ij = tanh(V [d_ij, |d_ij|] + c_spin)`` stays local to the pair, and
    layer ``l`` is

        m_i = sum over j != i of (P_l g_ij) * (V_l h_j + b_spin(j))
        h_i <- h_i + tanh(W_l h_i + M_l m_i + c_l),

    the electron stream of FermiNet (Pfau et al., Phys. Rev. Research 2, 033429 (2020),
    eq. 5-6) with the pair messages of SchNet in place of the mean pair feature.

    Args:
        centres: the features of the particles.
        up: number of particles of the first kind.
        down: number of particles of the second kind.
        width: features of a particle.
        pair_width: features of a pair, and channels of a message.
        layers: number of message-passing layers.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        centres: Surroundings,
        up: int,
        down: int,
        width: int,
        pair_width: int,
        layers: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(centres, up, down, width, generator)
        layers = layers if self.count > 1 else 0
        if layers:
            size = centres.pair_features
            self.pair_weight = normal(size, pair_width, fan_in=size, generator=generator)
            self.pair_bias = normal(2, pair_width, fan_in=4, generator=generator)
        self.layers = nn.ModuleList(
            MessageLayer(width, pair_width, generator) for _ in range(layers)
        )

    def forward(self, r: Field) -> tuple[Field, Field, Field, Field | None]:
        """Return global features ``[b, n, width]``, ``d``, ``u`` and pair distances."""
        entry, distance, smooth = self.entry(r)
        h = jet.tanh_(entry)
        if self.count == 1:
            return jet.spread(h), distance, smooth, None
        difference = jet.pairs(r)
        apart = self.centres.apart(difference)
        if self.layers:
            g = self._pair_stream(difference, apart)
            for number, layer in enumerate(self.layers):
                h = layer(h, g, self.spin, local=number == 0)
        else:
            h = jet.spread(h)
        return h, distance, smooth, jet.linear(lambda t: t[..., 0], apart)

    def _pair_stream(self, difference: Field, apart: Field) -> Field:
        features = self.centres.meeting(difference, apart)
        bias = self.kinds @ self.pair_bias
        return jet.tanh_(jet.affine(features, self.pair_weight, bias))


class MessageLayer(nn.Module):
    """One layer of :class:`Backbone`."""

    one: Tensor

    def __init__(self, width: int, pair_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.own = normal(width, width, fan_in=width, generator=generator)
        self.bias = zeros(1, width)
        self.register_buffer("one", torch.ones(1, 1))
        self.pair = normal(pair_width, pair_width, fan_in=pair_width, generator=generator)
        self.source = normal(width, pair_width, fan_in=width, generator=generator)
        self.source_bias = normal(2, pair_width, fan_in=4, generator=generator)
        self.take = normal(
            pair_width, width, fan_in=pair_width, generator=generator, gain=0.5
        )

    def forward(self, h: Field, g: Field, spin: Tensor, local: bool) -> Field:
        """Return the next features; ``local`` tells that ``h`` is still a local jet."""
        source = jet.affine(h, self.source, spin @ self.source_bias)
        own = jet.affine(h, self.own, self.one @ self.bias)
        if local:
            source = jet.spread(source)
        m = jet.message(jet.linear(lambda t: t @ self.pair, g), source)
        taken = jet.linear(lambda t: t @ self.take, m)
        add = jet.add_local if local else jet.add_
        return add(jet.tanh_(add(taken, own)), h)


def jastrow(nuclear: Field, pair: Field | None, pooled: Field | None) -> Field:
    """Sum the one-body factor, the pair factor and a global scalar into ``[batch]``."""
    total = jet.sum_electrons(nuclear)
    if pair is not None:
        total = jet.add(total, jet.sum_pairs(pair))
    return total if pooled is None else jet.add(total, pooled)
