"""What a scenario of variational Monte Carlo may say; hartree atomic units."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common, Section

Position = tuple[float, float, float]


class MoleculeSection(Section):
    """Electrons in the field of clamped nuclei."""

    kind: Literal["molecule"]
    symbols: list[str] = Field(min_length=1)
    """Chemical symbols of the nuclei."""
    positions: list[Position] = Field(min_length=1)
    """Positions of the nuclei in ``unit``."""
    unit: Literal["bohr", "angstrom"] = "bohr"
    """Unit of the positions."""
    charge: int = 0
    """Total charge; positive where electrons are missing."""
    spin: int | None = Field(default=None, ge=0)
    """Unpaired electrons; by default those of the atom's ground state, else 0 or 1."""

    @model_validator(mode="after")
    def _one_position_each(self) -> Self:
        if len(self.symbols) != len(self.positions):
            raise ValueError(
                f"{len(self.symbols)} symbols but {len(self.positions)} positions; "
                "every nucleus needs one"
            )
        return self


class TrapSection(Section):
    """Particles in an isotropic harmonic trap."""

    kind: Literal["trap"]
    omega: float = Field(default=0.5, gt=0)
    """Trap frequency in hartree."""
    up: int = Field(default=1, ge=1)
    """Particles of the first kind; all of them for bosons."""
    down: int = Field(default=1, ge=0)
    """Particles of the second kind; 0 for bosons."""
    repulsion: float = Field(default=1.0, ge=0)
    """Strength g of the repulsion g / r; 1 for electrons."""
    bosons: bool = False
    """Whether the wavefunction is symmetric under exchange."""
    dim: Literal[2, 3] = 3
    """Space dimensions."""

    @model_validator(mode="after")
    def _statistics(self) -> Self:
        if self.bosons and self.down:
            raise ValueError("bosons are of one kind: down must be 0")
        if self.dim == 2 and self.repulsion:
            raise ValueError(
                "the cusp of 1/r in two dimensions is not supplied; repulsion must be 0"
            )
        return self


class IsingSection(Section):
    """Transverse-field Ising model ``- J sum sz sz - h sum sx``, periodic."""

    kind: Literal["ising"]
    shape: list[int] = Field(min_length=1, max_length=2)
    """Sites along each axis: [n] for a ring, [n, n] for a square."""
    field: float = Field(default=1.0, gt=0)
    """Transverse field h."""
    coupling: float = Field(default=1.0, gt=0)
    """Ferromagnetic coupling J."""


class HeisenbergSection(Section):
    """Antiferromagnetic Heisenberg model ``sum S_i . S_j`` with periodic boundaries."""

    kind: Literal["heisenberg"]
    shape: list[int] = Field(min_length=1, max_length=2)
    """Sites along each axis, all even (the sign rule of Marshall needs two sublattices)."""

    @model_validator(mode="after")
    def _bipartite(self) -> Self:
        if any(side % 2 for side in self.shape):
            raise ValueError(
                f"shape {self.shape}: every side must be even (two sublattices)"
            )
        return self


SystemSection = Annotated[
    MoleculeSection | TrapSection | IsingSection | HeisenbergSection,
    Field(discriminator="kind"),
]


class DeterminantSection(Section):
    """FermiNet-class determinant network with exact cusps."""

    kind: Literal["determinant"]
    size: Literal["small", "medium", "large"] | None = None
    """Replaces width, pair_width, layers and determinants: small is 32, 16, 3, 8; medium is
    64, 32, 4, 16; large is 256, 32, 4, 16."""
    width: int = Field(default=32, ge=1, le=1024)
    """Features of an electron."""
    pair_width: int = Field(default=16, ge=1, le=256)
    """Features of a pair of electrons."""
    layers: int = Field(default=3, ge=0, le=12)
    """Message-passing layers."""
    determinants: int = Field(default=8, ge=1, le=64)
    """Terms in the sum of determinants."""


class SlaterJastrowSection(Section):
    """Hartree-Fock determinant with a Jastrow factor: the baseline."""

    kind: Literal["slater_jastrow"]
    basis: str = "cc-pvdz"
    """Gaussian basis of the orbitals (PySCF name)."""


class DeepWfSection(Section):
    """Determinant-free ansatz of Han, Zhang and E (2019)."""

    kind: Literal["deepwf"]
    width: int = Field(default=32, ge=1, le=1024)
    """Features of an electron."""
    pair_width: int = Field(default=16, ge=1, le=256)
    """Features of a pair."""
    layers: int = Field(default=2, ge=0, le=12)
    """Message-passing layers."""


