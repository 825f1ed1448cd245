"""What a scenario of concurrent learning may say."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...models.closures.face import FaceForm
from ...models.potentials.deep_potential import HigherMoments
from .base import Common, Section
from .md import FileStructure, LennardJonesSection, StillingerWeberSection, Symbol

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


# -- where walkers begin -------------------------------------------------------------------


class CrystalStart(Section):
    """A crystal, with vacancies or a surface if asked for."""

    kind: Literal["crystal"]
    element: Symbol
    """Chemical symbol."""
    lattice: Literal["fcc", "bcc", "sc", "diamond", "beta_tin"]
    """Crystal structure."""
    lattice_constant: Positive
    """Edge of the conventional cell, angstrom (the square's for beta_tin)."""
    repeat: tuple[Count, Count, Count] = (1, 1, 1)
    """Copies along each edge."""
    vacancies: Annotated[int, Field(ge=0)] = 0
    """Atoms taken out, spread over the cell."""
    vacuum: Annotated[float, Field(ge=0)] = 0.0
    """Empty space added along the third edge, angstrom: a slab with two surfaces."""


class LiquidStart(Section):
    """Atoms at random, pushed apart."""

    kind: Literal["liquid"]
    element: Symbol
    """Chemical symbol."""
    atoms: Annotated[int, Field(ge=2, le=10000)]
    """How many."""
    density: Positive
    """g/cm^3."""
    nearest: Positive = 2.1
    """Distance below which they are pushed apart, angstrom."""


class MoleculeStart(Section):
    """A molecule or cluster, atom by atom."""

    kind: Literal["molecule"]
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    """Chemical symbols."""
    positions: Annotated[tuple[tuple[float, float, float], ...], Field(min_length=1)]
    """Angstrom."""

    @model_validator(mode="after")
    def _one_place_each(self) -> Self:
        if len(self.symbols) != len(self.positions):
            raise ValueError(
                f"{len(self.symbols)} symbols but {len(self.positions)} positions"
            )
        return self


class StartSection(Section):
    """One structure, explored at several temperatures."""

    name: Name
    """Name of the stratum; the temperature is added to it."""
    structure: Annotated[
        CrystalStart | LiquidStart | MoleculeStart | FileStructure,
        Field(discriminator="kind"),
    ]
    """Where the atoms begin."""
    temperatures: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """K; a walker for each."""
    replicas: Count = 1
    """Walkers at each temperature."""


# -- exploring -----------------------------------------------------------------------------


class BiasSection(Section):
    """A potential that pushes walkers to where the committee's energies disagree."""

    height: Positive
    """Of the bias, eV."""
    width: Positive = 0.1
    """Standard deviation of the energy at which the bias levels off, eV for one atom; it
    grows with the square root of the number of atoms."""


class DynamicsSection(Section):
    """Langevin dynamics of the committee's mean, all walkers in one batch."""

    kind: Literal["dynamics"] = "dynamics"
    steps: Annotated[int, Field(ge=1)] = 300
    """Time steps of a walker that is never stopped."""
    stride: Annotated[int, Field(ge=1)] = 10
    """Steps between frames that enter the table; trust is checked at every step."""
    timestep: Positive = 2.0
    """fs."""
    relaxation: Positive = 50.0
    """Of the thermostat, fs."""
    rattle: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Standard deviation of displacements at the start, angstrom."""
    strain: Annotated[float, Field(ge=0, le=0.3)] = 0.02
    """Standard deviation of the strain at the start: the grid of pressures."""
    largest_force: Positive = 30.0
    """A frame with a larger force has failed, eV/angstrom; such frames would rule the
    training."""
    nearest: Positive = 0.7
    """A frame in which two atoms are closer has failed, angstrom."""
    bias: BiasSection | None = None
    """Left out: walkers follow the committee's mean alone."""


class DistortionsSection(Section):
    """Random distortions of the starts, without dynamics."""

    kind: Literal["distortions"]
    copies: Count = 20
    """Of each start."""
    rattle: Positive = 0.3
    """Largest standard deviation of a displacement, angstrom."""
    strain: Annotated[float, Field(ge=0, le=0.3)] = 0.04
    """Largest standard deviation of a strain component."""


# -- labelling -----------------------------------------------------------------------------


class PyscfSection(Section):
    """PySCF: molecules, and small periodic cells with hf or a functional."""

    kind: Literal["pyscf"]
    method: str = "ccsd(t)"
    """hf, mp2, ccsd, ccsd(t), or the name of a functional."""
    basis: str = "cc-pvdz"
    """Basis set."""
    charge: int = 0
    """Total charge."""
    spin: Annotated[int, Field(ge=0)] | None = None
    """Unpaired electrons; as few as possible by default."""
    cycles: Annotated[int, Field(ge=1)] = 100
    """Of the self-consistent field."""
    kpoints: tuple[Count, Count, Count] = (1, 1, 1)
    """Mesh of a periodic cell."""
    pseudo: str = "gth-pade"
    """Pseudopotential of a periodic cell."""
    convergence: Positive = 1e-10
    """Of the energy of the self-consistent field, hartree."""
    density_fit: bool = False
    """Molecules: the Coulomb term in an auxiliary basis, several times faster."""
    grid: Annotated[int, Field(ge=0, le=9)] = 3
    """Molecules: level of a functional's grid, 0 (coarse) to 9."""


class TbliteSection(Section):
    """GFN-xTB tight binding."""

    kind: Literal["tblite"]
    method: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN2-xTB"
    """Parametrisation."""
    charge: int = 0
    """Total charge."""


class EmtSection(Section):
    """Effective medium theory of ASE (Al, Cu, Ag, Au, Ni, Pd, Pt)."""

    kind: Literal["emt"]


class VmcSection(Section):
    """The engine's own variational Monte Carlo; labels carry error bars."""

    kind: Literal["vmc"]
    walkers: Annotated[int, Field(ge=16)] = 256
    """Walkers."""
    first_iterations: Annotated[int, Field(ge=1)] = 300
    """Optimiser iterations of the first geometry."""
    iterations: Annotated[int, Field(ge=1)] = 60
    """Of every further one, which starts from the nearest."""
    spin: Annotated[int, Field(ge=0)] | None = None
    """Unpaired electrons."""


LabelerSection = Annotated[
    StillingerWeberSection
    | LennardJonesSection
    | PyscfSection
    | TbliteSection
    | EmtSection
    | VmcSection,
    Field(discriminator="kind"),
]


class SerialSection(Section):
    """Labels are computed one by one in the controller's process."""

    kind: Literal["serial"] = "serial"


class ProcessesSection(Section):
    """Labels are computed by worker processes of this machine."""

    kind: Literal["processes"]
    workers: Count = 2
    """Processes."""
    threads: Count = 1
    """Threads of each."""


class DaskSection(Section):
    """Labels are computed by the workers of a running Dask scheduler."""

    kind: Literal["dask"]
    address: str = Field(pattern=r"^(tcp|tls)://")
    """Of the scheduler; the workers must see the run folder."""


class SlurmSection(Section):
    """Labels are computed by Slurm jobs (dask-jobqueue)."""

    kind: Literal["slurm"]
    workers: Count = 4
    """Jobs."""
    walltime: str = Field(default="04:00:00", pattern=r"^\d+:\d\d:\d\d$")
    """Of a job; labels that it cuts off are asked for again."""
    memory: str = "4GB"
    """Of a job."""
    queue: str | None = None
    """Partition."""


# -- deciding ------------------------------------------------------------------------------


class ConformalSection(Section):
    """The trusted deviation follows from the accuracy asked for."""

    kind: Literal["conformal"] = "conformal"
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Probability with which the bound on the error holds."""
    window: Count = 3
    """Rounds that the evidence may be old."""


class LevelsSection(Section):
    """Trust levels set by hand."""

    kind: Literal["levels"]
    low: Positive
    """A deviation up to here is accurate, eV/angstrom."""
    high: Positive
    """A deviation from here on has failed, eV/angstrom."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must lie below high {self.high:g}")
        return self


