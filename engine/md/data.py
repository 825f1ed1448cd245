"""Labelled configurations as a state of particles."""

from collections.abc import Sequence

import numpy as np
import torch

from ..data.frames import LabelledFrame, group_indices, species_of, split_frames
from ..data.reading import read_all, read_frames
from ..errors import InputError
from .state import ParticleState


def as_state(frames: Sequence[LabelledFrame], species: Sequence[str]) -> ParticleState:
    """Put the configurations side by side, one system each, f64; labels are left out.

    Raises:
        InputError: an element that ``species`` lacks.
    """
    place = {symbol: index for index, symbol in enumerate(species)}
    for frame in frames:
        for number, symbol in enumerate(frame.symbols):
            if symbol not in place:
                raise InputError(
                    f"{frame.origin}, atom {number}: {symbol} is not among "
                    f"{', '.join(species)}"
                )
    sizes = torch.tensor([len(frame.symbols) for frame in frames])
    kinds = [place[symbol] for frame in frames for symbol in frame.symbols]
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    cell = torch.from_numpy(np.stack([frame.cell for frame in frames]))
    systems, atoms = len(frames), len(positions)
    return ParticleState(
        positions=positions,
        momenta=torch.zeros_like(positions),
        masses=positions.new_ones(atoms),
        species=torch.tensor(kinds, dtype=torch.int32),
        system=torch.repeat_interleave(torch.arange(systems), sizes).to(torch.int32),
        cell=cell,
        periodic=torch.from_numpy(np.stack([frame.periodic for frame in frames])),
        energy=positions.new_zeros(systems),
        forces=torch.zeros_like(positions),
        virial=torch.zeros_like(cell),
        anchor=positions,
        anchor_cell=cell,
        step=torch.zeros(systems, dtype=torch.int64),
        seed=torch.zeros(systems, dtype=torch.int64),
    )


__all__ = [
    "LabelledFrame",
    "as_state",
    "group_indices",
    "read_all",
    "read_frames",
    "species_of",
    "split_frames",
]
