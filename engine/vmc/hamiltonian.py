"""What the electrons feel: molecules and harmonic traps, in hartree atomic units."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor

from ...models.parts import part
from ...models.wavefunctions.electrons import ELECTRONS, Cusps, Envelope
from ...models.wavefunctions.orbitals import OscillatorOrbitals, TabulatedOrbitals
from ..errors import InputError
from ..units import BOHR_ANGSTROM
from . import references
from .cores import Cores, Hops, cores_of
from .electron_gas import ElectronGas
from .hartree_fock import hartree_fock, orbitals_of

if TYPE_CHECKING:
    from ase import Atoms

COINCIDING = 0.05
"""Nuclei nearer than this (bohr) are refused."""
FARTHEST = 1000.0
"""Nuclei farther than this (bohr) from the origin are refused: single precision would round
the places of their electrons by more than a ten-thousandth of a bohr."""


def repulsion(r: Tensor) -> Tensor:
    """Return ``sum over i < j of 1 / |r_i - r_j|``, ``[batch]``, of ``[batch, n, dim]``."""
    count = r.shape[1]
    if count < 2:
        return r.new_zeros(len(r))
    i, j = torch.triu_indices(count, count, 1)
    return (r[:, i] - r[:, j]).norm(dim=-1).reciprocal().sum(-1)


@dataclass(frozen=True)
class Molecule:
    """Electrons in the field of clamped nuclei.

    ``V = - sum_iA Z_A / |r_i - R_A| + sum_i<j 1 / r_ij + sum_A<B Z_A Z_B / R_AB``, and the
    effective potentials of inner electrons where these are left out.

    Attributes:
        positions: nuclei ``[nuclei, 3]`` in bohr, float64.
        charges: nuclear charges ``[nuclei]``, float64, less the electrons left out.
        up: electrons with spin up; they come first in every array.
        down: electrons with spin down.
        exact: the exact total energy in hartree, where one is known.
        source: where that number is published.
        cores: potentials in place of inner electrons; None where all are there.
    """

    positions: Tensor
    charges: Tensor
    up: int
    down: int
    exact: float | None = None
    source: str = ""
    cores: Cores | None = None
    envelope: Envelope = field(default="exponential", init=False)
    cusps: Cusps | None = field(default=ELECTRONS, init=False)
    bosons: bool = field(default=False, init=False)
    period: None = field(default=None, init=False)

    @property
    def electrons(self) -> int:
        """Number of electrons."""
        return self.up + self.down

    @property
    def dim(self) -> int:
        """Number of space dimensions."""
        return 3

    @property
    def numbers(self) -> Tensor:
        """Atomic numbers ``[nuclei]``."""
        return self.charges if self.cores is None else self.charges + self.cores.electrons

    @property
    def nuclear_cusps(self) -> Tensor:
        """Charges ``[nuclei]`` whose pole an electron meets; none where cores are."""
        return self.charges if self.cores is None else self.charges - self.cores.poles

    def potential(self, r: Tensor) -> Tensor:
        """Return ``V [batch]`` in hartree at ``r [batch, electrons, 3]`` in bohr.

        The non-local part of core potentials is in :meth:`hops`.
        """
        poles, positions = self.nuclear_cusps.to(r), self.positions.to(r)
        distance = (r[:, :, None] - positions).norm(dim=-1)
        total = self.nuclear_repulsion - (poles / distance).sum((1, 2)) + repulsion(r)
        if self.cores is None:
            return total
        return total + self.cores.local(distance).sum((1, 2))

    def hops(self, r: Tensor, rng: torch.Generator) -> Hops | None:
        """Return the non-local part of core potentials at ``r``, None where there is none.

        See :meth:`~.cores.Cores.hops`.
        """
        return None if self.cores is None else self.cores.hops(r, self.positions, rng)

    def scale(self, r: Tensor) -> Tensor:
        """Return the length ``[batch, electrons, 1]`` on which the density changes at r.

        ``min over A of d_iA + 1 / Z_A``: how far an electron may jump.
        """
        charges, positions = self.charges.to(r), self.positions.to(r)
        distance = (r[:, :, None] - positions).norm(dim=-1)
        return (distance + 1 / charges).amin(-1, keepdim=True)

    @property
    def nuclear_repulsion(self) -> float:
        """Energy of the nuclei among themselves in hartree."""
        count = len(self.charges)
        i, j = torch.triu_indices(count, count, 1)
        distance = (self.positions[i] - self.positions[j]).norm(dim=-1)
        return float((self.charges[i] * self.charges[j] / distance).sum())

    def nuclear_forces(self) -> Tensor:
        """Return the forces ``[nuclei, 3]`` of the nuclei on each other, hartree / bohr."""
        difference = self.positions[:, None] - self.positions[None]
        distance = difference.norm(dim=-1)
        distance.fill_diagonal_(math.inf)
        strength = self.charges[:, None] * self.charges[None] / distance**3
        return (strength[..., None] * difference).sum(1)

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return ``[walkers, electrons, 3]``: electrons in the shells of the nuclei."""
        homes = self._homes()
        nuclei = [nucleus for nucleus, _ in homes]
        radius = torch.tensor([radius for _, radius in homes], dtype=torch.float64)
        spread = torch.randn(walkers, self.electrons, 3, generator=rng, dtype=torch.float64)
        return self.positions[nuclei] + 0.6 * radius[:, None] * spread

    def orbitals(self, basis: str) -> TabulatedOrbitals:
        """Return the occupied Hartree-Fock orbitals, those of the down electrons first.

        Raises:
            InputError: see :func:`~.hartree_fock.hartree_fock`.
        """
        return orbitals_of(self, hartree_fock(self, basis))

    def _homes(self) -> list[tuple[int, float]]:
        """Give every electron a nucleus and the radius of a shell, up electrons first.

        Neighbouring nuclei differ in spin where they can.
        """
        room = [
            (round(float(z)), round(float(q)))
            for z, q in zip(self.numbers, self.charges, strict=True)
        ]
        slots = [
            (a, shell_radius(z, k))
            for a, (z, q) in enumerate(room)
            for k in range(z - q, z)
        ]
        while len(slots) < self.electrons:
            slots.append((len(slots) % len(room), 2.0))
        homes: tuple[list[tuple[int, float]], ...] = ([], [])
        limits, last = (self.up, self.down), 1
        for slot in slots[: self.electrons]:
            kind = 1 - last if len(homes[1 - last]) < limits[1 - last] else last
            homes[kind].append(slot)
            last = kind
        return homes[0] + homes[1]


