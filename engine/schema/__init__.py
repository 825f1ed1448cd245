"""What may stand in a scenario file, one module per package."""

from ...models.parts import Family

SCENARIOS = Family(
    "scenario",
    __name__,
    {
        "closure": "closure:ClosureScenario",
        "elastic": "elastic:ElasticScenario",
        "label": "label:LabelScenario",
        "closure_learn": "learn:ClosureLearnScenario",
        "closure_plane": "closure:ClosurePlaneScenario",
        "closure_shock": "closure:ClosureShockScenario",
        "closure_shock_train": "closure:ClosureShockTrainScenario",
        "closure_train": "closure:ClosureTrainScenario",
        "coupled_shock": "coupled:CoupledShockScenario",
        "ritz": "ritz:RitzScenario",
        "gas": "gas:GasScenario",
        "gas_relaxation": "gas:RelaxationScenario",
        "learn": "learn:LearnScenario",
        "inverse": "inverse:InverseScenario",
        "md": "md:MdScenario",
        "study": "scalebridge.studies:StudyScenario",
        "train": "train:TrainScenario",
        "vmc": "vmc:VmcScenario",
    },
)
"""Every kind of scenario. A package from outside adds ``scenario.KIND`` of its own."""

FORMER: dict[str, str] = {
    "closure_in_loop": 'kind = "study", study = "closure_in_loop"',
    "closure_moments": 'kind = "study", study = "closure_moments"',
    "deep_ritz": 'kind = "ritz"',
    "learn_rdf": 'kind = "inverse", observable = "rdf"',
    "learn_viscosity": 'kind = "inverse", observable = "viscosity"',
    "shock_sensitivity": 'kind = "study", study = "shock_sensitivity"',
    "symmetry": 'kind = "study", study = "symmetry"',
    "vmc_scan": 'kind = "vmc" with [[points]]',
}
"""Kinds of the first edition -> what to write instead."""

__all__ = ["FORMER", "SCENARIOS"]
