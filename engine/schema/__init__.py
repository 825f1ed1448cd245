"""What may stand in a scenario file, one module per room."""

from .audit import SymmetryScenario
from .base import Common
from .closure import (
    ClosureMomentsScenario,
    ClosurePlaneScenario,
    ClosureScenario,
    ClosureShockScenario,
    ClosureShockTrainScenario,
    ClosureTrainScenario,
)
from .coupled import CoupledShockScenario
from .elastic import ElasticScenario
from .gas import GasScenario, RelaxationScenario
from .gradients import (
    ClosureLoopScenario,
    LearnRdfScenario,
    LearnViscosityScenario,
    ShockSensitivityScenario,
)
from .label import LabelScenario
from .learn import ClosureLearnScenario, LearnScenario
from .md import MdScenario
from .train import TrainScenario
from .vmc import DeepRitzScenario, VmcScanScenario, VmcScenario


def scenario_kinds() -> dict[str, type[Common]]:
    """Return every kind of scenario; a new one is a line here and an arm in ``build``."""
    return {
        "closure": ClosureScenario,
        "closure_in_loop": ClosureLoopScenario,
        "closure_learn": ClosureLearnScenario,
        "closure_moments": ClosureMomentsScenario,
        "closure_plane": ClosurePlaneScenario,
        "closure_shock": ClosureShockScenario,
        "closure_shock_train": ClosureShockTrainScenario,
        "closure_train": ClosureTrainScenario,
        "coupled_shock": CoupledShockScenario,
        "elastic": ElasticScenario,
        "md": MdScenario,
        "gas": GasScenario,
        "gas_relaxation": RelaxationScenario,
        "label": LabelScenario,
        "learn": LearnScenario,
        "learn_rdf": LearnRdfScenario,
        "learn_viscosity": LearnViscosityScenario,
        "shock_sensitivity": ShockSensitivityScenario,
        "symmetry": SymmetryScenario,
        "train": TrainScenario,
        "vmc": VmcScenario,
        "vmc_scan": VmcScanScenario,
        "deep_ritz": DeepRitzScenario,
    }
