"""The metatomic face of a potential; imports the optional packages."""

from collections.abc import Mapping
from typing import Any, Dict, List, Optional  # noqa: UP035 - TorchScript reads these

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)
from torch import nn


class MetatomicPotential(nn.Module):
    """Collects the pairs of all systems, and sorts the energies as metatomic asks."""

    def __init__(self, energies: torch.jit.ScriptModule, cutoff: float) -> None:
        super().__init__()
        self.energies = energies
        self._request = NeighborListOptions(cutoff=cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        """Return the one list that the potential needs."""
        return [self._request]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels],  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        """Return the energy of every system, or of every atom."""
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy" not in outputs:
            return results
        vectors: List[torch.Tensor] = []  # noqa: UP006
        centres: List[torch.Tensor] = []  # noqa: UP006
        others: List[torch.Tensor] = []  # noqa: UP006
        numbers: List[torch.Tensor] = []  # noqa: UP006
        rows: List[torch.Tensor] = []  # noqa: UP006
        start = 0
        for index, system in enumerate(systems):
            pairs = system.get_neighbor_list(self._request)
            samples = pairs.samples.values
            vectors.append(pairs.values.reshape(-1, 3))
            centres.append(samples[:, 0].to(torch.int64) + start)
            others.append(samples[:, 1].to(torch.int64) + start)
            numbers.append(system.types.to(torch.int64))
            atoms = torch.arange(len(system), device=samples.device)
            rows.append(torch.stack([torch.full_like(atoms, index), atoms], 1))
            start += len(system)
        displacements = torch.cat(vectors)
        energies = self.energies(
            displacements, torch.cat(centres), torch.cat(others), torch.cat(numbers)
        )
        labels = torch.cat(rows)
        if selected_atoms is not None:
            chosen = torch.zeros(labels.shape[0], dtype=torch.bool, device=labels.device)
            for row in selected_atoms.values.to(torch.int64):
                chosen = chosen | (labels == row).all(1)
            energies, labels = energies[chosen], labels[chosen]
        if outputs["energy"].sample_kind == "atom":
            names, values = ["system", "atom"], energies
        else:
            names = ["system"]
            values = torch.zeros(len(systems), dtype=energies.dtype, device=energies.device)
            values = values.index_add(0, labels[:, 0], energies)
            labels = torch.arange(len(systems), device=labels.device).reshape(-1, 1)
        block = TensorBlock(
            values=values.to(displacements.dtype).reshape(-1, 1),
            samples=Labels(names, labels.to(torch.int32)),
            components=torch.jit.annotate(List[Labels], []),  # noqa: UP006
            properties=Labels(
                ["energy"], torch.zeros(1, 1, dtype=torch.int32, device=labels.device)
            ),
        )
        single = Labels(["_"], torch.zeros(1, 1, dtype=torch.int32, device=labels.device))
        results["energy"] = TensorMap(single, [block])
        return results


def wrap(
    energies: torch.jit.ScriptModule,
    potential: nn.Module,
    precision: torch.dtype,
    card: Mapping[str, Any],
) -> AtomisticModel:
    """Return the ``AtomisticModel`` of scripted atomic energies."""
    from ase.data import atomic_numbers

    cutoff = float(potential.cutoff)  # type: ignore[arg-type]
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=[atomic_numbers[s] for s in potential.species],  # type: ignore[union-attr]
        interaction_range=cutoff,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float32" if precision == torch.float32 else "float64",
    )
    metadata = ModelMetadata(
        name=str(card.get("name", card.get("form", "potential"))),
        description=str(card.get("description", "A learned potential of scalebridge.")),
    )
    model = MetatomicPotential(energies, cutoff).eval()
    return AtomisticModel(model, metadata, capabilities)  # type: ignore[arg-type]
