"""Jobs that train learned moment closures."""

from pathlib import Path

from ..errors import InputError
from ..learn.trainers.closure_job import ClosureTraining
from ..learn.trainers.recurrence_job import RecurrenceTraining
from ..protocols import Job
from ..schema.closure import ClosureShockTrainScenario, ClosureTrainScenario


def assemble(scenario: ClosureTrainScenario | ClosureShockTrainScenario, base: Path) -> Job:
    """Return the job that trains the closures of a scenario.

    Raises:
        InputError: another device than the CPU; weights to begin with that do not fit.
    """
    if scenario.device != "cpu":
        raise InputError("device: closures are trained on cpu; allowed: cpu")
    if isinstance(scenario, ClosureTrainScenario):
        return ClosureTraining(scenario, base)
    return RecurrenceTraining(scenario)
