"""What a scenario of molecular dynamics may say."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common, InputPath, Section

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1000)]
Symbol = Annotated[str, Field(pattern="^[A-Z][a-z]?$")]


class FileStructure(Section):
    """A structure from any file that ASE reads."""

    kind: Literal["file"]
    path: InputPath
    """Structure file: extxyz, cif, POSCAR, ..."""
    frame: int = -1
    """Which frame of the file; -1 is the last."""
    repeat: tuple[Count, Count, Count] = (1, 1, 1)
    """Copies along each lattice vector."""
    rattle: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of random displacements, angstrom."""


class CrystalStructure(Section):
    """A perfect crystal in its cubic (conventional) cell."""

    kind: Literal["crystal"]
    element: Symbol
    """Chemical symbol."""
    lattice: Literal["fcc", "bcc", "sc", "diamond"]
    """Crystal structure."""
    lattice_constant: Positive
    """Edge of the cubic cell, angstrom (or sigma)."""
    repeat: tuple[Count, Count, Count] = (1, 1, 1)
    """Copies along each edge."""
    mass: Positive | None = None
    """Mass in amu if not the element's; reduced units need one."""
    rattle: float = Field(default=0.0, ge=0, le=1)
    """Standard deviation of random displacements, angstrom."""


class LiquidLattice(Section):
    """An fcc lattice at a given density, to be melted (reduced units, argon, ...)."""

    kind: Literal["fcc_density"]
    element: Symbol = "Ar"
    """Chemical symbol."""
    density: Positive
    """Atoms per cubic angstrom (or reduced density)."""
    cells: Annotated[int, Field(ge=1, le=200)]
    """Cubic cells along each edge; there are four atoms in each."""
    mass: Positive | None = None
    """Mass in amu if not the element's; reduced units need one."""


Structure = Annotated[
    FileStructure | CrystalStructure | LiquidLattice, Field(discriminator="kind")
]


class LennardJonesSection(Section):
    """12-6 potential; unlike pairs by Lorentz and Berthelot."""

    kind: Literal["lennard_jones"]
    species: Annotated[tuple[Symbol, ...], Field(min_length=1)] = ("Ar",)
    """Chemical symbols."""
    epsilon: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Well depth of each species, eV (or reduced)."""
    sigma: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Zero of the potential for each species, angstrom (or reduced)."""
    cutoff: Positive
    """Angstrom (or reduced)."""
    at_cutoff: Literal["shifted", "plain"] = "shifted"
    """shifted: the energy is continuous; plain: it jumps."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if not len(self.species) == len(self.epsilon) == len(self.sigma):
            raise ValueError("species, epsilon and sigma need one entry for each species")
        if len(set(self.species)) < len(self.species):
            raise ValueError("species: each symbol once")
        if self.cutoff <= 0.9 * max(self.sigma):
            raise ValueError("cutoff: lies inside the repulsive core (0.9 sigma)")
        return self


class StillingerWeberSection(Section):
    """Silicon after Stillinger and Weber (1985)."""

    kind: Literal["stillinger_weber"]


class DeepPotentialSection(Section):
    """A trained network, or a committee of them."""

    kind: Literal["deep_potential"]
    model: InputPath
    """Weights (safetensors) with their card beside them."""


class AseSection(Section):
    """A calculator of ASE drives the dynamics."""

    kind: Literal["ase"]
    calculator: Literal["emt"]
    """emt: effective medium theory for Al, Cu, Ag, Au, Ni, Pd, Pt."""


PotentialSection = Annotated[
    LennardJonesSection | StillingerWeberSection | DeepPotentialSection | AseSection,
    Field(discriminator="kind"),
]

Temperatures = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


class NveSection(Section):
    """Constant energy."""

    kind: Literal["nve"]


class Heat(Section):
    """A bath, at one temperature or along a ramp."""

    temperature: Positive | Temperatures | None = None
    """K (or reduced): one value, or one for each replica; or give `ramp`."""
    ramp: tuple[tuple[float, Positive], ...] = ()
    """Points (time, temperature), linear between them; time in fs (or reduced)."""
    relaxation: Positive
    """Relaxation time of the bath, fs (or reduced)."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.temperature is None) == (not self.ramp):
            raise ValueError("give either temperature or ramp")
        times = [time for time, _ in self.ramp]
        if times != sorted(set(times)):
            raise ValueError("ramp: times must increase")
        if isinstance(self.temperature, tuple) and min(self.temperature) <= 0:
            raise ValueError("temperature: a bath needs a temperature above zero")
        return self


