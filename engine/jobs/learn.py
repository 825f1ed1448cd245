"""From a scenario of concurrent learning, of a potential or a closure, to its loop."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ase.neighborlist import neighbor_list

from ...models.potentials.fields import with_species
from ..data.examination import examine
from ..data.reading import read
from ..errors import InputError
from ..learn import atoms, closures
from ..learn.audit import Audit
from ..learn.closure_audit import ClosureAudit
from ..learn.explorers.dynamics import Start
from ..learn.explorers.structures import distorted
from ..learn.label_store import identity
from ..learn.labelers import check_installed, check_labeler
from ..learn.loop import Loop
from ..md.initial import fills_its_cell
from ..runtime import available_memory, generator
from ..schema.base import locate
from ..schema.learn import ClosureLearnScenario, LearnScenario, LoopScenario, StartSection

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
    both = [*(start.configuration for start in starts), *(sample for sample, _ in known)]
    symbols = sorted({symbol for sample in both for symbol in sample.symbols})
    explorer, labeler = scenario.explorer, scenario.labeler
    form = with_species(scenario.model, tuple(symbols))
    check_labeler(labeler, (start.configuration for start in starts))
    _check_distances(explorer, starts)
    _check_memory(explorer, starts)
    endless = explorer.explorer(starts, float("inf"))
    return Loop(
        committee=_members(form, 1, torch.float32),
        start=[*_first_samples(scenario, starts), *(sample for sample, _ in known)],
        known=known,
        explorer=lambda round, trusted: explorer.explorer(starts, trusted),
        indicator=atoms.carried_deviation,
        recheck=atoms.deviations,
        features=atoms.last_layer,
        labeler=labeler,
        trainer=scenario.training,
        errors=atoms.force_errors,
        unit="eV/angstrom",
        samples=atoms.CONFIGURATIONS,
        labels=atoms.LABELS,
        stratum=lambda sample: sample.stratum,
        weight=lambda sample: sample.weight,
        unreached=lambda sample: sample.unreached,
        noise=lambda label: label.force_error,
        finish=Audit(
            endless,
            scenario.audit.frames,
            scenario.target,
            scenario.seed,
            identity(labeler),
        ),
        **_decisions(scenario, base),
    )


def assemble_closure(scenario: ClosureLearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop over gas flows.

    Raises:
        InputError: the package of the executor is not installed.
    """
    explorer, order = scenario.explorer, scenario.network.order
    labeler = scenario.labeler.labeler(explorer.times, order, explorer.cells)
    form = replace(scenario.network, resolution=1.0 / explorer.cells)
    return Loop(
        committee=_members(form, scenario.members, torch.float64),
        start=[
            closures.FlowSample(family, scenario.seed + _FLOW_SEEDS, index)
            for family in explorer.families
            for index in range(scenario.initial)
        ],
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
        **_decisions(scenario, base),
    )


def _decisions(scenario: LoopScenario, base: Path) -> dict[str, Any]:
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
    scenario: LearnScenario, base: Path
) -> list[tuple[atoms.Configuration, atoms.AtomsLabel]]:
    """Return the frames whose labels are there.

    Raises:
        InputError: the file is missing or damaged, or its labels contradict each other.
    """
    if scenario.labelled is None:
        return []
    frames = examine([read(locate(scenario.labelled, base))]).accepted().frames
    return [atoms.known(frame) for frame in frames]


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
