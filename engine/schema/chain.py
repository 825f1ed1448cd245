"""What a scenario of the chain from quantum chemistry to a shock may say."""

import itertools
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ..gas.collisions.published import PUBLISHED
from ..learn.labelers.dimer import DimerLabeler
from ..learn.labelers.vmc_dimer import VmcDimerLabeler
from .base import Common, InputPath, Section, given

Positive = Annotated[float, Field(gt=0)]
Kelvin = Annotated[float, Field(ge=20, le=20_000)]
"""Of a gas of atoms: neither a condensate nor a plasma."""

CLOSEST = 0.1
"""Bohr between two labels: nearer ones say the same and amplify their errors."""


class AtomsSection(Section):
    """The atoms of the gas: mass and dispersion follow from the symbol."""

    symbol: Literal["He", "Ne", "Ar", "Kr", "Xe"] = "He"
    """Noble gas."""
    mass: Positive | None = None
    """amu; if given it must be that of the symbol."""
    dispersion: tuple[Positive, ...] | None = None
    """C6, C8, C10 in hartree bohr^n; if given they must be within 5 % of those known."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        known = PUBLISHED[self.symbol]
        if self.mass is not None and abs(self.mass / known.mass - 1) > 1e-3:
            raise ValueError(
                f"mass: {self.mass} contradicts symbol = {self.symbol!r}, whose mass is "
                f"{known.mass}; leave it out"
            )
        pairs = zip(self.dispersion or (), known.dispersion, strict=False)
        for told, value in pairs:
            if abs(told / value - 1) > 0.05:
                raise ValueError(
                    f"dispersion: {told} contradicts symbol = {self.symbol!r}, for which "
                    f"{value:.5g} is known; leave it out"
                )
        return self


class PublishedLabels(Section):
    """Labels from the published potential of the atoms, exact."""

    kind: Literal["published"] = "published"
    error: Annotated[float, Field(ge=1e-6, le=0.1)] = 1e-4
    """Relative standard error that they are given."""


PairLabeler = DimerLabeler | VmcDimerLabeler | PublishedLabels
"""What computes the interaction energy of two atoms."""


class FarLabels(Section):
    """Labels of another kind farther out."""

    beyond: Positive
    """Bohr: labels at larger separations are of this kind."""
    labeler: Annotated[PairLabeler, Field(discriminator="kind")]
    """What computes them."""


class LabelsSection(Section):
    """Which interaction energies are computed, and how."""

    labeler: Annotated[PairLabeler, Field(discriminator="kind")]
    """Quantum chemistry, variational Monte Carlo, or a published potential."""
    far: FarLabels | None = None
    """Another labeler farther out."""
    finer: DimerLabeler | None = None
    """A higher level of theory, asked where the common error decides."""
    start: Annotated[tuple[Positive, ...], Field(min_length=3, max_length=24)] = (
        2.0,
        4.0,
        5.6,
    )
    """Separations that are labelled first, bohr."""
    nearest: Positive = 1.5
    """Smallest separation that may be labelled, bohr."""
    farthest: Positive = 9.0
    """Largest, bohr."""
    tolerance: Annotated[float, Field(gt=1e-5, le=0.5)] = 0.003
    """Relative error bar of the thickness at which labelling stops."""
    most: Annotated[int, Field(ge=3, le=100)] = 12
    """Labels."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.nearest >= self.farthest:
            raise ValueError("nearest must lie below farthest")
        inner, outer = min(self.start), max(self.start)
        if inner < self.nearest or outer > self.farthest:
            raise ValueError(
                f"start: {inner:g} to {outer:g} bohr; allowed is nearest = "
                f"{self.nearest:g} to farthest = {self.farthest:g}"
            )
        if self.far is not None and not self.nearest < self.far.beyond < self.farthest:
            raise ValueError(
                f"far.beyond: {self.far.beyond:g} bohr leaves one labeler nothing to do; "
                f"allowed is between nearest = {self.nearest:g} and farthest = "
                f"{self.farthest:g}"
            )
        rising = sorted(self.start)
        gap = min(b - a for a, b in itertools.pairwise(rising))
        if gap < CLOSEST:
            raise ValueError(
                f"start: two separations {gap:.2g} bohr apart; at least {CLOSEST:g}"
            )
        return self


class PotentialSection(Section):
    """What is assumed of the potential between labels."""

    length: Annotated[float, Field(ge=0.1, le=5)] = 1.0
    """Over which the relative correction varies, bohr."""
    amplitude: Annotated[float, Field(gt=0, le=0.5)] = 0.02
    """Of the relative correction."""


class TransportSection(Section):
    """The dilute gas."""

    temperatures: Annotated[tuple[Kelvin, ...], Field(min_length=1, max_length=64)] = (
        300.0, 500.0, 700.0, 1000.0,
    )  # fmt: skip
    """K, at which it is compared with the published potential."""
    quantum: bool = True
    """Phase shifts for slow collisions."""
    confirm: Annotated[tuple[Kelvin, ...], Field(max_length=8)] = ()
    """K, of those: molecular dynamics of colliding pairs computes the viscosity as well."""
    pairs: Annotated[int, Field(ge=128, le=100_000)] = 4096
    """That collide for each of them."""

    @model_validator(mode="after")
    def _among(self) -> Self:
        for t in self.confirm:
            if t not in self.temperatures:
                raise ValueError(
                    f"confirm: {t:g} K is none of temperatures {self.temperatures}"
                )
        if "pairs" in given(self) and not self.confirm:
            raise ValueError("pairs: nothing collides; say at which temperatures: confirm")
        return self


