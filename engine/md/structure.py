"""Between ASE's structures and states of particles."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from ..errors import InputError
from ..runtime import available_memory, own_defaults
from .neighbours import build_neighbours
from .state import ParticleState, concatenate
from .units import METAL, Units


@own_defaults()
def from_atoms(
    atoms: Atoms,
    species: Sequence[str],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> ParticleState:
    """Make one system from ASE's ``atoms`` (positions, momenta, cell, masses).

    Args:
        atoms: angstrom, amu.
        species: chemical symbols of the world; ``state.species`` indexes them.
        seed: keys the noise of this system.
        dtype: of all real tensors.
        device: of all tensors.

    Raises:
        InputError: an element is not among ``species``.
    """
    symbols = atoms.get_chemical_symbols()
    for number, symbol in enumerate(symbols):
        if symbol not in species:
            raise InputError(
                f"atom {number}: the potential does not know {symbol}; "
                f"it knows {', '.join(species)}"
            )
    count = len(atoms)

    def real(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=device).contiguous()

    positions, cell = real(atoms.get_positions()), real(atoms.cell.array[None].copy())
    return ParticleState(
        positions=positions,
        momenta=real(atoms.get_momenta()),
        masses=real(atoms.get_masses()),
        species=torch.tensor(
            [list(species).index(s) for s in symbols], dtype=torch.int32, device=device
        ),
        system=torch.zeros(count, dtype=torch.int32, device=device),
        cell=cell,
        periodic=torch.tensor(atoms.pbc[None].copy(), device=device),
        energy=torch.zeros(1, dtype=torch.float64, device=device),
        forces=real(np.zeros((count, 3))),  # pages that nobody touches take no memory
        virial=torch.zeros(1, 3, 3, dtype=torch.float64, device=device),
        anchor=positions,
        anchor_cell=cell,
        step=torch.zeros(1, dtype=torch.int64, device=device),
        seed=torch.tensor([seed], dtype=torch.int64, device=device),
    )


def replicas(
    atoms: Atoms,
    species: Sequence[str],
    seeds: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
    name: str,
) -> ParticleState:
    """Return copies of ``atoms`` as systems of one state, one for each seed.

    Raises:
        InputError: an element is not among ``species``; says ``name``.
    """
    try:
        states = [
            from_atoms(atoms, species, seed=seed, dtype=dtype, device=device)
            for seed in seeds
        ]
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return concatenate(states) if len(states) > 1 else states[0]


def to_atoms(state: ParticleState, species: Sequence[str], system: int = 0) -> Atoms:
    """Return one system as ASE's ``Atoms`` with momenta."""
    mine = (state.system == system).cpu()
    atoms = Atoms(
        [species[k] for k in state.species.cpu()[mine].tolist()],
        positions=state.positions.detach().cpu()[mine].double().numpy(),
        cell=state.cell[system].detach().cpu().double().numpy(),
        pbc=state.periodic[system].cpu().numpy(),
    )
    atoms.set_masses(state.masses.cpu()[mine].tolist())  # type: ignore[arg-type]
    atoms.set_momenta(state.momenta.detach().cpu()[mine].double().numpy())
    return atoms


CLOSEST = 0.05
"""Two atoms nearer than this, angstrom, stand on one spot: a mistake in the file."""

_FARTHEST = 1e7
"""Angstrom; beyond it, image numbers and f32 positions lose their meaning."""

_MOST_PLACES = 50_000_000


def check_memory(state: ParticleState, reach: float, name: str) -> None:
    """Refuse more atoms than the memory holds with their neighbours.

    Per atom about forty numbers of the state, copies included, and four bytes for each
    neighbour within ``reach`` angstrom (a liquid's, half as many again as the mean).

    Raises:
        InputError: they need more than the machine has.
    """
    volume = state.cell.double().det().abs().clamp(min=1e-9)
    density = torch.where(state.periodic.all(1), state.counts / volume, 0.1)
    near = 1.5 * density * 4 / 3 * math.pi * reach**3
    each = 40 * state.positions.element_size() + 4 * near
    needed = float((each * state.counts).sum())
    present = available_memory()
    if needed > present:
        raise InputError(
            f"{name}: {state.atoms} atoms need about {needed / 2**30:.1f} GiB, this "
            f"machine has {present / 2**30:.1f}; fewer replicas, or a smaller cell"
        )


