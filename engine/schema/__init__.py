"""What may stand in a scenario file, one module per package."""

from ...models.parts import Family

SCENARIOS = Family(
    "scenario",
    __name__,
    {
        "closure": "closure:ClosureScenario",
        "elastic": "elastic:ElasticScenario",
        "label": "label:LabelScenario",
        "closure_in_loop": "gradients:ClosureLoopScenario",
        "closure_moments": "closure:ClosureMomentsScenario",
        "coupled": "coupled:CoupledShockScenario",
        "deep_ritz": "vmc:DeepRitzScenario",
        "gas": "gas:GasScenario",
        "learn": "learn:LoopScenario",
        "learn_rdf": "gradients:LearnRdfScenario",
        "learn_viscosity": "gradients:LearnViscosityScenario",
        "md": "md:MdScenario",
        "shock_sensitivity": "gradients:ShockSensitivityScenario",
        "symmetry": "audit:SymmetryScenario",
        "train": "train:TrainScenario",
        "vmc": "vmc:VmcScenario",
        "vmc_scan": "vmc:VmcScanScenario",
    },
)
"""Every kind of scenario. A package from outside adds ``scenario.KIND`` of its own."""

FORMER: dict[str, str] = {
    "closure_plane": 'kind = "closure" with flow = "plane"',
    "closure_shock": 'kind = "closure" with flow = "shock"',
    "closure_shock_train": 'kind = "train" with model.kind = "recurrence_closure"',
    "closure_train": 'kind = "train" with model.kind = "face_closure"',
    "coupled_shock": 'kind = "coupled"',
    "gas_relaxation": 'kind = "gas" with model.kind = "maxwell_molecules"',
    "closure_learn": '"learn" with [explorer] kind = "flows"',
}
"""Kinds of the first edition -> what to write instead."""

__all__ = ["FORMER", "SCENARIOS"]