def shell_radius(charge: int, number: int) -> float:
    """Return Bohr's radius ``n^2 / (Z - inner electrons)`` of an atom's electron."""
    shell, inner = 1, 0
    while number >= inner + 2 * shell**2:
        inner += 2 * shell**2
        shell += 1
    return shell**2 / max(charge - inner, 1)


def molecule(
    symbols: Sequence[str],
    positions: Tensor | Sequence[Sequence[float]],
    charge: int = 0,
    spin: int | None = None,
    core: str | Mapping[str, str] | None = None,
) -> Molecule:
    """Return the molecule of ``symbols`` at ``positions`` in bohr.

    Args:
        symbols: chemical symbols.
        positions: ``[nuclei, 3]`` in bohr.
        charge: total charge; positive where electrons are missing.
        spin: number of unpaired electrons (up minus down); by default Hund's rule for a
            neutral atom, else the smallest possible.
        core: potential in place of inner electrons, of all elements or of some
            (:func:`~.cores.cores_of`).

    Raises:
        InputError: unknown element, impossible charge or spin, coinciding nuclei, no such
            core potential.
    """
    from ase.data import atomic_numbers

    unknown = [s for s in symbols if atomic_numbers.get(s, 0) < 1]
    if unknown:
        raise InputError(f"molecule: {unknown[0]!r} is no chemical element")
    if not symbols:
        raise InputError("molecule: no nuclei; at least one is needed")
    cores = cores_of(symbols, core)
    inner = [0] * len(symbols) if cores is None else [int(k) for k in cores.electrons]
    numbers = [atomic_numbers[s] - k for s, k in zip(symbols, inner, strict=True)]
    where = torch.as_tensor(positions, dtype=torch.float64).reshape(-1, 3)
    if len(where) != len(symbols):
        raise InputError(f"molecule: {len(symbols)} symbols but {len(where)} positions")
    if not bool(where.isfinite().all()):
        raise InputError("molecule: a position is not a finite number")
    electrons = sum(numbers) - charge
    if electrons < 1:
        raise InputError(
            f"molecule: charge {charge} leaves {electrons} of {sum(numbers)} electrons; "
            "at least 1 is needed"
        )
    if electrons > 2 * sum(numbers) + 2:
        raise InputError(
            f"molecule: charge {charge} binds {electrons} electrons to a nuclear "
            f"charge of {sum(numbers)}; no such anion exists"
        )
    if spin is None:
        spin = references.ground_spin(symbols, electrons + sum(inner))
    if spin < 0 or spin > electrons or (electrons - spin) % 2:
        parity = "even" if electrons % 2 == 0 else "odd"
        raise InputError(
            f"molecule: spin {spin} (unpaired electrons) is impossible for {electrons} "
            f"electrons; allowed: {parity} numbers from {electrons % 2} to {electrons}"
        )
    _refuse_coinciding(symbols, where)
    _refuse_distant(symbols, where)
    exact, source = None, ""
    if cores is None:
        exact, source = references.molecule_energy(symbols, where, electrons, spin)
    return Molecule(
        where,
        torch.tensor(numbers, dtype=torch.float64),
        (electrons + spin) // 2,
        (electrons - spin) // 2,
        exact,
        source,
        cores,
    )


