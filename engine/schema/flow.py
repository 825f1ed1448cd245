"""Gases and models of a flow, which scenarios compare with each other."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ...models.parts import Family
from ..gas.closures.parts import MOMENT_CLOSURES, Hyperbolic
from ..gas.collisions.published import PUBLISHED
from .base import InputPath, Section, choice
from .box import Positive, Speed


class GasSection(Section):
    """A gas whose viscosity follows a law."""

    kind: Literal["law"] = "law"
    dimension: Literal[1, 2, 3] = 3
    """Velocity dimensions D; gamma = (D + 2) / D."""
    prandtl: float = Field(default=1.0, ge=0.01, le=100)
    """Prandtl number; 1 for BGK, 2/3 for a monatomic gas."""
    viscosity: Literal["power_law", "constant_time"] = "power_law"
    """power_law: mu = Kn T^omega; constant_time: relaxation time tau = Kn."""
    omega: float = Field(default=1.0, ge=0, le=2)
    """Exponent of the power law; 0.5 hard spheres, 1 Maxwell molecules."""


class TransportGas(Section):
    """A monatomic gas whose viscosity and Prandtl number follow tables over temperature.

    The tables follow from a pair potential (Chapman and Enskog's theory to third order), or
    are read from a file. The Knudsen number is that at temperature 1.
    """

    kind: Literal["transport"]
    of: Literal[tuple(PUBLISHED)] | None = None  # type: ignore[valid-type]
    """A published potential; slow atoms scatter by quantum mechanics."""
    epsilon: Positive | None = None
    """Depth of a Lennard-Jones well, K; instead of ``of``."""
    file: InputPath | None = None
    """A text file with columns T (K), mu (any unit), Pr; instead of ``of``."""
    temperature: Positive
    """Of the gas at reference temperature 1, K."""
    range: tuple[Positive, Positive] | None = None
    """Lowest and highest temperature of the table, K; without it from half the lowest to
    twice the highest that start and boundaries can give, or all of the file."""
    prandtl: float | None = Field(default=None, ge=0.01, le=100)
    """Constant, in place of the table's; BGK asks for 1."""

    dimension: ClassVar[int] = 3

    @model_validator(mode="after")
    def _one_source(self) -> "TransportGas":
        if sum(x is not None for x in (self.of, self.epsilon, self.file)) != 1:
            raise ValueError(
                "give of (a published potential), epsilon (Lennard-Jones) or file, one of "
                "the three"
            )
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: {self.range[0]:g} must lie below {self.range[1]:g}")
        if self.range is not None and self.file is not None:
            raise ValueError("range: the file gives it; leave it out")
        return self


def _gas_kind(value: Any) -> Any:
    return {"kind": "law", **value} if isinstance(value, dict) else value


AnyGas = Annotated[
    Annotated[GasSection | TransportGas, Field(discriminator="kind")],
    BeforeValidator(_gas_kind),
]
"""A gas by a law of viscosity (the default), or by tables."""


class ModelSection(Section):
    """What every model may be told."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")
    """What it is called in the results."""
    refine: int = Field(default=1, ge=1, le=16)
    """Cells per cell of the grid along each axis (a reference on a finer grid)."""


class KineticModel(ModelSection):
    """Discrete velocities with a BGK-type collision term."""

    kind: Literal["kinetic"]
    collision: Literal["bgk", "es", "shakhov"] = "bgk"
    """Collision model."""
    nodes: Annotated[
        tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=1, max_length=3)
    ]
    """Velocities along each resolved axis; other directions of the gas are reduced."""
    lower: tuple[Speed, ...]
    """Lower ends of the velocity axes, unit sqrt(R T0)."""
    upper: tuple[Speed, ...]
    """Upper ends."""
    cfl: float = Field(default=0.45, gt=0, le=0.5)
    """Courant number of the fastest velocity; over 0.5 the scheme is not positive."""


class EulerModel(ModelSection):
    """Euler equations."""

    kind: Literal["euler"]
    scheme: Literal["first", "muscl", "weno5"] = "muscl"
    """Reconstruction."""
    gamma: float | None = Field(default=None, gt=1)
    """Ratio of specific heats; without it that of the gas, (D + 2) / D."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number at the start; the step is fixed, so leave room for faster waves."""


class NsfModel(ModelSection):
    """Navier-Stokes-Fourier equations with slip and jump at walls."""

    kind: Literal["nsf"]
    scheme: Literal["first", "muscl", "weno5"] = "muscl"
    """Reconstruction."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number at the start; viscosity may ask for a shorter step, which is taken."""


class HermiteModel(ModelSection):
    """Hyperbolic moment equations (HME) with a closure to choose."""

    kind: Literal["hermite"]
    order: int | None = Field(default=None, ge=3, le=16)
    """Highest moment M; M + 1 equations for D = 1, (M + D)! / (M! D!) for any D. Without it
    that of a learned closure, else 5."""
    closure: choice(MOMENT_CLOSURES) = Hyperbolic()  # type: ignore[valid-type]
    """Closure of the last equations: hyperbolic, grad, realizable, or a learned one."""
    upwind: Literal["roe", "rusanov"] | None = None
    """Dissipation of each wave (roe), or that of the fastest (rusanov, more robust). If not
    said rusanov for D = 1 and an analytic closure, else roe."""
    limiter: Literal["van_leer", "koren"] | None = None
    """Of the reconstruction. Without it koren with a learned closure, as it was trained,
    else van_leer."""
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number of the fastest signal at the start."""


class Grad13Model(ModelSection):
    """Grad's thirteen moments of a 3D gas; complex speeds are reported."""

    kind: Literal["grad13"]
    cfl: float = Field(default=0.3, gt=0, le=1)
    """Courant number of the fastest signal at the start."""


GAS_MODELS = Family(
    "gas_model",
    __name__,
    {
        kind: f"{__name__}:{name}"
        for kind, name in (
            ("kinetic", "KineticModel"), ("euler", "EulerModel"), ("nsf", "NsfModel"),
            ("hermite", "HermiteModel"), ("grad13", "Grad13Model"),
        )
    },
)  # fmt: skip
"""Models of a flow; a package from outside adds ``gas_model.KIND``: a part with a ``cfl``
and ``equations(gas)`` (:class:`..gas.scheme.finite_volume.Equations`)."""

Model = choice(GAS_MODELS)


def check_models(models: Sequence[Any], dim: int, gas: Any) -> None:
    """Refuse models that do not fit the space or the gas.

    Args:
        models: ``model``, then those of ``compare``.
        dim: axes of the grid.
        gas: of them all, with ``dimension`` and ``prandtl``.

    Raises:
        ValueError: by the key of the model.
    """
    for number, model in enumerate(models):
        key = f"compare.{number - 1}" if number else "model"
        _check(model, models, dim, gas, key)


def _check(model: Any, models: Sequence[Any], dim: int, gas: Any, key: str) -> None:
    if isinstance(model, KineticModel):
        axes = len(model.nodes)
        if not axes == len(model.lower) == len(model.upper):
            raise ValueError(f"{key}: nodes, lower and upper must have the same length")
        for low, high in zip(model.lower, model.upper, strict=True):
            if low >= high:
                raise ValueError(
                    f"{key}.lower: {low:g} must lie below {key}.upper, {high:g}"
                )
        if not dim <= axes <= gas.dimension:
            raise ValueError(
                f"{key}.nodes: {axes} velocity axes; at least the {dim} of space and "
                f"at most gas.dimension = {gas.dimension}"
            )
    if isinstance(model, EulerModel) and model.gamma is not None:
        own = (gas.dimension + 2) / gas.dimension
        kinetic = any(m.kind != "euler" for m in models)
        if kinetic and abs(model.gamma - own) > 1e-9:
            raise ValueError(
                f"{key}.gamma: {model.gamma} contradicts gas.dimension = "
                f"{gas.dimension}, whose gamma is {own:.6g}; leave it out"
            )
    if isinstance(model, HermiteModel):
        if dim > gas.dimension:
            raise ValueError(
                f"{key}.kind = hermite needs gas.dimension at least that of the grid"
            )
        if model.closure.kind == "grad" and gas.dimension != 1:
            raise ValueError(f'{key}.closure = "grad" needs gas.dimension = 1')
        if gas.dimension == 1 and gas.prandtl != 1.0:
            raise ValueError(f"{key}.kind = hermite: gas.prandtl must be 1 for D = 1")
    if isinstance(model, Grad13Model) and gas.dimension != 3:
        raise ValueError(f"{key}.kind = grad13 needs gas.dimension = 3")
