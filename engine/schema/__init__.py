"""What may stand in a scenario file, one module per package."""

from ...models.parts import Family

SCENARIOS = Family(
    "scenario",
    __name__,
    {
        "chain": "chain:ChainScenario",
        "elastic": "elastic:ElasticScenario",
        "label": "label:LabelScenario",
        "coupled": "coupled:CoupledShockScenario",
        "gas": "gas:GasScenario",
        "inverse": "inverse:InverseScenario",
        "learn": "learn:LoopScenario",
        "ritz": "ritz:RitzScenario",
        "md": "md:MdScenario",
        "study": "scalebridge.studies:StudyScenario",
        "train": "train:TrainScenario",
        "vmc": "vmc:VmcScenario",
    },
)
"""Every kind of scenario. A package from outside adds ``scenario.KIND`` of its own."""

FORMER: dict[str, str] = {
    "closure": 'kind = "gas" with [initial] kind = "flows" and models in [[compare]]',
    "closure_plane": 'kind = "gas" with [initial] kind = "plane_flows"',
    "closure_shock": 'kind = "gas" with [initial] kind = "shock"',
    "closure_shock_train": 'kind = "train" with model.kind = "recurrence_closure"',
    "closure_train": 'kind = "train" with model.kind = "local_closure"',
    "coupled_shock": 'kind = "coupled"',
    "gas_relaxation": 'kind = "gas" with model.kind = "maxwell_molecules"',
    "closure_learn": 'kind = "learn" with [explorer] kind = "flows"',
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
