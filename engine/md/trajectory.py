"""A trajectory as extended XYZ, for other programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from torch import Tensor

from .state import ParticleState
from .structure import to_atoms


class ExtxyzWriter:
    """Appends frames with energies and forces to ``trajectory.extxyz`` of a run folder.

    Of several systems each has a file of its own, ``trajectory_0.extxyz`` and so on. On
    resume, what was written after the checkpoint is cut off.

    Args:
        folder: the run folder, which has a ``path``.
        species: chemical symbols.
        fixed: ``[atoms]`` bool, the atoms that stand still, or None.
    """

    def __init__(
        self, folder: Any, species: Sequence[str], fixed: Tensor | None = None
    ) -> None:
        self._folder: Path = folder.path
        self._species, self._fixed = tuple(species), fixed
        self._sizes: list[int] = []

    def _path(self, system: int, systems: int) -> Path:
        name = "trajectory" if systems == 1 else f"trajectory_{system}"
        return self._folder / f"{name}.extxyz"

    def write(
        self, step: int, time: float, state: ParticleState, observed: Mapping[str, Tensor]
    ) -> None:
        """Append one frame of every system."""
        forces, energy = state.forces.detach().cpu().double(), observed["potential_energy"]
        self._sizes = self._sizes or [0] * state.systems
        for system in range(state.systems):
            atoms = to_atoms(state, self._species, system)
            mine = (state.system == system).cpu()
            atoms.calc = SinglePointCalculator(
                atoms, energy=float(energy[system]), forces=forces[mine].numpy()
            )
            atoms.info.update({"step": step, "time": time})
            if self._fixed is not None:
                atoms.set_constraint(FixAtoms(mask=self._fixed.cpu()[mine].numpy()))
            if state.deviation.numel():
                atoms.set_array("deviation", state.deviation.cpu()[mine].double().numpy())
            path = self._path(system, state.systems)
            ase.io.write(path, atoms, format="extxyz", append=self._sizes[system] > 0)
            self._sizes[system] = path.stat().st_size

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the sizes of the files."""
        return {"sizes": torch.tensor(self._sizes, dtype=torch.int64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Cut off what was written after the checkpoint."""
        self._sizes = tensors["sizes"].tolist()
        for system, size in enumerate(self._sizes):
            with open(self._path(system, len(self._sizes)), "r+b") as file:
                file.truncate(size)
