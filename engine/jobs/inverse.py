"""Jobs of inverse problems."""

from pathlib import Path

from ..errors import InputError
from ..protocols import Job
from ..schema.base import Common
from ..schema.inverse import RdfScenario, ViscosityScenario


def assemble(scenario: RdfScenario | ViscosityScenario, base: Path) -> Job:
    """Return the job of a scenario.

    Raises:
        InputError: not on the cpu in double precision.
    """
    del base
    need_cpu_f64(scenario)
    if isinstance(scenario, ViscosityScenario):
        from ..inverse.viscosity import ViscosityFit

        return ViscosityFit(scenario)
    from ..inverse.rdf import RdfFit

    return RdfFit(scenario)


def need_cpu_f64(scenario: Common) -> None:
    """Refuse devices and precisions on which gradients are not certified.

    Raises:
        InputError: not on the cpu in double precision.
    """
    if scenario.device != "cpu" or scenario.precision != "f64":
        raise InputError("device, precision: gradients are taken on the cpu in f64")


__all__ = ["assemble", "need_cpu_f64"]
