"""A saved potential against labelled frames: errors by group, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.examination import examine
from ...data.frames import LabelledFrame, group_indices, species_of
from ...data.reading import read
from ...errors import InputError
from ...md.learned import load_potential
from .elastic import elastic_figures
from .linear import errors_of, is_linear
from .potential import Errors, evaluate
from .tables import TrainingSet


@dataclass(frozen=True)
class GroupErrors:
    """Root mean square errors of the frames of one group.

    Attributes:
        name: of the group; ``all`` for all of them.
        frames: how many.
        energy: eV/atom.
        energy_interval: 95 % of its bootstrap over frames.
        force: eV/angstrom.
        force_interval: the same.
        virial: eV/atom; NaN where no frame has one.
    """

    name: str
    frames: int
    energy: float
    energy_interval: tuple[float, float]
    force: float
    force_interval: tuple[float, float]
    virial: float


def model_errors(model: Any, frames: Sequence[LabelledFrame]) -> tuple[Errors, TrainingSet]:
    """Return the errors of a potential of any form, and the set with its neighbours.

    Raises:
        InputError: an element that the potential does not know.
    """
    species = tuple(model.species)
    data = TrainingSet.of(frames, species, model.cutoff, torch.float64)
    if is_linear(model.config):
        return errors_of(model, data), data
    data.prepare(model)
    return evaluate(model, data, range(len(frames))), data


def by_group(errors: Errors, frames: Sequence[LabelledFrame]) -> list[GroupErrors]:
    """Return the errors of all frames, then of every group, if there are several."""
    groups = group_indices(frames)
    found = [_row("all", errors, list(range(len(frames))))]
    if len(groups) > 1:
        found += [_row(name or "-", errors, rows) for name, rows in sorted(groups.items())]
    return found


def _row(name: str, errors: Errors, rows: list[int]) -> GroupErrors:
    part = of_frames(errors, rows)
    interval = part.interval()
    virial = part.virial[-1]
    known = torch.isfinite(virial)
    size = (
        float(virial[known].square().mean().sqrt()) if bool(known.any()) else float("nan")
    )
    return GroupErrors(
        name, len(rows), part.energy_rmse, interval["energy"], part.force_rmse,
        interval["force"], size,
    )  # fmt: skip


def of_frames(errors: Errors, rows: Sequence[int]) -> Errors:
    """Return the errors of some frames."""
    chosen = torch.tensor(list(rows))
    place = torch.full((errors.energy.shape[1],), -1)
    place[chosen] = torch.arange(len(chosen))
    atoms = place[errors.frame] >= 0
    by_atom = {"forces": 1, "deviation": 0, "predicted_forces": 0}
    by_frame = {"energy": 1, "virial": 1, "predicted_energy": 0}

    def part(name: str) -> Tensor:
        value: Tensor = getattr(errors, name)
        if name in by_frame:
            return value.index_select(by_frame[name], chosen)
        return value.index_select(by_atom[name], atoms.nonzero()[:, 0])

    names = [f.name for f in fields(Errors) if f.name != "frame"]
    return replace(
        errors, **{n: part(n) for n in names}, frame=place[errors.frame[atoms]]
    )  # fmt: skip


def report(model: Path, data: Sequence[Path]) -> str:
    """Return a table of the errors of a saved model on labelled frames.

    Raises:
        InputError: model or data are missing, or an element that it does not know.
    """
    potential = load_potential(model)
    examined = examine([read(path) for path in data])
    frames = examined.frames
    strange = sorted(set(species_of(frames)) - set(potential.species))
    if strange:
        raise InputError(f"{data[0]}: {strange[0]} is not known to {model.name}")
    errors, made = model_errors(potential.module, frames)
    lines = [*examined.said, *examined.refused]
    lines += [
        f"{'group':16}{'frames':>7}  {'energy meV/atom':>26}  {'force eV/angstrom':>26}"
        f"  {'virial eV/atom':>14}"
    ]
    for row in by_group(errors, frames):
        energy = _spread(1e3 * row.energy, [1e3 * x for x in row.energy_interval], 2)
        force = _spread(row.force, row.force_interval, 4)
        lines.append(
            f"{row.name:16}{row.frames:>7}  {energy:>26}  {force:>26}  {row.virial:>14.4f}"
        )
    lines += [
        f"{name}: {figure.value:.4g} {figure.unit} ({figure.note})"
        for name, figure in elastic_figures(made, errors).items()
    ]
    return "\n".join(lines)


def _spread(value: float, interval: Sequence[float], digits: int) -> str:
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


__all__ = ["GroupErrors", "by_group", "model_errors", "of_frames", "report"]
