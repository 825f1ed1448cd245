"""Initial conditions are parts: one from another package runs from a scenario file."""

import json
import os

import pytest
import zarr
from processes import python
from pydantic import TypeAdapter, ValidationError

from scalebridge.engine.gas.initial import INITIAL
from scalebridge.engine.gas.initial.smooth import Sound
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.schema.base import choice

MODULE = '''
"""A package from outside."""
from typing import Annotated, Literal
import torch
from annotated_types import Gt
from scalebridge.engine.gas.initial.base import Start
from scalebridge.models.parts import part

@part
class Bump:
    """A round bump of density in a gas at rest."""

    width: Annotated[float, Gt(0)] = 0.1
    """Standard deviation, reference lengths."""
    kind: Literal["bump"] = "bump"

    def fields(self, grid, gas, gamma):
        """Return the fields."""
        rho = 1 + torch.exp(-0.5 * (grid.points()[0] / self.width) ** 2)
        return Start(rho, torch.zeros(*grid.shape, 3).double(), 1 / rho)
'''
SCENARIO = """
version = 1
kind = "gas"
title = "A bump"
grid = { cells = [32], lower = [-1.0], upper = [1.0] }
model = { kind = "euler" }
initial = { kind = "bump", width = 0.2 }
time = { end = 0.05, frames = 1 }
"""


@pytest.fixture
def outside(tmp_path):
    """A folder with a small installed package that brings an initial condition."""
    package = tmp_path / "outside"
    information = package / "bumps-1.0.dist-info"
    information.mkdir(parents=True)
    (package / "bumps.py").write_text(MODULE)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bumps\nVersion: 1\n"
    )
    (information / "entry_points.txt").write_text(
        '[scalebridge.parts]\n"initial.bump" = bumps:Bump\n'.replace('"', "")
    )
    return package


def engine(outside, *words):
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    return python(
        "-m", "scalebridge.engine.cli", *words, env={**os.environ, "PYTHONPATH": path}
    )


def test_an_initial_condition_of_another_package_runs(outside, tmp_path):
    scenario = tmp_path / "bump.toml"
    scenario.write_text(SCENARIO)
    out = ("--out", tmp_path / "run", "--no-report")
    done = engine(outside, "run", scenario, *out)
    assert done.returncode == 0, done.stderr
    density = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")["fields/density"]
    assert float(density[0].max()) == pytest.approx(2.0, abs=0.02)
    resolved = json.loads((tmp_path / "run" / "resolved.json").read_text())
    assert "bump" in json.dumps(resolved)
    scenario.write_text(SCENARIO.replace("width = 0.2", "width = -1.0"))
    refused = engine(outside, "check", scenario)
    assert refused.returncode == 2
    assert "initial.width" in refused.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "shock"}, "mach"),
        ({"kind": "vortex", "strength": 9.0}, "less than or equal to 8"),
        ({"kind": "uniform", "low": {"density": 1.0}}, "temperature or pressure"),
        ({"kind": "jump", "middle": 0.0}, "Unexpected keyword"),
    ],
)
def test_the_fields_of_a_part_are_its_schema(given, words):
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(choice(INITIAL)).validate_python(given)


def test_sound_needs_a_constant_relaxation_time():
    with pytest.raises(Exception, match="constant_time"):
        Sound().check(Gas.power_law(3))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("import torch", "import nothing_there", "cannot be imported"),
        ("import torch", "raise RuntimeError(1)", "cannot be imported"),
        ("= 0.1", "= []", "cannot be imported"),
        ("@part", "", "no part"),
        ('Literal["bump"]', "str", "needs kind"),
        ('"bump"', '"hump"', "calls itself 'hump'"),
        ("def fields(", "def other(", "no attribute 'fields'"),
        ("rho = 1", "rho = 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_part_that_cannot_be_used_is_one_line(outside, tmp_path, old, new, words):
    (outside / "bumps.py").write_text(MODULE.replace(old, new))
    scenario = tmp_path / "bump.toml"
    scenario.write_text(SCENARIO)
    refused = engine(outside, "check", scenario)
    assert refused.returncode == 2, refused.stderr
    assert "initial.bump" in refused.stderr and words in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_family_that_is_misspelt_is_said(outside, tmp_path):
    points = outside / "bumps-1.0.dist-info/entry_points.txt"
    points.write_text("[scalebridge.parts]\ninitail.bump = bumps:Bump\n")
    scenario = tmp_path / "bump.toml"
    scenario.write_text(SCENARIO)
    code = "from scalebridge.engine.gas import initial\n"
    code += "from scalebridge.models import parts\n"
    done = python(
        "-c",
        f"{code}print(parts.strays())",
        env={**os.environ, "PYTHONPATH": str(outside)},
    )
    assert done.stdout == "{'initail.bump': 'initial'}\n"


@pytest.mark.parametrize(
    ("name", "words"), [("vortex", "is shipped"), ("bump", "two packages")]
)
def test_a_kind_is_brought_once(outside, tmp_path, name, words):
    other = outside / "others-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (other / "entry_points.txt").write_text(
        f"[scalebridge.parts]\ninitial.{name} = others:Other\n"
    )
    scenario = tmp_path / "bump.toml"
    scenario.write_text(SCENARIO)
    refused = engine(outside, "check", scenario)
    assert refused.returncode == 2, refused.stderr
    assert words in refused.stderr and refused.stderr.count("\n") == 1


def test_a_missing_device_is_refused_before_the_folder(outside, tmp_path):
    scenario = tmp_path / "bump.toml"
    scenario.write_text('device = "cuda"\n' + SCENARIO)
    folder = tmp_path / "run"
    refused = engine(outside, "run", scenario, "--out", folder)
    if refused.returncode:  # where there is such a device it runs
        assert refused.returncode == 2 and "device: cuda" in refused.stderr
        assert not folder.exists()
