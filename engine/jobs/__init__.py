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


def assemble(scenario: Common, base: Path) -> Job:
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

            return closure.assemble(scenario, base)
        case CoupledShockScenario():
            from . import coupled

            return coupled.assemble(scenario)
        case ElasticScenario():
            from . import elastic

            return elastic.assemble(scenario, base)
        case MdScenario():
            from . import md

            return md.assemble(scenario, base)
        case LabelScenario():
            from . import label

            return label.assemble(scenario)
        case LearnScenario():
            from . import learn

            return learn.assemble(scenario, base)
        case ClosureLearnScenario():
            from . import learn_closure

            return learn_closure.assemble(scenario)
        case (
            LearnViscosityScenario()
            | LearnRdfScenario()
            | ShockSensitivityScenario()
            | ClosureLoopScenario()
        ):
            from . import gradients

            return gradients.assemble(scenario)
        case GasScenario() | RelaxationScenario():
            from . import gas

            return gas.assemble(scenario, base)
        case TrainScenario():
            from . import train

            return train.assemble(scenario, base)
        case VmcScenario() | VmcScanScenario() | DeepRitzScenario():
            from . import vmc

            return vmc.assemble(scenario, base)
        case SymmetryScenario():
            from . import audit

            return audit.assemble(scenario, base)
        case _:
            raise InputError(f"kind: {scenario.kind} cannot be run here")
