"""The composition root: from a scenario to the job that runs it.

Here, and in the modules beside it, stands the only ``match`` on kinds. Rooms are imported
when they are asked for, so that a scenario loads only what it uses.
"""

from pathlib import Path

from ..errors import InputError
from ..protocols import Job
from ..schema.audit import SymmetryScenario
from ..schema.base import Common
from ..schema.closure import (
    ClosureMomentsScenario,
    ClosurePlaneScenario,
    ClosureScenario,
    ClosureShockScenario,
    ClosureShockTrainScenario,
    ClosureTrainScenario,
)
from ..schema.coupled import CoupledShockScenario
from ..schema.elastic import ElasticScenario
from ..schema.gas import GasScenario, RelaxationScenario
from ..schema.gradients import (
    ClosureLoopScenario,
    LearnRdfScenario,
    LearnViscosityScenario,
    ShockSensitivityScenario,
)
from ..schema.label import LabelScenario
from ..schema.learn import ClosureLearnScenario, LearnScenario
from ..schema.md import MdScenario
from ..schema.train import TrainScenario
from ..schema.vmc import DeepRitzScenario, VmcScanScenario, VmcScenario


def build(scenario: Common, base: Path) -> Job:
    """Return the job of a checked scenario; ``base`` is what its paths are relative to.

    Raises:
        InputError: something that the scenario names is missing or does not fit.
    """
    match scenario:
        case (
            ClosureTrainScenario()
            | ClosureScenario()
            | ClosureShockScenario()
            | ClosureShockTrainScenario()
            | ClosurePlaneScenario()
            | ClosureMomentsScenario()
        ):
            from . import closure

            return closure.build(scenario, base)
        case CoupledShockScenario():
            from . import coupled

            return coupled.build(scenario)
        case ElasticScenario():
            from . import elastic

            return elastic.build(scenario, base)
        case MdScenario():
            from . import md

            return md.build(scenario, base)
        case LabelScenario():
            from . import label

            return label.build(scenario)
        case LearnScenario():
            from . import learn

            return learn.build(scenario, base)
        case ClosureLearnScenario():
            from . import learn_closure

            return learn_closure.build(scenario)
        case (
            LearnViscosityScenario()
            | LearnRdfScenario()
            | ShockSensitivityScenario()
            | ClosureLoopScenario()
        ):
            from . import gradients

            return gradients.build(scenario)
        case GasScenario() | RelaxationScenario():
            from . import gas

            return gas.build(scenario, base)
        case TrainScenario():
            from . import train

            return train.build(scenario, base)
        case VmcScenario() | VmcScanScenario() | DeepRitzScenario():
            from . import vmc

            return vmc.build(scenario, base)
        case SymmetryScenario():
            from . import audit

            return audit.build(scenario, base)
        case _:
            raise InputError(f"kind: {scenario.kind} cannot be run here")
