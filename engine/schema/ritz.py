"""What a scenario of the Deep Ritz method may say."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from .base import Common


class RitzScenario(Common):
    """Poisson's equation by the variational principle, with a network and random points."""

    job: ClassVar[str] = "scalebridge.engine.jobs.ritz:assemble"
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
