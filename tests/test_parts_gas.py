"""Boundaries, equations and closures of a flow are parts: one file from outside each."""

import json
import os

import pytest
import torch
from outside import files, package
from processes import python

from scalebridge.engine.gas.boundaries import Sides, Wall, check_sides
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.hermite import hermite_world
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas

F64 = torch.float64

FILES = files("gas.md")
"""The page's files, which are those of the package."""
MODELS = {
    "isothermal": '{ kind = "isothermal" }',
    "hermite": '{ kind = "hermite" }',
    "euler": '{ kind = "euler" }',
    "kinetic": '{ kind = "kinetic", nodes = [32], lower = [-7.0], upper = [7.0] }',
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    return package("gas.md", tmp_path_factory.mktemp("outside"))


@pytest.mark.parametrize("model", MODELS)
def test_parts_of_another_package_run_with_every_model(outside, tmp_path, model):
    scenario = tmp_path / "flow.toml"
    scenario.write_text(FILES["flow.toml"].replace(MODELS["isothermal"], MODELS[model]))
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    done = python(
        "-m", "scalebridge.engine.cli", "run", scenario, "--out", tmp_path / "run",
        "--no-report", env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "summary.json").read_text())["figures"]
    # six moments behind the same outlet: all models empty the box alike
    assert 0 < figures["density_gap_closure5"]["value"] < 0.05


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("gradient_closure", "-self.factor *", "float('nan') *", "gives NaN"),
        ("gradient_closure", "return ClosureOutput(", "return (", "not a ClosureOutput"),
        (
            "fixed_pressure",
            "return at.reservoir",
            "return density, at.reservoir",
            "ghost cells are",
        ),
        (
            "fixed_pressure",
            "return at.reservoir(",
            "return 1j * at.reservoir(",
            "boundaries.x.high: its ghost cells are complex",
        ),
        (
            "gradient_closure",
            "faces.gradient[..., -1])",
            "faces.gradient[:, 1:, -1])",
            "entry point moment_closure.gradient (gradient_closure:GradientClosure): Runt",
        ),
        ("isothermal", "return moments", "return None", "TypeError: unsupported operand"),
        ("isothermal", '{"stress"', '{"strain"', "KeyError: 'stress'"),
        ("isothermal", ".abs() + 1", ".abs() * 0", "fastest signal of isothermal"),
        ("isothermal", "def fastest(", "def quickest(", "equations lack fastest"),
        ("isothermal", "speed * jump)", "float('inf') * jump)", "first step of isothermal"),
    ],
)
def test_a_part_that_gives_nonsense_is_refused_by_check(
    outside, tmp_path, file, old, new, said
):
    (tmp_path / "flow.toml").write_text(FILES["flow.toml"])
    text = FILES[f"{file}.py"]
    assert text.count(old) == 1
    (tmp_path / f"{file}.py").write_text(text.replace(old, new))
    path = os.pathsep.join([str(tmp_path), str(outside), os.environ.get("PYTHONPATH", "")])
    done = python(
        "-m", "scalebridge.engine.cli", "check", tmp_path / "flow.toml",
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


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