class LangevinSection(Heat):
    """Langevin dynamics (BAOAB)."""

    kind: Literal["langevin"]


class NoseHooverSection(Heat):
    """Nose-Hoover chain."""

    kind: Literal["nose_hoover"]
    chain: Annotated[int, Field(ge=1, le=20)] = 3
    """Members of the chain."""


class BussiSection(Heat):
    """Stochastic velocity rescaling."""

    kind: Literal["bussi"]


class NptSection(Heat):
    """Constant pressure and temperature; velocities are rescaled by a stochastic factor."""

    kind: Literal["npt"]
    barostat: Literal["cell_rescaling", "mtk"] = "cell_rescaling"
    """cell_rescaling: stochastic, first order; mtk: the cell has a mass."""
    pressure: float | None = None
    """GPa (or reduced); 0 by default; or give `pressure_ramp`."""
    pressure_ramp: tuple[tuple[float, float], ...] = ()
    """Points (time, pressure), linear between them; time in fs (or reduced)."""
    cell: Literal["isotropic", "anisotropic", "triclinic"] = "isotropic"
    """What of the cell may change."""
    pressure_relaxation: Positive
    """Relaxation time (cell_rescaling) or period (mtk) of the cell, fs (or reduced)."""
    compressibility: Positive = 0.01
    """Rough value in 1/GPa (or reduced), for cell_rescaling."""

    @model_validator(mode="after")
    def _one_pressure(self) -> Self:
        if self.pressure is not None and self.pressure_ramp:
            raise ValueError("give either pressure or pressure_ramp")
        times = [time for time, _ in self.pressure_ramp]
        if times != sorted(set(times)):
            raise ValueError("pressure_ramp: times must increase")
        return self


Ensemble = Annotated[
    NveSection | LangevinSection | NoseHooverSection | BussiSection | NptSection,
    Field(discriminator="kind"),
]


class RunSection(Section):
    """How long, and in what steps."""

    steps: Annotated[int, Field(ge=0, le=10**10)]
    """Number of time steps."""
    timestep: Positive
    """fs (or reduced)."""
    temperature: float | Temperatures | None = None
    """Of the initial velocities, K (or reduced); default: the bath's first, or those of
    the structure file, or 0."""
    skin: Positive | None = None
    """Margin of the neighbour list, angstrom (or reduced); default 0.5 (0.3 reduced)."""
    report_every: Annotated[int, Field(ge=1)] = 100
    """Steps between lines of the log."""
    checkpoint_every: Annotated[int, Field(ge=0)] = 1000
    """Steps between checkpoints; 0 for one at the end."""
    largest_force: Positive = 1000.0
    """The run is stopped above this force, eV/angstrom (or reduced)."""
    fixed: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Atoms (numbers in the structure) that do not move; not with npt."""
    trusted_deviation: Positive = 1.0
    """The summary says where a committee disagreed by more than this, eV/angstrom."""


class Sampled(Section):
    """What is averaged over a part of the run."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")] = "all"
    """Name of the curve."""
    start: Annotated[int, Field(ge=0)] = 0
    """First step."""
    stop: Annotated[int, Field(ge=1)] | None = None
    """Last step; the end of the run by default."""
    every: Annotated[int, Field(ge=1)] = 20
    """Steps between samples."""
    reference: InputPath | None = None
    """What it should be, drawn beside it: a CSV file whose header names the abscissa and
    then the species of each curve (``r,HH,HO,OO``); lines with # are remarks."""