class RbmSection(Section):
    """Restricted Boltzmann machine on a lattice (Carleo and Troyer 2017)."""

    kind: Literal["rbm"]
    alpha: int = Field(default=2, ge=1, le=32)
    """Hidden units per site (filters, where symmetric)."""
    symmetric: bool = True
    """Whether the weights are shared over all translations."""


WavefunctionSection = Annotated[
    DeterminantSection | SlaterJastrowSection | DeepWfSection | RbmSection,
    Field(discriminator="kind"),
]


class SpringSection(Section):
    """Natural gradient with momentum (SPRING; MinSR at momentum 0)."""

    kind: Literal["spring"] = "spring"
    rate: float = Field(default=0.05, gt=0, le=1)
    """Learning rate."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Share of the last direction that is kept."""
    ramp: int = Field(default=200, ge=0)
    """Steps over which the momentum grows from 0."""
    damping: float = Field(default=1e-3, gt=0)
    """Tikhonov shift."""
    max_norm: float = Field(default=1e-3, gt=0)
    """Bound on the squared length of a step."""
    decay: float = Field(default=2000.0, gt=0)
    """Steps after which the rate is halved."""
    clip: float = Field(default=5.0, ge=0)
    """Clipping of energies in the gradient, in mean absolute deviations; 0 for none."""


class AdamSection(Section):
    """Adam on the energy gradient."""

    kind: Literal["adam"]
    rate: float = Field(default=3e-3, gt=0, le=1)
    """Learning rate."""
    clip: float = Field(default=5.0, ge=0)
    """Clipping of energies in the gradient, in mean absolute deviations; 0 for none."""


OptimiserSection = Annotated[SpringSection | AdamSection, Field(discriminator="kind")]


class SamplingSection(Section):
    """Metropolis sampling of ``|psi|^2``."""

    walkers: int = Field(default=512, ge=8, le=1_000_000)
    """Independent walkers."""
    moves: int = Field(default=10, ge=1)
    """Moves per sweep (in units of the number of sites on a lattice)."""
    burn_in: int = Field(default=10, ge=0)
    """Sweeps before the first step."""
    exchange: bool = True
    """Whether a sweep ends with an exchange of an up and a down electron."""
    chunk: int = Field(default=128, ge=1)
    """Walkers in one pass of the network; smaller needs less memory."""


class PretrainingSection(Section):
    """Hartree-Fock pretraining of a determinant network."""

    steps: int = Field(default=150, ge=0)
    """Steps of Adam; 0 for none."""
    basis: str = "cc-pvdz"
    """Gaussian basis (PySCF name)."""


class EvaluationSection(Section):
    """Frozen evaluation at the end."""

    sweeps: int = Field(default=100, ge=10)
    """Measurements of every walker."""
    forces: bool = False
    """Whether to measure forces on the nuclei."""
    spin: bool = False
    """Whether to measure S^2."""
    density: int = Field(default=0, ge=0, le=256)
    """Cells along each axis of the density grid; 0 for none."""


class VmcScenario(Common):
    """Solve the ground state of one system."""

    job: ClassVar[str] = "scalebridge.engine.jobs.vmc:assemble"
    kind: Literal["vmc"]

    @classmethod
    def variants(cls) -> tuple[type[Common], ...]:  # type: ignore[override]
        """Return the scenarios of one system and of a scan."""
        return (VmcScenario, VmcScanScenario)

    @classmethod
    def variant(cls, data: Any) -> type[Common]:
        """Return the scenario of a scan where ``data`` has points."""
        return VmcScanScenario if "points" in data else VmcScenario

    precision: Literal["f32", "f64"] = "f32"
    """Precision of the network; linear algebra and averages are always f64."""
    system: SystemSection
    """What is solved."""
    wavefunction: WavefunctionSection
    """The ansatz."""
    optimiser: OptimiserSection = SpringSection()
    """How its parameters change."""
    sampling: SamplingSection = SamplingSection()
    """How walkers move."""
    pretraining: PretrainingSection = PretrainingSection()
    """What precedes the first step (molecules with a determinant network)."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at the end."""
    iterations: int = Field(default=500, ge=0)
    """Steps of the optimisation."""
    checkpoint_every: int = Field(default=100, ge=0)
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _ansatz_fits(self) -> Self:
        lattice = self.system.kind in ("ising", "heisenberg")
        if lattice != (self.wavefunction.kind == "rbm"):
            allowed = "rbm" if lattice else "determinant, slater_jastrow, deepwf"
            raise ValueError(
                f"wavefunction {self.wavefunction.kind} cannot describe "
                f"{self.system.kind}; allowed: {allowed}"
            )
        if self.wavefunction.kind in ("slater_jastrow",) and self.system.kind != "molecule":
            raise ValueError(
                "slater_jastrow needs a molecule: its orbitals come from PySCF"
            )
        return self


