"""What a scenario of variational Monte Carlo may say; hartree atomic units."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...models.wavefunctions import WAVEFUNCTIONS
from ...models.wavefunctions.determinant import DeterminantForm
from ..vmc import OPTIMISERS, SYSTEMS
from ..vmc.optimiser import Spring
from .base import Common, InputPath, Section, choice

Position = tuple[float, float, float]
FROM_BELOW = ("hartree_fock", "slater_jastrow")
"""Orbitals, or wavefunctions that have no others, of the ground state."""


class SamplingSection(Section):
    """Metropolis sampling of ``|psi|^2``."""

    walkers: int = Field(default=512, ge=8, le=1_000_000)
    """Independent walkers."""
    moves: int | None = Field(default=None, ge=1)
    """Moves per sweep; by default 5 of all electrons, and on a lattice 10 of every site."""
    burn_in: int = Field(default=50, ge=0)
    """Sweeps before the first step; the second half is measured."""
    exchange: bool = True
    """Whether half of the last moves of a sweep exchange an up and a down electron."""
    chunk: int | None = Field(default=None, ge=1)
    """Walkers in one pass of the network; smaller needs less memory. By default as many as
    fill the cache of a processor, 128 to 512."""


def refuse_pretraining(data: Any) -> Any:
    """Refuse the section of files from before networks started at Hartree-Fock."""
    if isinstance(data, dict) and "pretraining" in data:
        raise ValueError(
            "pretraining: the network starts at Hartree-Fock by construction; leave the "
            "section out (wavefunction.basis, wavefunction.orbitals)"
        )
    return data


def _refuse_other_space(form: Any, space: str, what: str) -> None:
    """Refuse a wavefunction of electrons on a lattice, and one of spins elsewhere."""
    if form.space != space:
        fitting = [c.kind for c in WAVEFUNCTIONS.classes() if c.space == space]  # type: ignore[attr-defined]
        raise ValueError(
            f"wavefunction {form.kind} cannot describe {what}; "
            f"allowed: {', '.join(fitting)}"
        )


def refuse_forces(core: Any, asked: "EvaluationSection") -> None:
    """Refuse forces on nuclei with core potentials, which are not implemented."""
    if core is not None and asked.forces:
        raise ValueError(
            "evaluation.forces: none with core potentials; leave forces or core out"
        )


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
    tolerance: float = Field(default=1.6, gt=0)
    """Error of the energy that counts as converged, in millihartree (on a lattice in
    thousandths of the energy)."""


class ExcitedSection(Section):
    """An excited state: the lowest one that is orthogonal to those of finished runs."""

    above: list[InputPath] = Field(min_length=1)
    """Folders of runs of the same system: of the ground state, then of every state between
    it and this one."""
    penalty: float = Field(default=1.0, gt=0)
    """How far those states are lifted, in hartree: more than they lie below this one."""


class VmcScenario(Common):
    """Solve the ground state of one system, or an excited state above others."""

    job: ClassVar[str] = "scalebridge.engine.jobs.vmc:assemble"
    changeable: ClassVar[tuple[str, ...]] = ("iterations", "checkpoint_every", "evaluation")
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
    system: choice(SYSTEMS)  # type: ignore[valid-type]
    """What is solved."""
    wavefunction: choice(WAVEFUNCTIONS)  # type: ignore[valid-type]
    """The ansatz."""
    optimiser: choice(OPTIMISERS, "spring") = Spring()  # type: ignore[valid-type]
    """How its parameters change."""
    sampling: SamplingSection = SamplingSection()
    """How walkers move."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at the end."""
    excited: ExcitedSection | None = None
    """Which states lie below; without it the ground state is solved."""
    iterations: int = Field(default=500, ge=0)
    """Steps of the optimisation."""
    checkpoint_every: int = Field(default=100, ge=0)
    """Steps between checkpoints."""

    _pretraining = model_validator(mode="before")(refuse_pretraining)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        system, form, asked = self.system, self.wavefunction, self.evaluation
        _refuse_other_space(form, system.space, system.kind)
        if asked.forces and system.kind != "molecule":
            raise ValueError(f"evaluation.forces: no nuclei in {system.kind}; leave it out")
        if asked.density and system.kind == "electron_gas":
            raise ValueError(
                "evaluation.density: that of an electron gas is uniform; leave it out"
            )
        refuse_forces(getattr(system, "core", None), asked)
        if asked.spin and getattr(system, "bosons", False):
            raise ValueError("evaluation.spin: bosons have none; leave it out")
        if self.excited and system.space == "lattice":
            raise ValueError("excited: only of electrons; leave it out")
        if self.excited and getattr(form, "orbitals", form.kind) in FROM_BELOW:
            raise ValueError(
                "excited: a wavefunction that begins at Hartree-Fock begins at the ground "
                'state; wavefunction.orbitals = "none" does not'
            )
        if self.excited and asked.forces:
            raise ValueError("evaluation.forces: only of the ground state; leave them out")
        if (asked.spin or asked.density) and system.space == "lattice":
            raise ValueError(
                "evaluation.spin, evaluation.density: only of electrons; leave them out"
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
    core: str | dict[str, str] | None = None
    """Effective potential in place of inner electrons, as in ``system.core``."""
    points: list[PointSection] = Field(min_length=1)
    """The geometries, solved in this order."""
    axis: str = "coordinate"
    """What the coordinate is, with its unit."""
    source: str = ""
    """Where the reference energies are published."""
    wavefunction: choice(WAVEFUNCTIONS, "determinant") = DeterminantForm()  # type: ignore[valid-type]
    """The ansatz."""
    optimiser: choice(OPTIMISERS, "spring") = Spring()  # type: ignore[valid-type]
    """How its parameters change."""
    sampling: SamplingSection = SamplingSection()
    """How walkers move."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is measured at each geometry."""
    differences: bool = False
    """Whether the energy of each further geometry is measured above that of the nearest
    one before it with the same walkers: for steps of a few hundredths of a bohr."""
    together: bool = False
    """Whether one wavefunction is optimised for all geometries at once, in
    ``first_iterations`` steps of ``sampling.walkers`` at each: then few are enough (about
    512 in all). Else each geometry goes on from the nearest one before it."""
    first_iterations: int = Field(default=400, ge=1)
    """Steps at the first geometry."""
    iterations: int = Field(default=100, ge=1)
    """Steps at each further one."""

    _pretraining = model_validator(mode="before")(refuse_pretraining)

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        refuse_forces(self.core, self.evaluation)
        _refuse_other_space(self.wavefunction, "continuum", "a molecule")
        for point in self.points:
            if len(point.positions) != len(self.symbols):
                raise ValueError(
                    f"the point at {point.coordinate} has {len(point.positions)} positions "
                    f"for {len(self.symbols)} symbols"
                )
        names = [f"{point.coordinate:g}" for point in self.points]
        twice = [name for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise ValueError(
                f"points: two at {twice[0]} in six digits, which names their figures; "
                "every coordinate once"
            )
        return self
