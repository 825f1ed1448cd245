"""ASE in both directions: our potentials as its calculators, and its as our potentials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.calculators.emt import EMT
from ase.stress import full_3x3_to_voigt_6_stress

from ...models.parts import part
from ..errors import InputError
from ..md.interactions import Place
from ..md.neighbours import Neighbours, build_neighbours
from ..md.potential import Potential
from ..md.state import Interaction, ParticleState
from ..md.structure import from_atoms, to_atoms
from ..runtime import own_defaults


class PotentialCalculator(Calculator):
    """Any potential of molecular dynamics as a calculator of ASE.

    Gives ``energy`` (eV), ``forces`` (eV/angstrom), ``stress`` (eV/angstrom^3, Voigt, ASE's
    sign: positive is tension) and ``deviation`` (eV/angstrom, committees only). The
    neighbour list is kept while atoms move less than half the skin.

    Args:
        potential: what to evaluate.
        skin: margin of the neighbour list, angstrom.
        dtype: precision.
        device: where to compute.
    """

    implemented_properties: ClassVar = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "deviation",
    ]

    def __init__(
        self,
        potential: Potential,
        skin: float = 0.5,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.potential, self._skin = potential, skin
        self._dtype, self._device = dtype, device
        self._list: tuple[ParticleState, Neighbours] | None = None

    @own_defaults()
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate; called by ASE."""
        super().calculate(atoms, list(properties), list(system_changes))
        state = from_atoms(
            self.atoms,  # type: ignore[arg-type]
            self.potential.species,
            dtype=self._dtype,
            device=self._device,
        )
        found = self.potential(state, self._neighbours(state))
        energy = float(found.energy)
        if not (math.isfinite(energy) and bool(found.forces.isfinite().all())):
            raise InputError(
                "energy or forces are not finite here; do two atoms stand on one spot?"
            )
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": found.forces.detach().double().cpu().numpy(),
        }
        volume = float(state.cell[0].double().det().abs())
        if bool(state.periodic.all()):
            stress = -found.virial[0].detach().double().cpu().numpy() / volume
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif "stress" in properties:
            raise PropertyNotImplementedError("stress needs a cell periodic in all axes")
        if found.deviation.numel():
            self.results["deviation"] = found.deviation.detach().double().cpu().numpy()

    def _neighbours(self, state: ParticleState) -> Neighbours:
        if self._list is not None:
            old, table = self._list
            same = (
                old.atoms == state.atoms
                and torch.equal(old.cell, state.cell)
                and torch.equal(old.periodic, state.periodic)
            )
            if same:
                far = (state.positions - old.positions).norm(dim=1).max()
                if float(far) < 0.5 * self._skin:
                    return table
        table = build_neighbours(state, self.potential.cutoff, self._skin)
        self._list = (state, table)
        return table


@dataclass(frozen=True)
class AsePotential:
    """Any calculator of ASE as a potential of our dynamics.

    Slow, since every system is handed over each step; meant for references and labels.

    Attributes:
        calculator: gives energy and forces, and stress if it can.
        species: chemical symbols.
    """

    calculator: BaseCalculator
    species: tuple[str, ...]
    cutoff: float = field(default=0.0, init=False)

    def __call__(self, state: ParticleState, neighbours: Neighbours) -> Interaction:
        """Energy, forces and virial (NaN where the calculator has no stress)."""
        energies, forces, virials = [], [], []
        for system in range(state.systems):
            atoms = to_atoms(state, self.species, system)
            atoms.calc = self.calculator
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
            virials.append(self._virial(atoms))
        return Interaction(
            torch.tensor(energies, dtype=torch.float64, device=state.energy.device),
            torch.as_tensor(np.concatenate(forces)).to(state.positions).contiguous(),
            torch.as_tensor(np.stack(virials)).to(state.energy.device),
        )

    def _virial(self, atoms: Atoms) -> np.ndarray:
        if not atoms.pbc.all():
            return np.full((3, 3), np.nan)
        try:
            return -atoms.get_stress(voigt=False) * atoms.get_volume()
        except PropertyNotImplementedError:
            return np.full((3, 3), np.nan)


@part
class AseInteraction:
    """A calculator of ASE drives the dynamics."""

    calculator: Literal["emt"]
    """emt: effective medium theory for Al, Cu, Ag, Au, Ni, Pd, Pt."""
    kind: Literal["ase"] = "ase"

    def potential(self, place: Place) -> AsePotential:
        """Return the calculator as a potential."""
        return AsePotential(EMT(), ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"))