class BatchSection(Section):
    """What is labelled in a round."""

    size: Annotated[int, Field(ge=1)] = 20
    """Labels, at most."""
    random: Fraction = 0.1
    """Part that is drawn at random from all that was seen."""
    selection: Literal["farthest_point", "determinantal", "uniform"] = "farthest_point"
    """How the rest is picked among the untrusted."""


class LearnTraining(Section):
    """Training in every round."""

    steps: Annotated[int, Field(ge=1)] = 600
    """Optimiser steps of a round; half of them where weights are trained on."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Frames in a step."""
    learning_rate: Positive = 3e-3
    """At its highest."""
    warm: Fraction = 0.5
    """Part of steps and rate with which weights are trained on; 0 starts anew."""
    energy_weight: Annotated[float, Field(ge=0)] = 100.0
    """Of the energy per atom against the force, 1 / (eV/atom)^2."""


class AuditSection(Section):
    """The last look: random frames of every stratum, labelled and never trained on."""

    frames: Annotated[int, Field(ge=0)] = 2
    """Of each stratum; 0 for no audit."""


class LoopScenario(Common):
    """What every concurrent learning says: when to trust, what to label, when to stop."""

    target: Positive
    """Error to be met in the worst stratum: of forces in eV/angstrom, of a closure in its
    scaled closing moment."""
    execution: Annotated[
        SerialSection | ProcessesSection | DaskSection | SlurmSection,
        Field(discriminator="kind"),
    ] = SerialSection()
    """Where labels are computed."""
    threshold: Annotated[ConformalSection | LevelsSection, Field(discriminator="kind")] = (
        ConformalSection()
    )
    """Up to which deviation a sample is trusted."""
    batch: BatchSection = BatchSection()
    """What is labelled."""
    untrusted: Fraction = 0.02
    """Part of a stratum that may stay above the threshold."""
    rounds_done: Count = 2
    """Rounds in a row without an open stratum that end the loop."""
    rounds: Annotated[int, Field(ge=0, le=10000)] = 20
    """Rounds of exploring, at most."""
    attempts: Count = 3
    """Failures of a label after which its sample is quarantined."""
    tolerated: Fraction = 0.5
    """Part of a round's labels that may be quarantined."""
    audit: AuditSection = AuditSection()
    """The last look."""

    @model_validator(mode="after")
    def _on_the_cpu(self) -> Self:
        if self.device != "cpu":
            raise ValueError("device: concurrent learning runs on the cpu")
        return self


