"""The composition root: from a scenario to the job that runs it.

Here, and in the modules beside it, stands the only ``match`` on kinds.
"""

from pathlib import Path

from ..errors import InputError
from ..protocols import Job
from ..schema.base import Common


def build(scenario: Common, base: Path) -> Job:
    """Return the job of a checked scenario; ``base`` is what its paths are relative to.

    Raises:
        InputError: something that the scenario names is missing or does not fit.
    """
    match scenario.kind:
        case kind:
            raise InputError(f"kind: {kind} cannot be run here")
