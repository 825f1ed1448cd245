"""From a training scenario to the job that trains."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...models.potentials.cluster_expansion import NEIGHBOURS
from ...models.potentials.fields import with_species
from ...models.potentials.sums import ZblSum
from ..data.checks import Labels, check_training, remarks
from ..data.examination import examine
from ..data.frames import LabelledFrame, species_of, split_frames
from ..data.keys import located_set
from ..data.reading import read
from ..data.table import strange
from ..errors import InputError
from ..learn.trainers.job import TrainingJob
from ..learn.trainers.linear import LeastSquares, is_linear, shortest
from ..learn.trainers.linear_job import Candidate, LinearJob
from ..learn.trainers.potential import Settings
from ..learn.trainers.tables import TrainingSet
from ..md.learned import load_potential
from ..runtime import dtype_of
from ..schema.base import given, locate
from ..schema.train import ITERATED, CosineSection, SoapSection, TrainScenario


def assemble(scenario: TrainScenario, base: Path) -> TrainingJob | LinearJob:
    """Read the data and return the job.

    Raises:
        InputError: data are missing or damaged, or do not fit the model.
    """
    scenario, begun = _begun(scenario, base)
    hint = f"published at {scenario.published}" if scenario.published else ""
    if hint:
        hint += "; tell where it is with --set data=PATH"
    data, test = (
        [read(*located_set(each, base, scenario, hint)) for each in _as_list(sources)]
        for sources in (scenario.data, scenario.test)
    )
    weights = [scenario.loss.weights(decay) for decay in (1.0, 0.0)]
    use = Labels.of(weights)
    found = examine(data, use).accepted()
    tried = examine(test, use).accepted()
    data, frames, held = found.readings, found.frames, tried.frames
    notes = [*found.said, *tried.said]
    species = species_of(frames)
    other = sorted(set(species_of(held)) - set(species))
    if other:
        raise InputError(f"test: {other[0]} does not occur in the training data")
    train = split_frames(len(frames), scenario.validation, scenario.seed)[0]
    if is_linear(scenario.model) and all(f.virial is None for f in frames):
        weights = [(energy, force, 0.0) for energy, force, _ in weights]
        notes.append("no virial or stress in the data: energies and forces alone")
    check_training(frames, train, weights, scenario.group_weights)
    if odd := list(strange(frames)):
        notes.append(f"{len(odd)} labels stand out (engine data lists them): {odd[0]}")
    form = _form(scenario.model, species)
    forms = [form] if begun is not None else _ranges(form, frames)
    if is_linear(form):
        files, notes = (
            [reading.path for reading in data],
            notes + remarks(frames, train, held),
        )
        return _linear(scenario, forms, frames, held, files, notes, begun)
    (form,) = forms
    species, cutoff = tuple(form.species), form.cutoff
    return TrainingJob(
        form=form,
        settings=_settings(scenario),
        data=TrainingSet.of(frames, species, cutoff),
        test=TrainingSet.of(held, species, cutoff) if held else None,
        files=[reading.path for reading in data],
        notes=notes + remarks(frames, train, held),
        name=scenario.name,
        threads=scenario.threads,
        begun=begun,
    )


def _begun(scenario: TrainScenario, base: Path) -> tuple[TrainScenario, Any]:
    """Return the scenario with the form of the model that it starts from, and the model.

    Raises:
        InputError: the model cannot be read or trained, or a key has no use for it.
    """
    if scenario.start is None:
        return scenario, None
    path = locate(scenario.start, base)
    module: Any = load_potential(path).module
    form = getattr(module, "config", None)
    if not hasattr(form, "cutoff"):
        raise InputError(f"start: {path.name} is of no form that can be trained")
    asked, loss = given(scenario), scenario.loss
    if is_linear(form):
        if unused := sorted(asked & ITERATED):
            raise InputError(f"{unused[0]}: has no use here: {path.name} is solved for")
        loss = loss if "loss" in asked else LeastSquares()
    if is_linear(form) != isinstance(loss, LeastSquares):
        allowed = "least_squares" if is_linear(form) else "plain, prefactors"
        raise InputError(f"loss.kind: allowed with {path.name}: {allowed}")
    return scenario.model_copy(update={"model": form, "loss": loss}), module


def _as_list(sources: Any) -> tuple[Any, ...]:
    return sources if isinstance(sources, tuple) else (sources,)


def _linear(
    scenario: TrainScenario,
    forms: Sequence[Any],
    frames: list[LabelledFrame],
    held: list[LabelledFrame],
    files: list[Path],
    notes: list[str],
    begun: Any,
) -> LinearJob:
    """Return the job of a model that is solved for.

    Raises:
        InputError: fewer frames than parts that are left out in turns.
    """
    assert isinstance(scenario.loss, LeastSquares)
    if len(frames) < scenario.loss.folds:
        raise InputError(
            f"loss.folds: {scenario.loss.folds} parts of {len(frames)} frames; at most one "
            "part for each frame"
        )
    weights = [scenario.group_weights.get(frame.group, 1.0) for frame in frames]
    candidates = []
    for form in forms:
        near = tuple(form.species), form.cutoff, torch.float64
        data = TrainingSet.of(frames, *near)
        data.weights = weights
        test = TrainingSet.of(held, *near) if held else None
        candidates.append(Candidate(form, data, test))
    return LinearJob(
        candidates=candidates,
        settings=scenario.loss,
        notes=notes,
        files=files,
        name=scenario.name,
        seed=scenario.seed,
        threads=scenario.threads,
        begun=begun,
    )


def _form(form: Any, species: tuple[str, ...]) -> Any:
    """Fill in the species of the data where the form names none.

    Raises:
        InputError: numbers that do not belong to them, an element of the data that the
            form leaves out, or a form that is no sum over atoms.
    """
    try:
        form = with_species(form, species)
    except ValueError as error:
        raise InputError(f"model.{error}") from error
    if not hasattr(form, "cutoff"):
        raise InputError(f"model.kind: {form.kind} has no cutoff, so it cannot be trained")
    missing = sorted(set(species) - set(form.species))
    if missing:
        raise InputError(
            f"model.species: {missing[0]} is in the data; the model knows "
            f"{', '.join(form.species)}"
        )
    return form


def _ranges(form: Any, frames: Sequence[LabelledFrame]) -> list[Any]:
    """Fill in the ranges that a form takes from the data; several to choose from."""
    cutoffs = [form.cutoff]
    if is_linear(form) and form.cutoff is None:
        cutoffs = cutoffs_of(frames)
    if isinstance(form, ZblSum):
        data = TrainingSet.of(frames, form.species, cutoffs[0])
        form = form.with_range(shortest(data))
    return [_with_cutoff(form, cutoff) for cutoff in cutoffs]


def _with_cutoff(form: Any, cutoff: float) -> Any:
    if form.cutoff == cutoff:
        return form
    if isinstance(form, ZblSum):
        return replace(form, network=replace(form.network, cutoff=cutoff))
    return replace(form, cutoff=cutoff)


def cutoffs_of(frames: Sequence[LabelledFrame]) -> list[float]:
    """Return the cutoffs that hold :data:`NEIGHBOURS` atoms at the data's density.

    The median of the periodic frames, which leaves out slabs with their vacuum; 5 angstrom
    where no frame is periodic.
    """
    volumes = [f.volume / len(f.symbols) for f in frames if f.periodic.all()]
    if not volumes:
        return [5.0]
    sphere = 0.75 / math.pi * statistics.median(volumes)
    return [round((count * sphere) ** (1 / 3), 2) for count in NEIGHBOURS]


def _settings(scenario: TrainScenario) -> Settings:
    schedule, optimiser = scenario.schedule, scenario.optimiser
    cosine = isinstance(schedule, CosineSection)
    return Settings(
        steps=scenario.steps,
        batch=scenario.batch,
        loss=scenario.loss,
        optimiser=optimiser.kind,
        learning_rate=optimiser.learning_rate,
        final_rate=schedule.final_rate,
        schedule=schedule.kind,
        decay_steps=scenario.steps if cosine else schedule.decay_steps,
        warmup=schedule.warmup if cosine else 0.0,
        weight_decay=optimiser.weight_decay if isinstance(optimiser, SoapSection) else 0.0,
        average=scenario.average,
        validation=scenario.validation,
        report=scenario.report_every,
        checkpoint=scenario.checkpoint_every,
        precision=dtype_of(scenario.precision),
        seed=scenario.seed,
        group_weights=scenario.group_weights,
        augment=not getattr(scenario.model, "invariant", True),
    )


__all__ = ["assemble"]