class PointSection(Section):
    """One geometry of a scan."""

    coordinate: float
    """Value on the axis of the curve."""
    positions: list[Position] = Field(min_length=1)
    """Positions of the nuclei in bohr."""
    reference: float | None = None
    """Exact (or full configuration interaction) energy in hartree, where known."""
    ccsd_t: float | None = None
    """CCSD(T) energy in hartree, for comparison."""


class VmcScanScenario(Common):
    """Solve one molecule along a path of geometries, each from the nearest one solved."""

    job: ClassVar[str] = "scalebridge.engine.jobs.vmc:assemble"
    kind: Literal["vmc"]
    precision: Literal["f32", "f64"] = "f32"
    """Precision of the network."""
    symbols: list[str] = Field(min_length=1)
    """Chemical symbols."""
    charge: int = 0
    """Total charge."""
    spin: int | None = Field(default=None, ge=0)
    """Unpaired electrons."""
    points: list[PointSection] = Field(min_length=1)
    """The geometries, solved in this order."""
    axis: str = "coordinate"
    """What the coordinate is, with its unit."""
    source: str = ""
    """Where the reference energies stand."""
    wavefunction: DeterminantSection = DeterminantSection(kind="determinant")
    """The ansatz."""
    optimiser: OptimiserSection = SpringSection()
    """How its parameters change."""
    sampling: SamplingSection = SamplingSection()
    """How walkers move."""
    pretraining: PretrainingSection = PretrainingSection()
    """What precedes the first step."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at each geometry."""
    first_iterations: int = Field(default=400, ge=1)
    """Steps at the first geometry."""
    iterations: int = Field(default=100, ge=1)
    """Steps at each further one."""

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        for point in self.points:
            if len(point.positions) != len(self.symbols):
                raise ValueError(
                    f"the point at {point.coordinate} has {len(point.positions)} positions "
                    f"for {len(self.symbols)} symbols"
                )
        return self


class RitzScenario(Common):
    """Poisson's equation by the variational principle, with a network and random points."""

    job: ClassVar[str] = "scalebridge.engine.jobs.vmc:assemble"
    kind: Literal["ritz"]
    problem: Literal["slit", "mixed"]
    """slit: the unit square [-1, 1]^2 with a slit, right side 1, u = 0 on the boundary;
    mixed: laplacian u = 0 in [0, 1]^d with the harmonic u = sum of x_(2k-1) x_(2k)."""
    dim: int = Field(default=2, ge=2, le=32)
    """Space dimensions (2 for the slit; even for mixed)."""
    width: int = Field(default=10, ge=1, le=512)
    """Width of the residual network."""
    blocks: int = Field(default=3, ge=1, le=16)
    """Residual blocks."""
    penalty: float = Field(default=5000.0, gt=0)
    """Weight of the boundary term."""
    points: int = Field(default=4000, ge=16)
    """Sobol points in the domain, and half as many on the boundary, per step."""
    iterations: int = Field(default=40, ge=1)
    """Steps of natural gradient."""
    rate: float = Field(default=1.0, gt=0, le=1)
    """Longest step, in units of the Newton step."""
    decay: float = Field(default=10.0, gt=0)
    """Steps after which the rate is halved."""
    damping: float = Field(default=3e-3, gt=0)
    """Tikhonov shift of the metric."""

    @model_validator(mode="after")
    def _dimension_fits(self) -> Self:
        if self.problem == "slit" and self.dim != 2:
            raise ValueError(f"the slit lies in a square: dim must be 2, not {self.dim}")
        if self.problem == "mixed" and self.dim % 2:
            raise ValueError(f"u = sum x_(2k-1) x_(2k) needs an even dim, not {self.dim}")
        return self
