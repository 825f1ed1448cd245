"""Between ASE's structures and states of particles."""

from collections.abc import Sequence

import torch
from ase import Atoms
from torch import Tensor

from ..errors import InputError
from .state import ParticleState


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
        return torch.as_tensor(values, dtype=dtype).contiguous().to(device)

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
        forces=torch.zeros_like(positions),
        virial=torch.zeros(1, 3, 3, dtype=torch.float64, device=device),
        anchor=positions,
        anchor_cell=cell,
        step=torch.zeros(1, dtype=torch.int64, device=device),
        seed=torch.tensor([seed], dtype=torch.int64, device=device),
    )


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
