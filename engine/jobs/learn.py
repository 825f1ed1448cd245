"""From a scenario of concurrent learning to the loop that runs it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ase.io
import torch
from ase import Atoms
from ase.build import bulk

from ..errors import InputError
from ..learn import execution
from ..learn.atoms import (
    CONFIGURATIONS,
    LABELS,
    Configuration,
    carried_deviation,
    fast,
    force_error,
    last_layer,
)
from ..learn.audit import Audit
from ..learn.explorers.bias import biased
from ..learn.explorers.dynamics import Dynamics, Start
from ..learn.explorers.structures import RandomStructures, beta_tin, distorted, liquid
from ..learn.indicators import Conformal, Threshold, TrustLevels
from ..learn.labelers.exact import PotentialLabeler
from ..learn.loop import Loop
from ..learn.selection import Batch, Selection, determinantal, farthest_point, uniform
from ..learn.stopping import StopRule
from ..learn.trainers.committee import PotentialTrainer
from ..learn.trainers.potential import PlainLoss, Settings
from ..md.classical import LennardJones, StillingerWeber, plain, shifted
from ..protocols import Explorer, Labeler
from ..runtime import generator
from ..scenario import override
from ..schema.base import locate
from ..schema.learn import (
    ConformalSection,
    CrystalStart,
    DaskSection,
    DistortionsSection,
    DynamicsSection,
    EmtSection,
    LabelerSection,
    LearnScenario,
    LevelsSection,
    LiquidStart,
    LoopScenario,
    MoleculeStart,
    ProcessesSection,
    PyscfSection,
    SerialSection,
    SlurmSection,
    StartSection,
    TbliteSection,
    VmcSection,
)
from ..schema.md import FileStructure, LennardJonesSection, StillingerWeberSection

_SEEDS = 900_001
"""Stream of random numbers of the starting samples."""


def assemble(scenario: LearnScenario, base: Path) -> Loop[Any, Any]:
    """Return the loop.

    Raises:
        InputError: a structure cannot be read, the labeler cannot treat one, or its package
            is not installed.
    """
    walkers = [
        walker for section in scenario.start for walker in _walkers(section, base, scenario)
    ]
    symbols = sorted({s for walker in walkers for s in walker.configuration.symbols})
    labeler = labeler_from(scenario.labeler)
    _check(labeler, walkers)
    return Loop(
        committee=_committee(scenario, tuple(symbols)),
        start=_first_samples(scenario, walkers),
        explorer=_explorer(scenario, walkers),
        indicator=carried_deviation,
        features=last_layer,
        labeler=labeler,
        trainer=_trainer(scenario),
        error=force_error,
        samples=CONFIGURATIONS,
        labels=LABELS,
        stratum=lambda sample: sample.stratum,
        weight=lambda sample: sample.weight,
        finish=Audit(
            _explorer(scenario, walkers)(0, float("inf")),
            labeler,
            scenario.audit.frames,
            scenario.target,
            scenario.seed,
        ),
        **decisions(scenario),
    )


def decisions(scenario: LoopScenario) -> dict[str, Any]:
    """Return what a loop takes from any scenario: trust, questions, execution, end."""
    chosen = scenario.batch
    return {
        "threshold": _threshold(scenario),
        "batch": Batch(chosen.size, chosen.random, _selection(chosen.selection)),
        "stop": StopRule(scenario.target, scenario.untrusted, scenario.rounds_done),
        "pool": _pool(scenario),
        "rounds": scenario.rounds,
        "seed": scenario.seed,
        "attempts": scenario.attempts,
        "tolerated": scenario.tolerated,
    }


# -- structures ----------------------------------------------------------------------------


def _walkers(section: StartSection, base: Path, scenario: LearnScenario) -> list[Start]:
    atoms = _atoms(section, base, scenario.seed)
    masses = torch.tensor(atoms.get_masses(), dtype=torch.float64)
    return [
        Start(
            Configuration.of(atoms, f"{section.name} {temperature:g} K"),
            temperature,
            masses,
        )
        for temperature in section.temperatures
        for _ in range(section.replicas)
    ]


def _atoms(section: StartSection, base: Path, seed: int) -> Atoms:
    match section.structure:
        case FileStructure() as s:
            path = locate(s.path, base)
            try:
                atoms = ase.io.read(path, index=s.frame)
            except Exception as error:
                # readers raise anything at all; whatever it is, the file is not readable
                raise InputError(
                    f"{path} frame {s.frame}: cannot be read: {error}"
                ) from error
            assert isinstance(atoms, Atoms)
            return atoms.repeat(s.repeat)
        case CrystalStart() as s:
            return _crystal(s, section.name)
        case LiquidStart() as s:
            return liquid(s.element, s.atoms, s.density, s.nearest, seed)
        case MoleculeStart() as s:
            return Atoms(list(s.symbols), positions=s.positions)


def _crystal(s: CrystalStart, name: str) -> Atoms:
    if s.lattice == "beta_tin":
        atoms = beta_tin(s.element, s.lattice_constant)
    else:
        atoms = bulk(s.element, s.lattice, a=s.lattice_constant, cubic=True)
    atoms = atoms.repeat(s.repeat)
    if s.vacancies >= len(atoms):
        raise InputError(f"start {name}: {s.vacancies} vacancies in {len(atoms)} atoms")
    for k in range(s.vacancies):
        del atoms[(k * len(atoms)) // max(s.vacancies, 1)]
    if s.vacuum:
        atoms.center(vacuum=0.5 * s.vacuum, axis=2)
        atoms.pbc = (True, True, True)
    return atoms


def _first_samples(
    scenario: LearnScenario, walkers: Sequence[Start]
) -> list[Configuration]:
    rng = generator(scenario.seed, _SEEDS)
    strain = getattr(scenario.explorer, "strain", 0.02)
    shapes = {id(w.masses): w.configuration for w in reversed(walkers)}
    return [
        distorted(shape, scenario.initial_rattle, strain, rng)
        for shape in reversed(list(shapes.values()))
        for _ in range(scenario.initial)
    ]


# -- parts ---------------------------------------------------------------------------------


def _committee(
    scenario: LearnScenario, species: tuple[str, ...]
) -> Callable[[torch.Generator], list[torch.nn.Module]]:
    from ...models.potentials.fields import with_species

    form = with_species(scenario.model, species)

    def make(rng: torch.Generator) -> list[torch.nn.Module]:
        return [form.build(int(torch.randint(2**31, (1,), generator=rng))).float()]

    return make


def _trainer(scenario: LearnScenario) -> PotentialTrainer:
    section = scenario.training
    settings = Settings(
        steps=section.steps,
        batch=section.batch,
        loss=PlainLoss(energy=section.energy_weight),
        learning_rate=section.learning_rate,
        validation=0.0,
    )
    return PotentialTrainer(settings, section.warm)


def _explorer(
    scenario: LearnScenario, walkers: Sequence[Start]
) -> Callable[[int, float], Explorer[Configuration]]:
    match scenario.explorer:
        case DynamicsSection() as s:
            return lambda round, trusted: Dynamics(
                walkers,
                trusted,
                s.steps,
                s.stride,
                s.timestep,
                s.relaxation,
                s.rattle,
                s.strain,
                s.largest_force,
                s.nearest,
                fast if s.bias is None else partial(biased, s.bias.height, s.bias.width),
            )
        case DistortionsSection() as s:
            starts = [walker.configuration for walker in walkers]
            return lambda round, trusted: RandomStructures(
                starts, s.copies, s.rattle, s.strain
            )


def labeler_of(kind: str, settings: Sequence[str] = ()) -> Labeler[Any, Any]:
    """Return the labeler that a command line asks for.

    Args:
        kind: as in a scenario's ``[labeler]``.
        settings: ``key=value``.

    Raises:
        InputError: unknown kind, key or value; one line each.
    """
    from pydantic import Field, TypeAdapter, ValidationError

    data = override({"kind": kind}, settings)
    adapter = TypeAdapter(Annotated[LabelerSection, Field(discriminator="kind")])
    try:
        return labeler_from(adapter.validate_python(data))
    except ValidationError as error:
        said = [
            f"labeler {'.'.join(map(str, e['loc'])) or kind}: {e['msg']}"
            for e in error.errors()
        ]
        raise InputError("\n".join(said)) from error


def labeler_from(section: LabelerSection) -> Labeler[Any, Any]:
    """Return the labeler of a section.

    Raises:
        InputError: its package is not installed.
    """
    match section:
        case StillingerWeberSection():
            return PotentialLabeler(StillingerWeber())
        case LennardJonesSection() as s:
            offset = shifted if s.at_cutoff == "shifted" else plain
            return PotentialLabeler(
                LennardJones(s.epsilon, s.sigma, s.cutoff, s.species, offset)
            )
        case PyscfSection() as s:
            _need("pyscf")
            from ..learn.labelers.quantum import PyscfLabeler

            return PyscfLabeler(
                s.method, s.basis, s.charge, s.spin, s.cycles, s.convergence,
                s.kpoints, s.pseudo, s.density_fit, s.grid,
            )  # fmt: skip
        case TbliteSection() as s:
            _need("tblite")
            from ..learn.labelers.quantum import TbliteLabeler

            return TbliteLabeler(s.method, s.charge)
        case EmtSection():
            from ase.calculators.emt import EMT

            from ..learn.labelers.quantum import AseLabeler

            return AseLabeler(EMT, "EMT of ASE")
        case VmcSection() as s:
            return _vmc(s)


def _vmc(s: VmcSection) -> Labeler[Any, Any]:
    from dataclasses import replace

    from ..learn.labelers.quantum import VmcLabels
    from ..vmc.labeler import VmcLabeler, default_solver

    solver = replace(
        default_solver(),
        walkers=s.walkers,
        first_iterations=s.first_iterations,
        iterations=s.iterations,
    )
    return VmcLabels(VmcLabeler(solver, spin=s.spin))


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"labeler.kind: {package} is not installed: pip install 'scalebridge[label]'"
        )


def _check(labeler: Labeler[Any, Any], walkers: Sequence[Start]) -> None:
    """Ask the labeler about every start before anything is computed."""
    for walker in walkers:
        refusal = ""
        if isinstance(labeler, PotentialLabeler):
            known = labeler.potential.species
            strange = sorted(set(walker.configuration.symbols) - set(known))
            if strange:
                refusal = f"it knows {', '.join(known)}, not {', '.join(strange)}"
        elif hasattr(labeler, "refusal"):
            refusal = labeler.refusal(walker.configuration)  # type: ignore[attr-defined]
        if refusal:
            name = walker.configuration.stratum
            raise InputError(f"labeler: cannot treat the start {name}: {refusal}")


def _threshold(scenario: LoopScenario) -> Threshold:
    match scenario.threshold:
        case ConformalSection() as s:
            return Conformal(scenario.target, s.coverage, s.window)
        case LevelsSection() as s:
            return TrustLevels(s.low, s.high)


def _selection(name: str) -> Selection:
    match name:
        case "farthest_point":
            return farthest_point
        case "determinantal":
            return determinantal
        case _:
            return uniform


def _pool(scenario: LoopScenario) -> execution.Pool:
    match scenario.execution:
        case SerialSection():
            return execution.serial
        case ProcessesSection() as s:
            return execution.processes(s.workers, s.threads)
        case DaskSection() as s:
            return execution.dask(s.address)
        case SlurmSection() as s:
            return execution.slurm(s.workers, s.walltime, s.memory, s.queue)
