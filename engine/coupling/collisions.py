"""Collision rates of a dilute gas, measured by molecular dynamics of colliding pairs.

In a dilute gas the viscosity, and with it the relaxation time ``tau = mu / p`` of a kinetic
model, follows from collisions of two particles at a time (Chapman and Enskog, first
approximation; Hirschfelder, Curtiss, Bird 1954, eq. 8.2-10)::

    mu = 5/16 sqrt(pi m k T) / (pi sigma^2 W),    W = Omega(2,2)*
    W = 3/2 <(1 - cos^2 chi) b_max^2 / sigma^2>

where the mean goes over energies ``E = k T y``, ``y`` with the density ``y^3 e^-y / 6``,
and impact parameters uniform in ``b^2 < b_max^2``. The angle chi by which a pair is
deflected is read off a trajectory of our own molecular dynamics. chi depends on E and b
alone, so every pair is given the mass that makes its relative speed one: all cross in the
same time.

This is the first approximation. The third is higher: by 0.22 % at 300 K, 0.72 % at 1000 K
for argon as Lennard-Jones spheres (:mod:`..gas.collisions.transport`, which goes to third
order); the table of ``published_integral`` is of the same first order, so comparing with it
cannot show that. Any pair potential with one well takes the place of Lennard and Jones's
(:func:`colliding`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from ..errors import InputError
from ..gas.collisions.pairs import Table, root
from ..interop.host import Host
from ..learn.label_store import Codec, LabelError
from ..md.classical import LennardJones
from ..md.integrators import Verlet
from ..md.potential import Potential
from ..md.state import ParticleState
from ..md.units import REDUCED
from ..md.world import MolecularDynamics
from ..units import ATOMIC_MASS_KG, BOLTZMANN_EV, ELEMENTARY_CHARGE
from .tabulated import TabulatedPotential

BOLTZMANN = BOLTZMANN_EV * ELEMENTARY_CHARGE
"""J / K."""

_CUTOFF, _APART = 5.0, 5.5
"""Range of the potential, and the distance at which a pair begins, sigma."""

LENNARD_JONES = LennardJones((1.0,), (1.0,), _CUTOFF, ("Ar",))

_LONGEST = 30.0
"""Time after which a pair that still orbits is given up, sigma over relative speed."""


@dataclass(frozen=True)
class Molecules:
    """Spheres whose potential has one well.

    Attributes:
        epsilon: depth of the well over the Boltzmann constant, K.
        sigma: where the potential is zero, angstrom.
        mass: amu.
    """

    epsilon: float
    sigma: float
    mass: float

    @property
    def gas_constant(self) -> float:
        """Boltzmann constant over mass, J / (kg K)."""
        return BOLTZMANN / (self.mass * ATOMIC_MASS_KG)

    def viscosity(self, temperature: Tensor, integral: Tensor) -> Tensor:
        """Return the viscosity, Pa s.

        Args:
            temperature: K.
            integral: Omega(2,2)*, the collision integral over that of hard spheres.
        """
        area = math.pi * (self.sigma * 1e-10) ** 2
        momentum = (math.pi * self.mass * ATOMIC_MASS_KG * BOLTZMANN * temperature).sqrt()
        return 5.0 / 16.0 * momentum / (area * integral)


def neufeld(reduced: Tensor) -> Tensor:
    """Return Omega(2,2)* of Lennard-Jones spheres at ``k T / epsilon``, 0.3 to 100.

    A fit to the integral with an error of 0.1 %, independent of our dynamics: P. D.
    Neufeld, A. R. Janzen, R. A. Aziz, J. Chem. Phys. 57, 1100 (1972), table I, without the
    sine term (under 0.1 %).
    """
    return (
        1.16145 * reduced**-0.14874
        + 0.52487 * (-0.77320 * reduced).exp()
        + 2.16178 * (-2.43787 * reduced).exp()
    )


@dataclass(frozen=True)
class Conditions:
    """Where the flow asks for a rate.

    Attributes:
        temperature: K.
        density: kg / m^3; decides only whether collisions of two are all there are.
    """

    temperature: float
    density: float = 0.0


@dataclass(frozen=True)
class Viscosity:
    """The answer: Pa s, and one standard error."""

    value: float
    error: float


def _pack_conditions(sample: Conditions) -> dict[str, Tensor]:
    # of a dilute gas the viscosity does not depend on the density, so neither does the key
    return {"temperature": torch.tensor(sample.temperature, dtype=torch.float64)}


def _unpack_conditions(tensors: Mapping[str, Tensor]) -> Conditions:
    return Conditions(float(tensors["temperature"]))


def _pack_viscosity(label: Viscosity) -> dict[str, Tensor]:
    return {n: torch.tensor(v, dtype=torch.float64) for n, v in vars(label).items()}


def _unpack_viscosity(tensors: Mapping[str, Tensor]) -> Viscosity:
    return Viscosity(float(tensors["value"]), float(tensors["error"]))


CONDITIONS = Codec(_pack_conditions, _unpack_conditions)
VISCOSITIES = Codec(_pack_viscosity, _unpack_viscosity)


@dataclass(frozen=True)
class PairCollisions:
    """Labels conditions with the viscosity from simulated collisions of pairs.

    A :class:`~..protocols.Labeler`. Energies and impact parameters are points of scrambled
    Sobol sequences; the standard error is that of ``replicas`` independent scramblings.

    Attributes:
        molecules: what collides.
        pairs: trajectories of a replica.
        replicas: independent repetitions, at least 4.
        reach: largest impact parameter, sigma; beyond 3 the deflection does not count.
        stride: length that a pair moves in a time step, sigma.
        packing: ``n sigma^3`` from which on the gas is not dilute.
        seed: of the scrambling.
        potential: of a pair; energies in epsilon, lengths in sigma, nothing beyond 5.
    """

    molecules: Molecules
    pairs: int = 512
    replicas: int = 8
    reach: float = 3.0
    stride: float = 0.01
    packing: float = 0.01
    seed: int = 1
    potential: Potential = LENNARD_JONES

    def __post_init__(self) -> None:
        if self.replicas < 4 or self.pairs < 16:
            raise InputError(
                f"collisions: {self.replicas} replicas of {self.pairs} pairs; at least 4 "
                "of 16, or there is no error bar"
            )

    def label(self, sample: Conditions) -> Viscosity:
        """Return the viscosity.

        Raises:
            LabelError: the gas is not dilute, or pairs orbit too long.
        """
        molecules = self.molecules
        number = sample.density / (molecules.mass * ATOMIC_MASS_KG)
        filled = number * (molecules.sigma * 1e-10) ** 3
        if filled > self.packing:
            raise LabelError(
                f"n sigma^3 = {filled:.3g} at {sample.density:.4g} kg/m^3: not dilute, "
                f"more than two collide (at most {self.packing:g})"
            )
        integrals = self.integrals(sample.temperature / molecules.epsilon)
        temperature = torch.tensor(sample.temperature, dtype=torch.float64)
        value = float(molecules.viscosity(temperature, integrals.mean()))
        relative = float(integrals.std() / integrals.mean()) / math.sqrt(self.replicas)
        return Viscosity(value, value * relative)

    def integrals(self, reduced: float) -> Tensor:
        """Return Omega(2,2)* of every replica, ``[replicas]``, at ``k T / epsilon``."""
        from scipy.stats import qmc  # takes long to import

        streams = [np.random.default_rng([self.seed, k]) for k in range(self.replicas)]
        sets = [qmc.Sobol(2, rng=rng).random(self.pairs) for rng in streams]
        points = np.concatenate(sets)
        energy = torch.from_numpy(reduced * gammaincinv(4.0, points[:, 0]))
        impact = self.reach * torch.from_numpy(points[:, 1]).sqrt()
        cosine = deflection(energy, impact, self.stride, self.potential)
        weight = 1.5 * self.reach**2 * (1.0 - cosine.square())
        return weight.reshape(self.replicas, self.pairs).mean(1)


def colliding(table: Table, mass: float) -> tuple[Molecules, Potential]:
    """Return the molecules of a pair potential (K, angstrom), and it in their units.

    Raises:
        InputError: it has no well, whose depth and place are the units.
    """
    bottom = table.marks.minimum
    if bottom is None:
        raise InputError("pair potential: repulsive everywhere; one with a well is needed")

    def energy(t: Tensor) -> tuple[Tensor, Tensor]:
        value, by_ln_r = table.at(t, 1)
        return value, by_ln_r

    with torch.no_grad():
        depth = -float(table.at(bottom)[0])
        inner = torch.tensor(math.log(table.smallest), dtype=torch.float64)
        sigma = float(root(energy, inner, bottom.detach()).exp())

    def reduced(r: Tensor) -> Tensor:
        return table(sigma * r) / depth

    potential = TabulatedPotential.of(
        reduced, 1.001 * table.smallest / sigma, _CUTOFF, "Ar", unit=1.0, farthest=0.0
    )
    return Molecules(depth, sigma, mass), potential


def deflection(
    energy: Tensor,
    impact: Tensor,
    stride: float = 0.01,
    potential: Potential = LENNARD_JONES,
) -> Tensor:
    """Return the cosine of the angle by which colliding pairs are deflected, ``[pairs]``.

    Args:
        energy: kinetic energy of the relative motion, epsilon, ``[pairs]``.
        impact: impact parameter, sigma, ``[pairs]``.
        stride: length that a free pair moves in a time step, sigma.
        potential: of a pair; energies in epsilon, lengths in sigma, nothing beyond 5.

    Raises:
        LabelError: more than one pair in a thousand orbits beyond all patience.
    """
    count = len(energy)
    world = MolecularDynamics(
        potential, Verlet(), _pairs(energy, impact), stride, skin=2.0, units=REDUCED
    )
    engine, chunk = Host(world), math.ceil(1.0 / stride)
    while True:
        engine.step(chunk)
        speeds = engine.array("momenta") / engine.array("masses")[:, None]
        both = (x.reshape(count, 2, 3) for x in (engine.array("positions"), speeds))
        distance, velocity = (x[:, 0] - x[:, 1] for x in both)
        leaving = (distance * velocity).sum(1) > 0
        inside = ~(leaving & (distance.norm(dim=1) > _CUTOFF))
        if not bool(inside.any()):
            break
        if engine.time > _LONGEST:
            if float(inside.double().mean()) > 1e-3:
                raise LabelError(
                    f"{int(inside.sum())} of {count} pairs orbit for longer than "
                    f"{_LONGEST:g} sigma; the temperature is too low for this method"
                )
            break
    return velocity[:, 0] / velocity.norm(dim=1)


def _pairs(energy: Tensor, impact: Tensor) -> ParticleState:
    """Pairs that fly at each other with relative speed one, far from all other pairs."""
    count = len(energy)
    mass = 4.0 * energy  # E = (m / 2) g^2 / 2 with g = 1
    place = torch.zeros(count, 2, 3, dtype=torch.float64)
    place[:, :, 0] = torch.tensor([-0.5, 0.5]) * _APART
    place[:, :, 1] = torch.tensor([0.5, -0.5]) * impact[:, None]
    momenta = torch.zeros_like(place)
    momenta[:, :, 0] = torch.tensor([0.5, -0.5]) * mass[:, None]
    side = math.ceil(count ** (1 / 3))
    room = 2 * (_LONGEST + _CUTOFF)  # no pair reaches another before it is given up
    number = torch.arange(count)
    grid = torch.stack([number // side**2, number // side % side, number % side], 1)
    place = (place + room * grid[:, None]).reshape(-1, 3)
    none, cell = torch.zeros_like(place), torch.zeros(1, 3, 3, dtype=torch.float64)
    whole = torch.zeros(2 * count, dtype=torch.int32)
    return ParticleState(
        positions=place,
        momenta=momenta.reshape(-1, 3),
        masses=mass.repeat_interleave(2),
        species=whole,
        system=whole,
        cell=cell,
        periodic=torch.zeros(1, 3, dtype=torch.bool),
        energy=torch.zeros(1, dtype=torch.float64),
        forces=none,
        virial=torch.zeros_like(cell),
        anchor=place,
        anchor_cell=cell,
        step=torch.zeros(1, dtype=torch.int64),
        seed=torch.zeros(1, dtype=torch.int64),
    )