@part
class Nuclei:
    """Electrons in the field of clamped nuclei."""

    symbols: Annotated[tuple[str, ...], MinLen(1)]
    """Chemical symbols of the nuclei."""
    positions: Annotated[tuple[tuple[float, float, float], ...], MinLen(1)]
    """Positions of the nuclei in ``unit``."""
    unit: Literal["bohr", "angstrom"] = "bohr"
    """Unit of the positions."""
    charge: int = 0
    """Total charge; positive where electrons are missing."""
    spin: Annotated[int, Ge(0)] | None = None
    """Unpaired electrons; by default those of the atom's ground state, else 0 or 1."""
    core: str | dict[str, str] | None = None
    """Effective potential in place of inner electrons: ``"ccecp"`` for all elements, or a
    table of the elements that have one, ``{Si = "ccecp"}``."""
    kind: Literal["molecule"] = "molecule"
    space: ClassVar[str] = "continuum"

    def __post_init__(self) -> None:
        if len(self.symbols) != len(self.positions):
            raise ValueError(
                f"{len(self.symbols)} symbols but {len(self.positions)} positions; "
                "every nucleus needs one"
            )

    def hamiltonian(self) -> Molecule:
        """Return the molecule.

        Raises:
            InputError: see :func:`molecule`.
        """
        scale = 1 / BOHR_ANGSTROM if self.unit == "angstrom" else 1.0
        positions = torch.tensor(self.positions, dtype=torch.float64) * scale
        return molecule(self.symbols, positions, self.charge, self.spin, self.core)


def _refuse_coinciding(symbols: Sequence[str], where: Tensor) -> None:
    distance = torch.cdist(where, where)
    distance.fill_diagonal_(math.inf)
    if len(where) > 1 and float(distance.min()) < COINCIDING:
        a, b = divmod(int(distance.argmin()), len(where))
        raise InputError(
            f"molecule: nuclei {a} ({symbols[a]}) and {b} ({symbols[b]}) are "
            f"{float(distance.min()):.3g} bohr apart; at least {COINCIDING} is needed"
        )


def _refuse_distant(symbols: Sequence[str], where: Tensor) -> None:
    away = where.norm(dim=1)
    if float(away.max()) > FARTHEST:
        a = int(away.argmax())
        raise InputError(
            f"molecule: nucleus {a} ({symbols[a]}) is {float(away[a]):.4g} bohr from the "
            f"origin; at most {FARTHEST:g} is allowed; move the molecule there"
        )


def from_atoms(atoms: "Atoms", charge: int = 0, spin: int | None = None) -> Molecule:
    """Return the molecule of ASE atoms (angstrom), not periodic.

    Raises:
        InputError: periodic atoms, or what :func:`molecule` refuses.
    """
    if atoms.pbc.any():
        raise InputError("molecule: periodic atoms; only isolated molecules can be solved")
    positions = torch.as_tensor(atoms.get_positions(), dtype=torch.float64) / BOHR_ANGSTROM
    return molecule(atoms.get_chemical_symbols(), positions, charge, spin)