def _once(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Return Mach numbers none of which stands twice."""
    twice = [m for i, m in enumerate(numbers) if m in numbers[:i]]
    if twice:
        raise ValueError(f"{twice[0]:g} stands twice")
    return numbers


class ParticlesSection(Section):
    """Direct simulation Monte Carlo of the same shocks."""

    mach: Annotated[
        tuple[Annotated[float, Field(gt=1.05, le=12)], ...],
        Field(min_length=1),
        AfterValidator(_once),
    ]
    """Mach numbers."""
    per_free_path: Annotated[float, Field(ge=20, le=1e6)] = 1500.0
    """Particles in a mean free path ahead."""
    settling: Annotated[int, Field(ge=100)] = 2000
    """Steps before particles are counted."""
    steps: Annotated[int, Field(ge=160)] = 8000
    """Steps that are counted."""
    wall: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    """Relative change of the potential's wall by which the derivative of the thickness is
    taken from particles too, at Mach ``of``: two more runs; 0: none."""


class ShockSection(Section):
    """The shocks, all in the same gas ahead."""

    temperature: Kelvin = 300.0
    """K, ahead."""
    pressure: Positive = 6.67
    """Pa, ahead."""
    mach: Annotated[
        tuple[Annotated[float, Field(gt=1.05, le=10)], ...],
        Field(min_length=1),
        AfterValidator(_once),
    ]
    """Mach numbers of the kinetic equation (Shakhov's model)."""
    of: Annotated[float, Field(gt=1.05, le=10)] = 2.0
    """Mach number whose thickness the labels are chosen for."""
    cells: Annotated[int, Field(ge=40, le=600)] = 120
    """Of the kinetic equation."""
    extent: Annotated[float, Field(ge=8, le=100)] = 14.0
    """Half width of the box, mean free paths ahead."""
    nodes: Annotated[int, Field(ge=32, le=400)] = 64
    """Velocities."""
    settling: Annotated[int, Field(ge=100, le=100_000)] = 1500
    """Time steps before Newton's method."""
    particles: ParticlesSection | None = None
    """Without it the Boltzmann equation itself is not solved."""
    closure: InputPath | None = None
    """Weights of a closure learned for a monatomic gas (three velocity dimensions, Prandtl
    number 2/3), by which the shocks are computed too; or a scenario that trains one
    (``closure_3v_train.toml``), which then is part of the run."""

    @model_validator(mode="after")
    def _has_goal(self) -> Self:
        if self.of not in self.mach:
            raise ValueError(f"of: {self.of:g} is none of mach {self.mach}")
        some = self.particles
        if some is not None and some.wall and self.of not in some.mach:
            raise ValueError(
                f"particles.wall: asks for particles at Mach of = {self.of:g}, which is "
                f"none of particles.mach {some.mach}"
            )
        return self


class ChainScenario(Common):
    """From interaction energies of two atoms to shock waves in their gas."""

    job: ClassVar[str] = "scalebridge.engine.jobs.chain:assemble"
    kind: Literal["chain"]
    precision: Literal["f64"] = "f64"
    """Gradients are certified in double precision."""
    device: Literal["cpu"] = "cpu"
    """Where it runs."""
    atoms: AtomsSection = AtomsSection()
    """The gas."""
    labels: LabelsSection
    """Quantum chemistry."""
    potential: PotentialSection = PotentialSection()
    """The learned potential."""
    transport: TransportSection = TransportSection()
    """The dilute gas."""
    shock: ShockSection
    """The shocks."""
    difference: Annotated[float, Field(gt=1e-4, le=0.05)] = 0.01
    """Relative step of the finite difference that checks the gradient."""

    @model_validator(mode="before")
    @classmethod
    def _one_symbol(cls, data: Any) -> Any:
        """The labelers take the atoms' symbol; theirs need not be written."""
        if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
            return data
        atoms = data.get("atoms")
        symbol = atoms.get("symbol", "He") if isinstance(atoms, dict) else "He"
        labels = dict(data["labels"])
        for key in ("labeler", "finer"):
            labels[key] = _with_symbol(labels.get(key), symbol, f"labels.{key}")
        far = labels.get("far")
        if isinstance(far, dict):
            own = _with_symbol(far.get("labeler"), symbol, "labels.far.labeler")
            labels["far"] = {**far, "labeler": own}
        labels = {key: item for key, item in labels.items() if item is not None}
        return {**data, "labels": labels}


def _with_symbol(item: Any, symbol: str, key: str) -> Any:
    """Return the table of a labeler with the atoms' symbol, if its kind has one."""
    if not isinstance(item, dict) or item.get("kind") == "published":
        return item
    if item.get("symbol", symbol) != symbol:
        raise ValueError(
            f"{key}.symbol: {item['symbol']!r} contradicts atoms.symbol {symbol!r}"
        )
    return {"kind": "dimer", **item, "symbol": symbol}
