"""The house rules that a machine can check: who imports whom, and what the wheel holds."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "models", "viz")
LOADING = 'torch.load(source, map_location="cpu", weights_only=True)'
"""The one call that reads a foreign pickle (`engine import`)."""


def imports_of(path: Path) -> set[str]:
    """Return the absolute names that a file of ours imports, ``engine.md.state`` style."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*stem, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def violations(files: dict[str, set[str]]) -> list[str]:
    """Return every import that goes against the direction of the house."""
    found = []
    for file, names in files.items():
        for name in names:
            if _forbidden(file, name):
                found.append(f"{file} imports {name}")
    return sorted(found)


def _forbidden(file: str, name: str) -> bool:
    def inside(folder: str) -> bool:
        return file.startswith(folder + "/")

    def of(room: str) -> bool:
        return name == room or name.startswith(room + ".")

    if inside("models"):
        return of("engine") or of("viz") or of("taichi")
    if inside("engine") and of("viz"):
        return file != "engine/cli.py"
    if of("taichi") or of("quadrants"):
        return file != "engine/runtime.py"
    if (name.endswith(("runtime.ti", "kernels.types.ti"))) and not inside("engine/kernels"):
        return True
    worlds = ("md", "gas", "vmc")
    for world in worlds:
        if inside(f"engine/{world}"):
            others = [
                *(w for w in worlds if w != world),
                "learn",
                "audit",
                "bridge",
                "build",
            ]
            return any(of(f"engine.{other}") for other in others)
    if inside("engine/kernels"):
        return of("engine") and not (
            of("engine.kernels")
            or of("engine.runtime")
            or of("engine.errors")
            or name == "engine"
        )
    if inside("engine/learn") or inside("engine/audit") or inside("engine/bridge"):
        host = file == "engine/bridge/host.py"  # opens scenarios, a roof as cli.py is
        return (of("engine.build") and not host) or of("engine.cli")
    return False


def our_files() -> dict[str, set[str]]:
    return {
        str(path.relative_to(ROOT)): imports_of(path)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
    }


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
        ("engine/learn/loop.py", "engine.build.md"),
    ],
)
def test_a_planted_wrong_import_is_found(file, name):
    assert violations({file: {name}}) == [f"{file} imports {name}"]


def test_every_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {
        "scalebridge." + ".".join(path.parent.relative_to(ROOT).parts)
        for room in (*ROOMS, "scenarios")
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == folders


def test_no_pickle_and_no_future_annotations():
    forbidden = (
        "torch" + ".load(",
        "torch" + ".save(",
        "allow_pickle" + "=True",
        "from __future__ import " + "annotations",
    )
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text().replace("safetensors.torch.save(", "")
            if path == ROOT / "engine/bridge/foreign.py":  # and there never a fallback
                text = text.replace(LOADING, "")
            assert not [word for word in forbidden if word in text], path
