"""Jobs of inverse problems."""

from pathlib import Path

from ..protocols import Job
from ..schema.inverse import RdfScenario, ViscosityScenario


def assemble(scenario: RdfScenario | ViscosityScenario, base: Path) -> Job:
    """Return the job of a scenario."""
    del base
    if isinstance(scenario, ViscosityScenario):
        from ..inverse.viscosity import ViscosityFit

        return ViscosityFit(scenario)
    from ..inverse.rdf import RdfFit

    return RdfFit(scenario)


__all__ = ["assemble"]
