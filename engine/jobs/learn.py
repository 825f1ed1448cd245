"""From a scenario of concurrent learning, of a potential or a closure, to its loop."""

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from ...models.closures.face import FaceForm
from ...models.potentials.deep_potential import HigherMoments
from ...models.potentials.fields import with_species
from ..data.examination import examine
from ..data.keys import located_set
from ..data.reading import read
from ..errors import EngineError, InputError
from ..interop.properties import properties
from ..learn import atoms, closures
from ..learn.audit import Audit
from ..learn.closure_audit import ClosureAudit
from ..learn.explorers.dynamics import Start
from ..learn.explorers.structures import distorted
from ..learn.label_store import identity
from ..learn.labelers import check_installed, check_labeler
from ..learn.labelled_set import LabelledSet, check_agreement
from ..learn.loop import Loop
from ..md.initial import fills_its_cell
from ..md.learned import load_potential
from ..protocols import Figure, Outcome
from ..runtime import available_memory, generator
from ..schema.base import given, locate
from ..schema.learn import (
    ChoiceScenario,
    ClosureLearnScenario,
    LearnScenario,
    LoopScenario,
    PotentialLoop,
    StartSection,
)

_SEEDS = 900_001
"""Stream of random numbers of the starting samples."""

_FLOW_SEEDS = 900_003
"""Seed of the starting flows is this much above the scenario's."""

_BYTES = 2 * 3 * 8
"""Of an atom in a frame that was explored: positions twice, while the tables are made."""


