"""Boundaries, equations and closures of a flow are parts: one file from outside each."""

import json
import os

import pytest
import torch
from processes import python

from scalebridge.engine.gas.boundaries import Sides, Wall, check_sides
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas

F64 = torch.float64

MODULE = '''
"""A package from outside: an outlet, a set of equations, an analytic closure."""
from dataclasses import dataclass
from typing import Annotated, Literal
import torch
from annotated_types import Gt
from scalebridge.engine.gas.equations.hermite import Hermite
from scalebridge.engine.gas.scheme.finite_volume import Transport, entropy
from scalebridge.models.closures.contract import ClosureOutput
from scalebridge.models.parts import part

@part
class FixedPressure:
    """Gas leaves against a given pressure."""

    pressure: Annotated[float, Gt(0)]
    """Reference density times R T0."""
    kind: Literal["fixed_pressure"] = "fixed_pressure"

    def ghost(self, model, edge):
        """Return the cells beyond."""
        density, velocity, temperature = model.gas_at(edge)
        return model.reservoir(self.pressure / temperature, velocity, temperature)

@dataclass(frozen=True)
class Isothermal:
    """Density and momentum of a gas at unit temperature, D = 1."""

    gas: object
    name = "isothermal"
    dims, positive, remedy, learned, at_wall = (1,), (0, 0), "lower the cfl", False, None

    def primitive(self, m):
        return torch.stack([m[:, 0], m[:, 1] / m[:, 0]], 1)
    def conserved(self, w):
        return torch.stack([w[:, 0], w[:, 1] * w[:, 0]], 1)
    def equilibrium(self, density, velocity, temperature):
        return torch.stack([density, velocity[..., 0]], 1)
    def thermal(self, w):
        return w[:, 0], w[:, 1, ..., None], torch.ones_like(w[:, 0])
    def fastest(self, w, axis):
        return w[:, 1].abs() + 1
    def transport(self, rows):
        left, right = rows.left, rows.right
        def flux(w):
            return torch.stack([w[:, 0] * w[:, 1], w[:, 0] * (w[:, 1] ** 2 + 1)], 1)
        speed = torch.maximum(self.fastest(left, 0), self.fastest(right, 0))[:, None]
        jump = self.conserved(right) - self.conserved(left)
        return Transport(0.5 * (flux(left) + flux(right) - speed * jump))
    def relaxed(self, moments, time_step, knudsen):
        return moments
    def observe(self, w, dim):
        none = torch.zeros_like(w[:, 0])
        return {"stress": none[..., None, None], "heat_flux": none[..., None],
                "entropy": entropy(w[:, 0], torch.ones_like(none), 1)}

@part
class IsothermalModel:
    """A gas at one temperature."""

    cfl: Annotated[float, Gt(0)] = 0.4
    """Courant number."""
    kind: Literal["isothermal"] = "isothermal"

    def equations(self, gas):
        """Return them."""
        return Isothermal(gas)

@part
class GradientClosure:
    """The closing moment follows the gradient of the last one."""

    factor: float = 0.1
    """Its size."""
    kind: Literal["gradient"] = "gradient"

    def equations(self, gas, order, find):
        """Return Hermite moments with it."""
        def closure(faces):
            theta = faces.mean[..., 2]
            return ClosureOutput(-self.factor * faces.tau * theta * faces.gradient[..., -1])
        return Hermite(gas, order or 5, closure)
'''
SCENARIO = """
version = 1
kind = "gas"
title = "From outside"
knudsen = [0.1]
grid = { cells = [32], lower = [-0.5], upper = [0.5] }
gas = { dimension = 1, viscosity = "constant_time" }
boundaries.x.low = "open"
boundaries.x.high = { kind = "fixed_pressure", pressure = 0.5 }
model = MODEL
initial = { kind = "uniform", low = { density = 1.0, temperature = 1.0 } }
time = { end = 0.05, frames = 1 }
[[compare]]
kind = "hermite"
order = 4
closure = { kind = "gradient", factor = 0.01 }
"""
MODELS = {
    "isothermal": '{ kind = "isothermal" }',
    "hermite": '{ kind = "hermite" }',
    "euler": '{ kind = "euler" }',
    "kinetic": '{ kind = "kinetic", nodes = [32], lower = [-7.0], upper = [7.0] }',
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    package = tmp_path_factory.mktemp("outside")
    information = package / "flows-1.0.dist-info"
    information.mkdir()
    (package / "flows_outside.py").write_text(MODULE)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: flows\nVersion: 1\n"
    )
    (information / "entry_points.txt").write_text(
        "[scalebridge.parts]\n"
        "boundary.fixed_pressure = flows_outside:FixedPressure\n"
        "gas_model.isothermal = flows_outside:IsothermalModel\n"
        "moment_closure.gradient = flows_outside:GradientClosure\n"
    )
    return package


@pytest.mark.parametrize("model", MODELS)
def test_parts_of_another_package_run_with_every_model(outside, tmp_path, model):
    scenario = tmp_path / "flow.toml"
    scenario.write_text(SCENARIO.replace("MODEL", MODELS[model]))
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    done = python(
        "-m", "scalebridge.engine.cli", "run", scenario, "--out", tmp_path / "run",
        "--no-report", env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())["figures"]
    # six moments behind the same outlet: all models empty the box alike
    assert 0 < figures["density_gap_closure5"]["value"] < 0.05


def outlet(model, edge):
    _, velocity, temperature = model.gas_at(edge)
    return model.reservoir(0.5 / temperature, velocity, temperature)


def worlds(sides):
    grid, kn = Grid((40,), (-0.5,), (0.5,)), torch.tensor([0.02], dtype=F64)
    gas = Gas.constant_time(1)
    yield KineticWorld(grid, sides, Velocities.symmetric(1, 40, 7.0), gas, kn)
    yield hermite_world(grid, sides, gas, kn, 5, 2e-3)
    yield FluidWorld(grid, sides, gas, 1, 2e-3)


def mass_left(sides):
    found = []
    for world in worlds(sides):
        state = world.init(torch.Generator())
        for _ in range(round(0.1 / world.time_step)):
            state = world.step(state)
        found.append(float(world.observe(state)["mass"][0]))
    return found


def test_a_function_is_a_boundary_of_every_model():
    kinetic, moments, euler = mass_left((Sides(Wall(), outlet),))
    assert kinetic < 0.99 and abs(moments / kinetic - 1) < 3e-3
    assert abs(euler / kinetic - 1) < 0.02
    sealed = mass_left((Sides(Wall(), Wall()),))  # the planted defect: nothing leaves
    assert max(abs(mass - 1) for mass in sealed) < 1e-12


def test_what_is_no_boundary_is_refused():
    with pytest.raises(Exception, match="no ghost"):
        check_sides([Sides(Wall(), object())], 1)
