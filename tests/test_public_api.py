"""The public API: what `import scalebridge as sb` holds and costs; the README's example."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scalebridge as sb

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "taichi", "pydantic", "numpy", "ase", "matplotlib", "zarr", "click")


def imported(code: str, **where) -> set[str]:
    """Return the top-level modules that a fresh process has after ``code``."""
    said = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, check=True, **where
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize("use", ["sb.__version__", "sb.part", "sb.Family", "dir(sb)"])
def test_the_import_brings_nothing_heavy(use):
    found = imported(f"import scalebridge as sb; {use}")
    assert not found & set(HEAVY)


def test_the_import_brings_few_modules():
    before = imported("import typing, os, importlib")
    assert imported("import scalebridge") - before == {"scalebridge"}


def test_every_public_name_is_what_it_says():
    for name in sb.__all__:
        found = getattr(sb, name)
        assert name in dir(sb)
        assert isinstance(found, str) if name == "__version__" else callable(found)
    with pytest.raises(AttributeError, match="no attribute 'Engine'"):
        sb.Engine  # noqa: B018 - the attribute is what is tested


def test_editors_see_the_same_names():
    tree = ast.parse((ROOT / "scalebridge/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == sb._PUBLIC
    assert sorted(sb.__all__) == sorted([*sb._PUBLIC, "__version__"])


def test_a_checkout_that_is_not_installed_can_be_imported():
    packages = [p for p in sys.path if p.endswith("site-packages") and "torch" in _names(p)]
    code = f"import sys; sys.path += {packages}; import scalebridge.engine.cli as c; c.main"
    isolated = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert isolated.returncode == 0, isolated.stderr


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def test_a_scenario_runs_in_this_process(tmp_path):
    settings = ["run.steps=20", "structure.repeat=[2,2,2]", "output.rdf=[]"]
    outcome = sb.run("silicon_sw", [*settings, "output.average_from=10"], tmp_path / "run")
    assert outcome.folder == tmp_path / "run"
    assert outcome.figures
    assert outcome.passed == all(check.passed for check in outcome.checks)
    assert sb.Report(outcome.folder).summary["figures"].keys() == outcome.figures.keys()
    sb.check("silicon_sw", settings)


def test_the_example_of_the_readme(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    shorter = {
        "range(100)": "range(2)",
        '"run.steps=2000"': '"run.steps=20", "structure.repeat=[2,2,2]", "output.rdf=[]", '
        '"output.average_from=10"',
        'sb.audit(potential, "silicon").passed': "callable(sb.audit)",
    }
    for long, short in shorter.items():
        assert long in code
        code = code.replace(long, short)
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "runs/short/summary.json").exists()