@part
class Trap:
    """Particles in an isotropic harmonic trap.

    ``V = sum_i w^2 r_i^2 / 2 + sum_i<j g / r_ij``. With two electrons of opposite spin and
    ``w = 1/2`` it is Hooke's atom, whose ground state
    ``psi = (1 + r_12 / 2) exp(-(r_1^2 + r_2^2) / 4)`` has ``E = 2`` exactly (Kais,
    Herschbach, Levine, J. Chem. Phys. 91, 7791 (1989); Taut, Phys. Rev. A 48, 3561 (1993)).
    """

    omega: Annotated[float, Gt(0)] = 0.5
    """Trap frequency in hartree."""
    up: Annotated[int, Ge(1)] = 1
    """Particles of the first kind; all of them for bosons."""
    down: Annotated[int, Ge(0)] = 1
    """Particles of the second kind; 0 for bosons."""
    repulsion: Annotated[float, Ge(0)] = 1.0
    """Strength g of the repulsion g / r; 1 for electrons."""
    bosons: bool = False
    """Whether the wavefunction is symmetric under exchange."""
    dim: Literal[2, 3] = 3
    """Space dimensions."""
    kind: Literal["trap"] = "trap"
    space: ClassVar[str] = "continuum"
    envelope: ClassVar[Envelope] = "gaussian"
    period: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.bosons and self.down:
            raise ValueError("bosons are of one kind: down must be 0")
        if self.dim == 2 and self.repulsion:
            raise ValueError(
                "the cusp of 1/r in two dimensions is not supplied; repulsion must be 0"
            )

    def hamiltonian(self) -> "Trap":
        """Return the trap, which is its own Hamiltonian."""
        return self

    @property
    def cusps(self) -> Cusps | None:
        """How particles meet: bosons as opposite spins do.

        The orbitals of the empty trap leave all repulsion to the pair factor: it reaches as
        far as the trap.
        """
        if self.repulsion == 0:
            return None
        opposite = 0.5 * self.repulsion
        equal = opposite if self.bosons else 0.25 * self.repulsion
        return Cusps(opposite, equal, 2 / math.sqrt(self.omega))

    @property
    def electrons(self) -> int:
        """Number of particles."""
        return self.up + self.down

    @property
    def positions(self) -> Tensor:
        """The centre of the trap, ``[1, dim]``."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    @property
    def nuclear_cusps(self) -> Tensor:
        """No charge at the centre, ``[1]``."""
        return torch.zeros(1, dtype=torch.float64)

    @property
    def exact(self) -> float | None:
        """The exact energy: two particles, or any number that do not interact."""
        if self.repulsion == 0:
            levels = shell_energies(self.dim, self.electrons)
            kinds = [self.electrons] if self.bosons else [self.up, self.down]
            if self.bosons:
                return self.omega * self.dim / 2 * self.electrons
            return self.omega * sum(sum(levels[:count]) for count in kinds)
        if self.electrons != 2:
            return None
        momentum = 0 if self.bosons or self.down else 1
        return references.trapped_pair(self.omega, self.repulsion, momentum)

    @property
    def source(self) -> str:
        """Where the exact energy comes from."""
        if self.repulsion and self.electrons == 2:
            return "radial equation of the pair"
        return "" if self.repulsion else "closed form"

    def orbitals(self, basis: str) -> OscillatorOrbitals:
        """Return the lowest orbitals of the empty trap; there is no basis to choose."""
        del basis
        return OscillatorOrbitals(self.omega, self.dim, max(self.up, self.down))

    def potential(self, r: Tensor) -> Tensor:
        """Return ``V [batch]`` in hartree at ``r [batch, n, dim]`` in bohr."""
        trap = 0.5 * self.omega**2 * r.square().sum((1, 2))
        return trap + self.repulsion * repulsion(r) if self.repulsion else trap

    def hops(self, r: Tensor, rng: torch.Generator) -> None:
        """Return None: the potential is local."""

    def scale(self, r: Tensor) -> Tensor:
        """Return the length on which the density changes, everywhere that of the trap."""
        return r.new_full((*r.shape[:-1], 1), 1 / math.sqrt(self.omega))

    def start(self, walkers: int, rng: torch.Generator) -> Tensor:
        """Return ``[walkers, n, dim]``: the Gaussian of the empty trap."""
        noise = torch.randn(
            walkers, self.electrons, self.dim, generator=rng, dtype=torch.float64
        )
        return noise / math.sqrt(2 * self.omega)


def shell_energies(dim: int, count: int) -> list[float]:
    """Return the lowest ``count`` single-particle energies of a trap in units of omega."""
    energies: list[float] = []
    shell = 0
    while len(energies) < count:
        energies += [shell + dim / 2] * math.comb(shell + dim - 1, dim - 1)
        shell += 1
    return energies[:count]


Continuous = Molecule | Trap | ElectronGas
