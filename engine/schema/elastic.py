"""What a scenario of elastic constants may say."""

from typing import Annotated, ClassVar

from pydantic import Field

from ..md.initial import CrystalStructure
from ..md.interactions import INTERACTIONS
from .base import Common, choice


class ElasticScenario(Common):
    """Lattice constant and elastic constants of a cubic crystal at 0 K."""

    job: ClassVar[str] = "scalebridge.engine.jobs.elastic:assemble"
    structure: CrystalStructure
    """The crystal; its cell is relaxed."""
    potential: choice(INTERACTIONS)  # type: ignore[valid-type]
    """What acts between the atoms."""
    strain: Annotated[float, Field(gt=0, le=0.05)] = 0.004
    """Size of the deformations."""
    expected: dict[str, float] = Field(default={})
    """Known values, shown beside the results: lattice_constant (angstrom), C11, C12, C44,
    bulk_modulus (GPa)."""