class LearnScenario(LoopScenario):
    """Concurrent learning of a potential: explore, label, train, until nothing is open."""

    job: ClassVar[str] = "scalebridge.engine.jobs.learn:assemble"
    kind: Literal["learn"]
    start: Annotated[tuple[StartSection, ...], Field(min_length=1)]
    """Structures and temperatures."""
    initial: Count = 2
    """Distorted copies of each structure that are labelled first."""
    initial_rattle: Positive = 0.1
    """Their displacements, angstrom."""
    explorer: Annotated[
        DynamicsSection | DistortionsSection, Field(discriminator="kind")
    ] = DynamicsSection()
    """How it explores."""
    labeler: LabelerSection
    """The micro-scale model."""
    model: HigherMoments = HigherMoments()
    """The form of the potential; `members` is the size of the committee."""
    training: LearnTraining = LearnTraining()
    """How it is trained."""

    @model_validator(mode="after")
    def _can_disagree(self) -> Self:
        if self.model.members < 2:
            raise ValueError(
                "model.members: a committee of one cannot disagree with itself; at least 2"
            )
        names = [start.name for start in self.start]
        if len(set(names)) < len(names):
            raise ValueError("start: names must differ")
        return self


# -- closures ------------------------------------------------------------------------------


class FlowsSection(Section):
    """Random flows, followed by the moment equations with the committee's mean."""

    families: Annotated[
        tuple[Literal["wave", "mix", "jump", "transition"], ...], Field(min_length=1)
    ] = ("wave", "mix", "jump", "transition")
    """Smooth waves; waves and jumps, partly far from equilibrium; strong jumps; a mix with
    Kn sweeping 1e-3 to 10 along the box."""
    flows: Annotated[int, Field(ge=4, le=100_000)] = 24
    """Of each family in a round, four Knudsen decades in turn."""
    until: Positive = 0.2
    """Time up to which flows are followed and labelled."""
    cells: Annotated[int, Field(ge=20, le=4096)] = 100
    """Of the moment equations; the box has length 1."""


class KineticSection(Section):
    """The BGK equation on a finer grid."""

    kind: Literal["kinetic"]
    refinement: Annotated[int, Field(ge=1, le=16)] = 2
    """The kinetic grid is finer by this factor."""
    velocities: Annotated[int, Field(ge=24, le=1024)] = 72
    """Discrete velocities in [-7.2, 7.2]."""


class RegressionSection(Section):
    """Training of every member in every round, from new weights."""

    steps: Annotated[int, Field(ge=1)] = 1000
    """Of Adam."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Rows of faces in a step."""
    learning_rate: Positive = 5e-3
    """At the start; it falls linearly."""
    linear: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of exact linear modes of BGK among the rows."""


class ClosureLearnScenario(LoopScenario):
    """Concurrent learning of a moment closure; the kinetic equation is the truth."""

    job: ClassVar[str] = "scalebridge.engine.jobs.learn_closure:assemble"
    kind: Literal["closure_learn"]
    initial: Annotated[int, Field(ge=1, le=1000)] = 4
    """Flows of each family that are labelled first."""
    explorer: FlowsSection = FlowsSection()
    """How it explores."""
    labeler: KineticSection
    """The micro-scale model."""
    network: FaceForm = FaceForm()
    """The form of the closure."""
    members: Annotated[int, Field(ge=2, le=32)] = 3
    """Size of the committee."""
    training: RegressionSection = RegressionSection()
    """How it is trained."""
