"""Initial conditions, one part each; a package from outside adds ``initial.KIND``.

A part has the fields of its scenario section and one method::

    def fields(self, grid: Grid, gas: Gas, gamma: float) -> Start: ...

Optional: ``dimensions`` (of the grids that fit), ``check(gas)``, which raises InputError,
``distribution(grid, gas, knudsen, speeds)``, the exact start of a kinetic model (models of
any other kind are then refused), and ``reference``, the name of a comparison of
:mod:`..references` that is always made, and ``located(base)``, the same part with its paths
found from the folder of the scenario file; ``knudsen_numbers(grid)``, where every system of
the batch has one of its own; ``mixture(grid)``, Maxwellians whose sum is the start, for the
models that resolve more of a gas than its equilibrium.
"""

from ....models.parts import Family

INITIAL = Family(
    "initial",
    __name__,
    {
        "fields": "painted:Fields",
        "beams": "beams:Beams",
        "run": "stored:FromRun",
        "file": "stored:FromFile",
        "distribution": "distribution:Distribution",
        "uniform": "pieces:Uniform",
        "jump": "pieces:Jump",
        "quadrants": "pieces:Quadrants",
        "shock": "shocks:Shock",
        "shu_osher": "shocks:ShuOsher",
        "sound": "smooth:Sound",
        "vortex": "smooth:Vortex",
        "shear_layer": "smooth:ShearLayer",
        "flows": "families:Flows",
        "plane_flows": "families:PlaneFlows",
    },
)

__all__ = ["INITIAL"]