def check_structure(state: ParticleState, cutoff: float, name: str) -> None:
    """Refuse structures that no potential can answer for.

    Raises:
        InputError: no atoms, coordinates that are not finite, a periodic cell without
            volume or so small that the cutoff reaches millions of its images, or two
            atoms on one spot.
    """
    if state.atoms == 0:
        raise InputError(f"{name}: holds no atoms")
    for what in ("positions", "momenta", "cell"):
        finite = torch.isfinite(getattr(state, what)).flatten(1).all(1)
        size = getattr(state, what).abs()
        if bool(finite.all()) and bool((size > _FARTHEST).any()):
            raise InputError(f"{name}: {what} of {float(size.max()):.3g} are absurd")
        if not bool(finite.all()):
            number = int((~finite).int().argmax())
            owner = "system" if what == "cell" else "atom"
            raise InputError(f"{name}: {what} of {owner} {number} are not finite")
    lengths = state.cell.double().norm(dim=2)
    open_ = torch.where(state.periodic, lengths, torch.ones_like(lengths))
    images = torch.where(state.periodic, 1 + 2 * cutoff / open_.clamp(min=1e-9), 1.0)
    if float((images.prod(1) * state.counts).sum()) > _MOST_PLACES:
        raise InputError(
            f"{name}: the cell is far too small for a cutoff of {cutoff:g}; "
            "check its lattice vectors, or repeat it"
        )
    table = build_neighbours(replace(state, anchor=state.positions), CLOSEST, 0.0)
    if int(table.count.max()) > 0:
        first = int((table.count > 0).int().argmax())
        second = int(table.index[first, 0])
        raise InputError(f"{name}: atoms {first} and {second} stand on one spot")


def check_lengths(
    state: ParticleState, species: Sequence[str], cutoff: float, name: str
) -> Iterator[str]:
    """Refuse lengths that can hardly be angstrom; say so where no atoms interact.

    Half of at least eight atoms nearer to another than .8 of the smallest covalent radius
    are no bonds, compressed or in collision: nm, or fractions of a cell.

    Args:
        state: in metal units.
        species: chemical symbols of the world.
        cutoff: of the potential, angstrom.
        name: of the structure.

    Raises:
        InputError: as above.
    """
    around = replace(state, anchor=state.positions)
    present = [species[int(index)] for index in state.species.unique()]
    near = 0.8 * min(float(covalent_radii[atomic_numbers[s]]) for s in present)
    close = (build_neighbours(around, near, 0.0).count > 0).double().mean()
    if state.atoms >= 8 and float(close) >= 0.5:
        raise InputError(
            f"{name}: half of its atoms are nearer than {near:.2g} angstrom to another; "
            "lengths are in angstrom"
        )
    if state.atoms > 1 and not int(build_neighbours(around, cutoff, 0.0).count.max()):
        yield (
            f"{name}: no two atoms are within the potential's cutoff of {cutoff:.3g} "
            "angstrom, so no forces act at the start"
        )


def longest_time_step(masses: Tensor) -> float:
    """Return the time step, fs, above which the lightest atom's bonds are unstable.

    Velocity Verlet needs dt < T / pi; a bond to hydrogen, the stiffest there is, has
    T = 9 fs (3700 / cm), and T grows as the square root of the mass.
    """
    return 9.0 / math.pi * math.sqrt(float(masses.min()) / 1.008)


def check_time_step(given: float, masses: Tensor, units: Units) -> None:
    """Refuse a time step that is unstable for the lightest atom.

    Args:
        given: fs, or in reduced units.
        masses: ``[atoms]`` amu, or reduced.
        units: of both; reduced, the limit is 0.05 sqrt(m).

    Raises:
        InputError: it is too long.
    """
    lightest = float(masses.min())
    metal = units is METAL
    longest = longest_time_step(masses) if metal else 0.05 * math.sqrt(lightest)
    unit = " fs" if metal else ""
    if given > longest:
        raise InputError(
            f"run.timestep: {given:g}{unit} is too long for the lightest "
            f"atom ({lightest:g}); at most {longest:.3g}{unit}"
        )