class RdfSection(Sampled):
    """Radial distribution function, averaged over a part of the run."""

    r_max: Positive = 8.0
    """Largest distance, angstrom (or reduced)."""
    bins: Annotated[int, Field(ge=10, le=10000)] = 160
    """Number of bins."""


class AdfSection(Sampled):
    """Distribution of the angle between two neighbours of an atom, and their number."""

    reach: Positive
    """Largest distance of a neighbour, angstrom (or reduced)."""
    bins: Annotated[int, Field(ge=10, le=1800)] = 90
    """Number of bins from 0 to 180 degrees."""


class CorrelationSection(Section):
    """A correlation in time, averaged over windows that begin at regular intervals."""

    start: Annotated[int, Field(ge=0)] = 0
    """First step."""
    every: Annotated[int, Field(ge=1)] = 10
    """Steps between samples."""
    samples: Annotated[int, Field(ge=8, le=100_000)] = 200
    """Samples in a window."""
    spacing: Annotated[int, Field(ge=1)] = 50
    """Samples between the beginnings of windows."""


class OutputSection(Section):
    """What is kept."""

    trajectory_every: Annotated[int, Field(ge=0)] = 100
    """Steps between frames of the trajectory; 0 for none."""
    velocities: bool = False
    """Keep momenta in the trajectory."""
    forces: bool = False
    """Keep forces in the trajectory."""
    thermo_every: Annotated[int, Field(ge=1)] = 10
    """Steps between samples of temperature, energies and pressure."""
    average_from: Annotated[int, Field(ge=0)] = 0
    """First step that enters the averages of the summary."""
    rdf: tuple[RdfSection, ...] = ()
    """Radial distribution functions."""
    adf: tuple[AdfSection, ...] = ()
    """Angular distribution functions and coordination numbers."""
    displacement: CorrelationSection | None = None
    """Mean squared displacement and, from its slope, the diffusion coefficient."""
    velocity: CorrelationSection | None = None
    """Velocity autocorrelation and vibrational density of states."""
    stress: CorrelationSection | None = None
    """Autocorrelation of the shear stress and, from its integral, the viscosity."""
    extxyz: bool = False
    """Write the trajectory as trajectory.extxyz, too (of every replica a file)."""


class MdScenario(Common):
    """Molecular dynamics of one structure, or of many replicas of it at once."""

    job: ClassVar[str] = "scalebridge.engine.jobs.md:assemble"
    kind: Literal["md"]
    units: Literal["metal", "lj"] = "metal"
    """metal: eV, angstrom, amu, K, fs, GPa; lj: reduced units."""
    structure: Structure
    """Where the atoms begin."""
    potential: PotentialSection
    """What acts between them."""
    ensemble: Ensemble
    """How they move."""
    run: RunSection
    """Steps and reports."""
    output: OutputSection = OutputSection()
    """What is kept."""
    replicas: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Independent systems, with seeds seed, seed + 1, ..."""

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        for name, given in (
            ("ensemble.temperature", getattr(self.ensemble, "temperature", None)),
            ("run.temperature", self.run.temperature),
        ):
            if isinstance(given, tuple) and len(given) not in (1, self.replicas):
                raise ValueError(
                    f"{name} has {len(given)} values for {self.replicas} replicas"
                )
        return self

    @model_validator(mode="after")
    def _outputs_fit(self) -> Self:
        steps = self.run.steps
        for kind, sampled in (("rdf", self.output.rdf), ("adf", self.output.adf)):
            for item in sampled:
                if (item.stop or steps) > steps or item.start > steps:
                    raise ValueError(
                        f"output.{kind} {item.name}: reaches beyond the {steps} steps"
                    )
            names = [item.name for item in sampled]
            if len(set(names)) < len(names):
                raise ValueError(f"output.{kind}: names must differ")
        return self

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        mass = getattr(self.structure, "mass", None)
        if self.units == "lj" and self.potential.kind != "lennard_jones":
            raise ValueError("units: lj goes with a lennard_jones potential only")
        if self.units == "lj" and self.structure.kind != "file" and mass is None:
            raise ValueError("structure.mass: reduced units need one (1.0)")
        return self
