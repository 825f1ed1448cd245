"""The pages: what they print runs as it is printed, and nothing public is left out."""

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write
from click.testing import CliRunner
from outside import package
from processes import python

import scalebridge
from scalebridge.engine.cli import main
from scalebridge.engine.schema import SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
TUTORIALS = sorted(p for p in (DOCS / "tutorials").glob("*.md") if p.stem != "index")
QUICK = ("gradients",)
PAGES = [
    pytest.param(page, id=page.stem, marks=[] if page.stem in QUICK else pytest.mark.slow)
    for page in TUTORIALS
]

sys.path.insert(0, str(DOCS))
import generate


def follow(page):
    """Do what a page says, in the working directory: write its files, run the rest."""
    done = 0
    for language, text in BLOCK.findall(page.read_text()):
        first = text.splitlines()[0]
        name = first[2:] if re.fullmatch(r"# \w+\.(py|toml)", first) else None
        if name is not None:
            Path(name).write_text(text)
        if language == "python":
            assert name is not None, f"{page.name}: a script without a name"
            runpy.run_path(name, run_name="__main__")
        elif language == "console":
            for line in text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "engine"
                result = CliRunner().invoke(main, arguments)
                assert result.exit_code == 0, f"{line}\n{result.output}"
        done += 1
    return done


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert follow(page) > 0


def test_a_wrong_command_on_a_page_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```console\nengine explain md.run.stepz\n```\n")
    with pytest.raises(AssertionError, match="stepz"):
        follow(page)


@pytest.mark.parametrize(
    "command",
    [
        "explain morse",
        "run crystal.toml --out crystal --no-report",
        "label molecules.extxyz --labeler springs --out labels",
    ],
)
def test_the_potential_and_the_labeler_of_the_guide_work(command, tmp_path):
    package("atoms.md", tmp_path)
    write(tmp_path / "molecules.extxyz", molecule("H2"))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = python(
        "-m", "scalebridge.engine.cli", *command.split(),
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_kind_command_and_public_name(tmp_path):
    generate.write(tmp_path)
    assert {f"keys_{kind}" for kind in SCENARIOS.kinds()} <= {
        path.stem for path in tmp_path.glob("*.md")
    }
    commands = (tmp_path / "commands.md").read_text()
    assert all(f"## `engine {name}`" in commands for name in main.commands)
    python = (tmp_path / "python.md").read_text()
    assert all(f"## `sb.{name}`" in python for name in scalebridge.__all__
               if not name.startswith("__"))  # fmt: skip


def test_every_command_and_public_name_says_what_it_does():
    assert [name for name, command in main.commands.items() if not command.help] == []
    named = [n for n in scalebridge.__all__ if not n.startswith("__")]
    assert [n for n in named if not getattr(scalebridge, n).__doc__] == []


def test_every_task_has_a_page_and_a_test():
    found = list(generate.tasks())
    assert len({task for task, *_ in found}) == len(found) >= 20
    for task, page, file, test in found:
        assert page.exists(), task
        assert f"def {test}(" in file.read_text(), task


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if "_build" in page.parts or "reference" in page.parts:
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            generated = "reference/" in target
            assert generated or (page.parent / target).exists(), f"{page}: {target}"
