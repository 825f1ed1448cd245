"""The architecture that a machine can check: who imports whom, and what the wheel holds."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from imports import imports_of

from scalebridge.engine import bench

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "models", "viz", "studies")
LOADING = 'torch.load(source, map_location="cpu", weights_only=True)'
"""The one call that reads a foreign pickle (`engine import`)."""


def violations(files: dict[str, set[str]]) -> list[str]:
    """Return every import that goes against the order of the packages."""
    found = []
    for file, names in files.items():
        for name in names:
            if _forbidden(file, name):
                found.append(f"{file} imports {name}")
    return sorted(found)


ORDER = (
    ("engine.kernels",),
    ("engine.md", "engine.gas"),
    ("engine.vmc",),
    ("engine.ritz",),
    ("engine.learn",),
    ("engine.interop",),
    ("engine.audit",),
    ("engine.inverse",),
    ("engine.coupling",),
    ("engine.chain",),
    ("engine.jobs",),
    ("engine.commands",),
    ("engine.cli",),
)
"""Packages of the engine from the lowest floor up; each may import lower floors only."""

BASE = ("engine.errors", "engine.runtime")
"""What kernels may import beside themselves."""


def floor_of(name: str) -> int | None:
    """Return the floor of a module; None for those that stand under all of them."""
    for floor, packages in enumerate(ORDER):
        if any(name == package or name.startswith(package + ".") for package in packages):
            return floor
    return None


def _forbidden(file: str, name: str) -> bool:
    module = file.removesuffix(".py").replace("/", ".")

    def of(package: str) -> bool:
        return name == package or name.startswith(package + ".")

    if module.startswith("models."):
        return of("engine") or of("viz") or of("studies") or of("taichi")
    if of("studies"):
        return not module.startswith("studies.")
    if module.startswith("engine.") and of("viz"):
        return file != "engine/cli.py"
    if of("taichi") or of("quadrants"):
        return file != "engine/runtime.py"
    if (name.endswith(("runtime.ti", "kernels.types.ti"))) and not file.startswith(
        "engine/kernels/"
    ):
        return True
    if module.startswith("engine.kernels"):
        return (
            of("engine")
            and name != "engine"
            and not any(map(of, (*BASE, "engine.kernels")))
        )
    here, there = floor_of(module), floor_of(name)
    if here is None or there is None or here == there:
        return here == there == 1 and module.split(".")[1] != name.split(".")[1]
    host = file == "engine/interop/host.py" and of("engine.jobs")  # opens scenarios
    return there > here and not host


def our_files() -> dict[str, set[str]]:
    return {
        str(path.relative_to(ROOT)): imports_of(path)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


OPENERS = ("engine/rundir.py", "engine/manifest.py", "viz/record.py")
"""Who may open the arrays of a run; others let :func:`open_store` compare them first."""


def test_arrays_of_a_run_are_opened_where_they_are_compared():
    calls = re.compile(r"zarr\.open\w*\(|\bopen_group\(")
    found = [
        name
        for name in our_files()
        if name not in OPENERS and calls.search((ROOT / name).read_text())
    ]
    assert found == []


def test_imports_go_one_way():
    assert violations(our_files()) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("engine/md/world.py", "taichi"),
        ("engine/md/world.py", "engine.gas.grid"),
        ("models/card.py", "engine.errors"),
        ("engine/run.py", "viz.report"),
        ("engine/gas/grid.py", "engine.runtime.ti"),
        ("engine/learn/loop.py", "engine.jobs.md"),
        ("engine/vmc/world.py", "engine.ritz.solver"),
        ("engine/interop/ase.py", "engine.coupling.coupled"),
        ("engine/learn/loop.py", "studies.symmetry"),
    ],
)
def test_a_planted_wrong_import_is_found(file, name):
    assert violations({file: {name}}) == [f"{file} imports {name}"]


def test_imports_have_no_circles():
    assert bench.load("architecture").import_circles() == []


@pytest.mark.parametrize(
    ("second", "circles"),
    [
        ("def late():\n    from . import first\n", [["viz.first", "viz.second"]]),
        (
            "import typing\nif typing.TYPE_CHECKING:\n    from . import first\n",
            [],
        ),
    ],
)
def test_a_planted_circle_is_found_also_inside_a_function(tmp_path, second, circles):
    (tmp_path / "viz").mkdir()
    (tmp_path / "viz/first.py").write_text("from .second import late\n")
    (tmp_path / "viz/second.py").write_text(second)
    assert bench.load("architecture").import_circles(tmp_path) == circles


def test_every_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {
        "scalebridge." + ".".join(path.parent.relative_to(ROOT).parts)
        for package in (*PACKAGES, "scenarios")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == folders | {"scalebridge"}


def test_no_pickle_and_no_future_annotations():
    forbidden = (
        "torch" + ".load(",
        "torch" + ".save(",
        "allow_pickle" + "=True",
        "from __future__ import " + "annotations",
    )
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text().replace("safetensors.torch.save(", "")
            if path == ROOT / "engine/interop/foreign.py":  # and there never a fallback
                text = text.replace(LOADING, "")
            assert not [word for word in forbidden if word in text], path


ASSEMBLED = ("engine/jobs", "engine/inverse", "engine/ritz", "studies")
"""Where jobs are: what can be refused is refused before they run."""


def refusals_in_run(text: str) -> list[str]:
    """Return the functions below ``run`` of a module that refuse an input."""
    named: dict[str, list[ast.FunctionDef]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            named.setdefault(node.name, []).append(node)
    reached, waiting, found = set(), ["run"], []
    while waiting:
        name = waiting.pop()
        if name in reached or name not in named:
            continue
        reached.add(name)
        for node in (part for each in named[name] for part in ast.walk(each)):
            if isinstance(node, ast.Raise) and "InputError" in ast.unparse(node):
                found.append(name)
            waiting += [node.id] if isinstance(node, ast.Name) else []
            waiting += [node.attr] if isinstance(node, ast.Attribute) else []
    return found


def test_jobs_refuse_nothing_that_check_accepts():
    """``engine check`` assembles; a refusal after that would be found by ``run`` alone."""
    files = [path for folder in ASSEMBLED for path in (ROOT / folder).glob("*.py")]
    assert {str(f): bad for f in files if (bad := refusals_in_run(f.read_text()))} == {}


def test_a_planted_refusal_in_run_is_found():
    late = (
        "class J:\n def run(self):\n  self.go()\n def go(self):\n  raise InputError('x')\n"
    )
    assert refusals_in_run(late) == ["go"]
