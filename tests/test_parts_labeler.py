"""A labeler that another package brings, or a Python script: no file of ours changes."""

import json
import os
from dataclasses import dataclass

import ase.io
import pytest
import torch
from ase.build import molecule
from click.testing import CliRunner

from scalebridge.engine import scenario
from scalebridge.engine.cli import main
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.atoms import AtomsLabel, Configuration
from scalebridge.engine.learn.execution import Serial
from scalebridge.engine.learn.label_store import identity
from scalebridge.engine.learn.labelling import label_structures
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.models import parts

SPRINGS = '''
"""Atoms held by springs at the distance of their neighbours."""

import os
from typing import Annotated, Literal

import torch
from annotated_types import Gt

from scalebridge.engine.learn.atoms import AtomsLabel
from scalebridge.models.parts import part


@part
class Springs:
    """Every pair is held at one distance."""

    length: Annotated[float, Gt(0)] = 0.8
    """Angstrom."""
    strength: Annotated[float, Gt(0)] = 2.0
    """eV/angstrom^2."""
    kind: Literal["springs"] = "springs"

    def label(self, sample):
        """Return energy and forces, and tell which process was asked."""
        with open(os.environ["SPRINGS_ASKED"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        x = sample.positions.clone().requires_grad_(True)
        energy = 0.5 * self.strength * (torch.pdist(x) - self.length).square().sum()
        (slope,) = torch.autograd.grad(energy, x)
        return AtomsLabel(energy.item(), -slope)

    def refusal(self, sample):
        """Return which elements have no springs."""
        return "" if set(sample.symbols) == {"H"} else "hydrogen alone has springs"
'''

SCENARIO = """
version = 1
kind = "learn"
title = "Springs"
target = 0.05
initial = 3
rounds = 1

[[start]]
name = "three"
temperatures = [300]
structure = { kind = "molecule", symbols = ["H", "H", "H"], positions = [[0.0, 0.0, 0.0], [0.8, 0.0, 0.0], [0.4, 0.7, 0.0]] }

[explorer]
steps = 10
stride = 5
timestep = 0.5

[labeler]
kind = "springs"
length = 0.75

[execution]
kind = "processes"
workers = 1

[model]
kind = "higher_moments"
cutoff = 3.0
channels = 4
axis = 2
products = 2
fitting = [8]
members = 2

[training]
steps = 5

[batch]
size = 3

[audit]
frames = 1
"""  # noqa: E501


@pytest.fixture
def springs(tmp_path, monkeypatch):
    """A folder with an installed package that brings a labeler; the file of its calls."""
    site = tmp_path / "site"
    about = site / "springs-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "springs_package.py").write_text(SPRINGS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: springs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        f"[{parts.GROUP}]\nlabeler.springs = springs_package:Springs\n"
    )
    asked = tmp_path / "asked.txt"
    asked.touch()
    with monkeypatch.context() as installed:
        installed.setenv("SPRINGS_ASKED", str(asked))
        installed.setenv("PYTHONPATH", f"{site}:{os.environ.get('PYTHONPATH', '')}")
        installed.syspath_prepend(str(site))
        _read_parts_again()
        yield asked
    _read_parts_again()  # the package is gone: what the next tests read is as it was


def _read_parts_again():
    """Look for installed parts anew; build the scenarios that hold labelers from them."""
    import importlib

    from scalebridge.engine.schema import label, learn

    parts._outside.cache_clear()
    importlib.reload(learn)
    importlib.reload(label)


def test_the_label_command_takes_a_labeler_from_outside(tmp_path, springs):
    structures, out = tmp_path / "in.extxyz", tmp_path / "out"
    ase.io.write(structures, [molecule("H2"), molecule("H2", vacuum=3.0)])
    command = ["label", str(structures), "--labeler", "springs", "--out", str(out)]
    answer = CliRunner().invoke(main, [*command, "--set", "length=0.7", "--workers", "1"])
    assert answer.exit_code == 0, answer.output
    first, second = ase.io.read(out / "dataset.extxyz", ":")
    stretch = first.get_distance(0, 1) - 0.7
    assert first.get_potential_energy() == pytest.approx(stretch**2)
    assert second.get_potential_energy() == pytest.approx(stretch**2)
    assert str(os.getpid()) not in springs.read_text().split()  # a worker was asked
    answer = CliRunner().invoke(main, [*command, "--set", "length=-1"])
    assert (answer.exit_code, answer.output.count("\n")) == (2, 1)
    assert "length" in answer.output


def test_a_loop_learns_from_a_labeler_from_outside(tmp_path, springs):
    file, out = tmp_path / "springs.toml", tmp_path / "run"
    file.write_text(SCENARIO)
    command = ["run", str(file), "--out", str(out), "--no-strict", "--quiet"]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 0, answer.output
    labels = len(list((out / "labels").glob("*.safetensors")))
    audit = len(list((out / "audit").glob("*.safetensors")))
    asked = springs.read_text().split()
    assert labels >= 4 and len(asked) == labels + audit
    assert asked.count(str(os.getpid())) == audit  # all others by workers
    assert "springs" in (out / "report.html").read_text()
    card = json.loads((out / "model.json").read_text())
    assert card["trained_on"]["labeler"] == 'springs {"length": 0.75, "strength": 2.0}'
    again = ["resume", str(out), "--no-strict", "--quiet", "--no-report"]
    answer = CliRunner().invoke(main, again)
    assert answer.exit_code == 0, answer.output
    assert springs.read_text().split() == asked  # every label was found again
    wrong = SCENARIO.replace('["H", "H", "H"]', '["H", "O", "H"]')
    file.write_text(wrong)
    answer = CliRunner().invoke(main, ["check", str(file)])
    assert answer.exit_code == 2 and "hydrogen alone has springs" in answer.output


@dataclass(frozen=True)
class Wells:
    """Harmonic wells around the origin, registered nowhere."""

    strength: float = 1.5

    def label(self, sample: Configuration) -> AtomsLabel:
        x = sample.positions
        return AtomsLabel(float(0.5 * self.strength * x.square().sum()), -self.strength * x)


def test_a_labeler_object_from_python(tmp_path):
    wells = Wells(2.0)
    assert identity(wells) == 'Wells {"strength": 2.0}'
    sample = Configuration.of(molecule("H2O"))
    found = label_structures([sample], wells, tmp_path / "out", Serial())
    (frame,) = ase.io.read(found.path, ":")
    assert frame.get_potential_energy() == pytest.approx(
        float(sample.positions.square().sum())
    )


def test_a_scenario_takes_a_labeler_object(tmp_path):
    """What is assembled asks the object, although no scenario file could name it."""
    settings = [
        "rounds=0", "initial=1", "execution={kind='serial'}", "audit.frames=0",
        "training.steps=2", "model.channels=4", "model.axis=2", "model.products=2",
        "model.fitting=[8]",
    ]  # fmt: skip
    checked, base = scenario.load("elt_h4", settings)
    job = assemble(checked.model_copy(update={"labeler": Wells()}), base)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
    assert outcome.figures["labels"].value == 2
    frames = ase.io.read(tmp_path / "run" / "dataset.extxyz", ":")
    for frame in frames:
        torch.testing.assert_close(
            torch.tensor(frame.get_forces()), torch.tensor(-1.5 * frame.positions)
        )
