"""From a training scenario to the job that trains."""

from pathlib import Path

from ..errors import InputError
from ..learn.trainers.job import TrainingJob
from ..learn.trainers.potential import PlainLoss, PrefactorLoss, Settings
from ..md.data import read_all, species_of
from ..runtime import dtype_of
from ..schema.base import locate
from ..schema.train import (
    CosineSection,
    HigherMomentsSection,
    PlainLossSection,
    PrefactorLossSection,
    SmoothEditionSection,
    SoapSection,
    TrainScenario,
)


def build(scenario: TrainScenario, base: Path) -> TrainingJob:
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
    if len(frames) < 2:
        raise InputError("data: training needs at least two labelled frames")
    return TrainingJob(
        form=_form(scenario.model, species),
        settings=_settings(scenario),
        frames=frames,
        test=held,
        files=data,
        name=scenario.name,
        threads=scenario.threads,
    )


def _as_list(paths: Path | tuple[Path, ...]) -> tuple[Path, ...]:
    return paths if isinstance(paths, tuple) else (paths,)


def _form(
    section: HigherMomentsSection | SmoothEditionSection, species: tuple[str, ...]
) -> object:
    from ...models.potentials.deep_potential import HigherMoments, SmoothEdition

    match section:
        case HigherMomentsSection():
            return HigherMoments(
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
    )


__all__ = ["build"]