def assemble(scenario: LearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop.

    Raises:
        InputError: a structure cannot be read, the labeler cannot treat one, a package is
            not installed, or the frames do not fit into the memory.
    """
    starts = [s for section in scenario.start for s in _starts(section, base, scenario)]
    known = _known(scenario, base)
    structures = [start.configuration for start in starts]
    explorer, labeler = scenario.explorer, scenario.labeler
    check_labeler(labeler, structures)
    _check_distances(explorer, starts)
    _check_memory(explorer, starts)
    endless = explorer.explorer(starts, float("inf"))
    first = _first_samples(scenario, starts)
    return Loop(
        start=[*first, *(sample for sample, _ in known)],
        known=known,
        explorer=lambda round, trusted: explorer.explorer(starts, trusted),
        indicator=atoms.carried_deviation,
        labeler=labeler,
        weight=lambda sample: sample.weight,
        unreached=lambda sample: sample.unreached,
        noise=lambda label: label.force_error,
        finish=_ended(_audit(scenario, endless, labeler), _crystals(scenario, base)),
        **_of_potential(scenario, base, [*structures, *(sample for sample, _ in known)]),
        **_decisions(scenario, base, len(first)),
    )


def assemble_choice(scenario: ChoiceScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop that chooses from labelled frames.

    Raises:
        InputError: a set cannot be read, or its labels contradict each other.
    """
    known = _known(scenario, base)
    sources = scenario.data if isinstance(scenario.data, tuple) else (scenario.data,)
    frames = labelled_frames(sources, base)
    check_agreement([*known, *frames])
    whole = LabelledSet.of(frames)
    samples = [sample for sample, _ in whole.frames.values()]
    first = whole.drawn(scenario.initial, generator(scenario.seed, _SEEDS))
    audit = _audit(scenario, whole, whole)

    def finish(folder: Any, committee: Any, dataset: Any, ask: Any) -> Outcome:
        left = audit(
            folder, committee, dataset, lambda some: [whole.label(s) for s in some]
        )
        return replace(left, figures={**left.figures, **_share(whole, dataset)})

    return Loop(
        start=[*first, *(sample for sample, _ in known)],
        known=known,
        explorer=lambda round, trusted: whole,
        indicator=atoms.carried_deviation,
        labeler=whole,
        finish=finish,
        **_of_potential(scenario, base, [*samples, *(sample for sample, _ in known)]),
        **_decisions(scenario, base, len(first)),
    )


def _share(whole: LabelledSet, dataset: Sequence[tuple[Any, Any]]) -> dict[str, Figure]:
    """Return the figures that mean something else where every label is there."""
    chosen = sum(atoms.structure_key(sample) in whole.frames for sample, _ in dataset)
    return {
        "labels_computed": Figure(0, note="all labels were there"),
        "labelled_fraction": Figure(
            chosen / len(whole.frames),
            note=f"frames chosen, {chosen} of {len(whole.frames)} that differ",
        ),
    }


def _audit(scenario: LearnScenario | ChoiceScenario, explorer: Any, labeler: Any) -> Audit:
    return Audit(
        explorer,
        scenario.audit.frames,
        scenario.target,
        scenario.seed,
        identity(labeler),
    )


def _ended(
    audit: Audit, crystals: Sequence[tuple[str, Atoms, Sequence[str]]]
) -> Callable[..., Outcome]:
    """Return the final evaluation with the properties of crystals."""

    def finish(folder: Any, committee: Any, dataset: Any, ask: Any) -> Outcome:
        found = audit(folder, committee, dataset, ask)
        more = [properties(*crystal, committee, ask) for crystal in crystals]
        figures = {name: f for each in (found, *more) for name, f in each.figures.items()}
        return Outcome(figures, [check for each in (found, *more) for check in each.checks])

    return finish


def _crystals(
    scenario: LearnScenario, base: Path
) -> list[tuple[str, Atoms, Sequence[str]]]:
    """Return the crystals of which properties are asked.

    Raises:
        InputError: one does not fill its cell, or a vacancy in it has no one energy.
    """
    found = []
    for section in scenario.start:
        if not section.properties:
            continue
        crystal = section.structure.structure(base, scenario.seed)
        key = f"start {section.name}: properties"
        holes = getattr(section.structure, "vacancies", 0)
        if holes or not fills_its_cell(section.structure, crystal):
            raise InputError(f"{key}: of a whole crystal, periodic along all axes")
        if "vacancy" in section.properties and len(crystal) < 2:
            raise InputError(f"{key}: vacancy: of more than one atom; a larger repeat")
        if "vacancy" in section.properties and len(set(crystal.symbols)) > 1:
            raise InputError(f"{key}: vacancy: of crystals of one element alone")
        found.append((section.name, crystal, section.properties))
    return found


def _of_potential(
    scenario: PotentialLoop, base: Path, samples: Sequence[atoms.Configuration]
) -> dict[str, Any]:
    """Return what loops of a potential share; ``samples`` show which elements there are.

    Raises:
        InputError: the trained committee does not fit.
    """
    symbols = tuple(sorted({symbol for sample in samples for symbol in sample.symbols}))
    form = with_species(scenario.model, symbols)
    committee: Any = _members(form, 1, torch.float32)
    align: Any = {}
    if scenario.trained is not None:
        module = _trained(scenario, base, symbols)
        committee, align = lambda rng: [copy.deepcopy(module)], {"align": atoms.aligned}
    return {
        "committee": committee,
        **align,
        "recheck": atoms.deviations,
        "features": atoms.last_layer,
        "trainer": scenario.training,
        "errors": atoms.force_errors,
        "unit": "eV/angstrom",
        "samples": atoms.CONFIGURATIONS,
        "labels": atoms.LABELS,
        "stratum": lambda sample: sample.stratum,
    }


def _trained(
    scenario: PotentialLoop, base: Path, symbols: Sequence[str]
) -> torch.nn.Module:
    """Return the committee to begin with.

    Raises:
        InputError: it cannot be read, is of another form or no committee, differs from
            what ``model`` says, or lacks an element.
    """
    assert scenario.trained is not None
    name = scenario.trained.name
    try:
        module: Any = load_potential(locate(scenario.trained, base)).module
    except EngineError as error:
        raise InputError(f"trained: {error}") from error
    form = getattr(module, "config", None)
    if not isinstance(form, HigherMoments):
        kind = getattr(form, "kind", type(module).__name__)
        raise InputError(f"trained: {name} is {kind}; allowed: {HigherMoments.kind}")
    if form.members < 2:
        raise InputError(
            f"trained: {name} has one member, which cannot disagree with itself; train a "
            "committee (model.members = 4) and begin with that"
        )
    if "model" in given(scenario):
        _check_same(with_species(scenario.model, tuple(form.species)), form, name)
    if strange := sorted(set(symbols) - set(form.species)):
        raise InputError(
            f"trained: {name} knows {', '.join(form.species)}, not {', '.join(strange)}"
        )
    return module.float().requires_grad_(True)


def _check_same(asked: HigherMoments, form: HigherMoments, name: str) -> None:
    """Refuse a form that differs from that of the file ``name``.

    Raises:
        InputError: names the first key that differs, one that was surely written if any.
    """
    different = [
        field.name
        for field in fields(form)
        if getattr(asked, field.name) != getattr(form, field.name)
    ]
    usual = HigherMoments()
    different.sort(key=lambda key: getattr(asked, key) == getattr(usual, key))
    for key in different[:1]:
        raise InputError(
            f"model.{key}: {_written(getattr(asked, key))}; {name} has "
            f"{_written(getattr(form, key))}; leave [model] out to take its form"
        )


def _written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def assemble_closure(scenario: ClosureLearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop over gas flows.

    Raises:
        InputError: the package of the executor is not installed.
    """
    explorer, order = scenario.explorer, scenario.network.order
    labeler = scenario.labeler.labeler(explorer.times, order, explorer.cells)
    form = scenario.network
    if isinstance(form, FaceForm):  # else it has no length
        form = replace(form, resolution=1.0 / explorer.cells)
    first = [
        closures.FlowSample(family, scenario.seed + _FLOW_SEEDS, index)
        for family in explorer.families
        for index in range(scenario.initial)
    ]
    return Loop(
        committee=_members(form, scenario.members, torch.float64),
        start=first,
        explorer=lambda round, reach: explorer,
        indicator=closures.carried_deviation,
        recheck=lambda committee, samples: closures.followed(
            committee, samples, explorer.times, explorer.cells
        ),
        features=closures.features,
        labeler=labeler,
        trainer=scenario.training,
        errors=closures.flux_errors,
        samples=closures.FLOWS,
        labels=closures.LABELS,
        stratum=lambda sample: sample.stratum,
        finish=ClosureAudit(
            explorer.families, labeler, scenario.audit.frames, scenario.target
        ),
        **_decisions(scenario, base, len(first)),
    )


def _decisions(scenario: LoopScenario, base: Path, first: int) -> dict[str, Any]:
    """Return when to trust, label and stop; the loop begins with ``first`` labels.

    Raises:
        InputError: they are more than the budget, or a package or folder is missing.
    """
    budget = scenario.stop.labels
    if budget is not None and first > budget:
        raise InputError(
            f"stop.labels: {budget}; the first round alone labels {first}; a larger "
            "budget, or a smaller `initial`"
        )
    check_installed(scenario.execution, "execution")
    return {
        "threshold": scenario.threshold,
        "batch": scenario.batch,
        "stop": scenario.stop,
        "target": scenario.target,
        "pool": scenario.execution,
        "rounds": scenario.rounds,
        "seed": scenario.seed,
        "attempts": scenario.attempts,
        "tolerated": scenario.tolerated,
        "library": scenario.library and _library(scenario.library, base),
    }


def _library(path: Path, base: Path) -> Path:
    """Return the folder; it changes while runs go on, and so is none of their inputs."""
    places = [path] if path.is_absolute() else [base / path, Path.cwd() / path]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(f"library: {path}: no such folder; an empty one begins a library")
    if not os.access(found, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"library: {path}: labels can be neither read nor added there")
    return found.resolve()


def _starts(section: StartSection, base: Path, scenario: LearnScenario) -> list[Start]:
    found = section.structure.structure(base, scenario.seed)
    masses = torch.tensor(found.get_masses(), dtype=torch.float64)
    pressure = section.pressure
    if isinstance(pressure, int | float):
        pressure = (pressure, pressure)
    if pressure is not None and not fills_its_cell(section.structure, found):
        raise InputError(
            f"start {section.name}: pressure needs a structure that is periodic along all "
            "axes and has no vacuum; leave pressure out for constant volume"
        )
    ends = section.final_temperatures or section.temperatures
    return [
        Start(
            atoms.Configuration.of(found, f"{section.name} {_span(t, end)} K"),
            t,
            masses,
            end,
            pressure,
        )
        for t, end in zip(section.temperatures, ends, strict=True)
        for _ in range(section.replicas)
    ]


def _span(begin: float, end: float) -> str:
    return f"{begin:g}" if begin == end else f"{begin:g} to {end:g}"


def _first_samples(
    scenario: LearnScenario, starts: Sequence[Start]
) -> list[atoms.Configuration]:
    rng = generator(scenario.seed, _SEEDS)
    strain = getattr(scenario.explorer, "strain", 0.02)
    shapes = {id(s.masses): s.configuration for s in reversed(starts)}
    return [
        distorted(shape, scenario.initial_rattle, strain, rng)
        for shape in reversed(list(shapes.values()))
        for _ in range(scenario.initial)
    ]


def _known(
    scenario: PotentialLoop, base: Path
) -> list[tuple[atoms.Configuration, atoms.AtomsLabel]]:
    """Return the frames whose labels are there.

    Raises:
        InputError: the file is missing or damaged, or its labels contradict each other.
    """
    if scenario.labelled is None:
        return []
    frames = labelled_frames([scenario.labelled], base)
    return list(LabelledSet.of(frames).frames.values())  # each once: they are counted


def labelled_frames(
    sources: Sequence[Any], base: Path
) -> list[tuple[atoms.Configuration, atoms.AtomsLabel]]:
    """Return the frames of sets of labels; those without a group get their set's name.

    Raises:
        InputError: a set is missing or damaged, or its labels contradict each other.
    """
    found = examine([read(*located_set(source, base)) for source in sources]).accepted()
    pairs = []
    for reading in found.readings:
        for frame in reading.frames:
            group = frame.group or reading.path.stem
            pairs.append(atoms.known(replace(frame, group=group)))
    return pairs


def _check_distances(explorer: Any, starts: Sequence[Start]) -> None:
    """Refuse structures that the explorer would count as failed before they move."""
    limit = getattr(explorer, "nearest", 0.0)
    for start in starts if limit else ():
        found = neighbor_list("d", start.configuration.atoms(), limit)
        if len(found):
            raise InputError(
                f"explorer.nearest: two atoms of {start.configuration.stratum} are "
                f"{found.min():.3g} angstrom apart, and frames in which they are closer "
                f"than {limit:g} count as failed; a smaller number, or another structure"
            )


def _check_memory(explorer: Any, starts: Sequence[Start]) -> None:
    """Refuse a round whose frames do not fit into the memory of this machine."""
    needed = _BYTES * (explorer.frames(starts) if hasattr(explorer, "frames") else 0)
    present = available_memory()
    if needed > 0.5 * present:
        raise InputError(
            f"explorer: the frames of a round need {needed / 1e9:.1f} GB, half of the "
            f"memory is {0.5 * present / 1e9:.1f} GB; fewer steps, a larger stride or "
            "fewer walkers"
        )


def _members(
    form: Any, count: int, dtype: torch.dtype
) -> Callable[[torch.Generator], list[torch.nn.Module]]:
    """Return what makes a committee with first weights from a generator."""

    def make(rng: torch.Generator) -> list[torch.nn.Module]:
        seeds = [int(torch.randint(2**31, (1,), generator=rng)) for _ in range(count)]
        return [form.build(seed).to(dtype) for seed in seeds]

    return make
