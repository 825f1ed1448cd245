"""From a training scenario to the job that trains."""

from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from ..errors import InputError
from ..learn.trainers.job import TrainingJob
from ..learn.trainers.potential import PlainLoss, PrefactorLoss, Settings
from ..md.data import group_indices, read_all, species_of
from ..runtime import dtype_of
from ..schema.base import locate
from ..schema.train import (
    BehlerParrinelloSection,
    CosineSection,
    HigherMomentsSection,
    LocalFrameSection,
    Model,
    PlainLossSection,
    PrefactorLossSection,
    SmoothEditionSection,
    SoapSection,
    TrainScenario,
    UnconstrainedSection,
)


def assemble(scenario: TrainScenario, base: Path) -> TrainingJob:
    """Read the data and return the job.

    Raises:
        InputError: data are missing or damaged, or do not fit the model.
    """
    hint = f"published at {scenario.published}" if scenario.published else ""
    if hint:
        hint += "; tell where it is with --set data=PATH"
    data, test = (
        [locate(path, base, hint) for path in _as_list(paths)]
        for paths in (scenario.data, scenario.test)
    )
    frames, held = read_all(data), read_all(test)
    species = species_of(frames)
    strange = sorted(set(species_of(held)) - set(species))
    if strange:
        raise InputError(f"test: {strange[0]} does not occur in the training data")
    groups = set(group_indices(frames))
    for name in scenario.group_weights:
        if name not in groups:
            raise InputError(
                f"group_weights.{name}: no frame is of this group; allowed: "
                f"{', '.join(sorted(groups))}"
            )
    if len(frames) < 2:
        raise InputError("data: training needs at least two labelled frames")
    return TrainingJob(
        form=form_of(scenario.model, species),
        settings=_settings(scenario),
        frames=frames,
        test=held,
        files=data,
        name=scenario.name,
        threads=scenario.threads,
    )


def _as_list(paths: Path | tuple[Path, ...]) -> tuple[Path, ...]:
    return paths if isinstance(paths, tuple) else (paths,)


def form_of(section: Model, species: tuple[str, ...]) -> Any:
    """Return the configuration of a model, which has ``build(seed)``.

    Raises:
        InputError: numbers that do not belong to the species.
    """
    from ...models.potentials.behler_parrinello import BehlerParrinello
    from ...models.potentials.deep_potential import SmoothEdition
    from ...models.potentials.local_frame import LocalFrame
    from ...models.potentials.unconstrained import Unconstrained

    match section:
        case HigherMomentsSection():
            return _higher_moments(section, species)
        case SmoothEditionSection():
            return SmoothEdition(
                species=species,
                cutoff=section.cutoff,
                switch_start=section.switch_start,
                neurons=section.neurons,
                axis=section.axis,
                fitting=section.fitting,
                members=section.members,
            )
        case LocalFrameSection():
            return LocalFrame(
                species=species,
                cutoff=section.cutoff,
                angular=_for_each(section.angular, species, "angular"),
                radial=_for_each(section.radial, species, "radial"),
                fitting=section.fitting,
                members=section.members,
            )
        case BehlerParrinelloSection():
            return BehlerParrinello(
                species=species,
                cutoff=section.cutoff,
                angular_cutoff=section.angular_cutoff,
                shifts=section.shifts,
                fitting=section.fitting,
                members=section.members,
            )
        case UnconstrainedSection():
            return Unconstrained(
                species=species,
                cutoff=section.cutoff,
                channels=section.channels,
                lmax=section.lmax,
                fitting=section.fitting,
                members=section.members,
            )


def _higher_moments(section: HigherMomentsSection, species: tuple[str, ...]) -> Any:
    from ...models.potentials.deep_potential import HigherMoments
    from ...models.potentials.sums import ZblSum

    network = HigherMoments(
        species=species,
        cutoff=section.cutoff,
        switch_start=section.switch_start,
        basis=section.basis,
        channels=section.channels,
        axis=section.axis,
        lmax=section.lmax,
        products=section.products,
        fitting=section.fitting,
        members=section.members,
    )
    if section.repulsion is None:
        return network
    numbers = tuple(atomic_numbers[symbol] for symbol in species)
    return ZblSum(network, numbers, section.repulsion.inner, section.repulsion.outer)


def _for_each(
    counts: tuple[int, ...], species: tuple[str, ...], key: str
) -> tuple[int, ...]:
    if len(counts) == 1:
        return counts * len(species)
    if len(counts) != len(species):
        raise InputError(
            f"model.{key}: {len(counts)} numbers for {len(species)} species "
            f"({', '.join(species)}); allowed: one, or one for each"
        )
    return counts


def _loss(section: PlainLossSection | PrefactorLossSection) -> PlainLoss | PrefactorLoss:
    match section:
        case PlainLossSection():
            return PlainLoss(
                section.force, section.energy, section.virial, section.deviatoric
            )
        case PrefactorLossSection():
            return PrefactorLoss(section.energy, section.force, section.virial)


def _settings(scenario: TrainScenario) -> Settings:
    schedule, optimiser = scenario.schedule, scenario.optimiser
    cosine = isinstance(schedule, CosineSection)
    return Settings(
        steps=scenario.steps,
        batch=scenario.batch,
        loss=_loss(scenario.loss),
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
        augment=isinstance(scenario.model, UnconstrainedSection),
    )


__all__ = ["assemble", "form_of"]
