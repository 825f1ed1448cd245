"""What a scenario of elastic constants may say."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...models.potentials.fields import Positive
from ..md.initial import CrystalStructure
from ..md.interactions import INTERACTIONS
from .base import Common, choice

Property = Literal["lattice_constant", "C11", "C12", "C44", "bulk_modulus"]


class ElasticScenario(Common):
    """Lattice constant and elastic constants of a cubic crystal at 0 K."""

    job: ClassVar[str] = "scalebridge.engine.jobs.elastic:assemble"
    kind: Literal["elastic"]
    structure: CrystalStructure
    """The crystal; its cell is relaxed."""
    potential: choice(INTERACTIONS)  # type: ignore[valid-type]
    """What acts between the atoms."""
    strain: Annotated[float, Field(gt=0, le=0.05)] = 0.004
    """Size of the deformations."""
    expected: dict[Property, float] = Field(default={})
    """Known values that the results are compared with: lattice_constant (angstrom), C11,
    C12, C44, bulk_modulus (GPa)."""
    agreement: Positive = 0.1
    """Relative distance from these that passes; of the lattice constant a tenth of it."""
