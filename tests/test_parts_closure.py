"""Closures are parts: all that are shipped are saved; one from another package is used."""

import json
import os

import pytest
import torch
from processes import python

from scalebridge.models import card
from scalebridge.models.closures import CLOSURES
from scalebridge.models.closures.autoencoder import AutoencoderForm
from scalebridge.models.closures.entropy import EntropyForm
from scalebridge.models.closures.face import FaceForm
from scalebridge.models.closures.local import LocalForm
from scalebridge.models.closures.recurrence import RecurrenceForm
from scalebridge.models.closures.spectrum import SpectrumForm

FORMS = (
    LocalForm(hidden=(8,), reach=(0.02, 0.1)),
    FaceForm(hidden=(8,), reach=(0.02, 0.1)),
    SpectrumForm(FaceForm(hidden=(8,), reach=(0.02, 0.1)), span=0.8),
    RecurrenceForm(hidden=(8,)),
    EntropyForm(hidden=(8, 6)),
    AutoencoderForm(latent=2, hidden=(6,)),
)

MODULE = '''
"""A package from outside: f_{M+1} follows the gradient of f_M, with one learned factor."""
from typing import Annotated, ClassVar, Literal
import torch
from annotated_types import Ge
from torch import nn
from scalebridge.models.closures import ClosureOutput
from scalebridge.models.parts import part

@part
class GradientForm:
    """How to make a gradient closure."""

    order: Annotated[int, Ge(4)] = 5
    """M."""
    length: float = 1.0
    """Unit of length."""
    kind: Literal["gradient"] = "gradient"

    contract: ClassVar = "faces"

    def build(self, seed=None):
        """Return the module."""
        return Gradient(self)

class Gradient(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.factor = nn.Parameter(torch.full((8,), 0.1))

    def forward(self, stencil):
        tau, theta = stencil.tau, stencil.mean[..., 2]
        size = tau / (1 + 20 * tau) * theta / (self.config.order + 1)
        return ClosureOutput(-self.factor.mean() * size * stencil.gradient[..., -1])
'''
SAVE = """
from pathlib import Path
import sys
from gradient_closure import GradientForm
from scalebridge.models.card import load_module, save_module
from dataclasses import replace
from scalebridge.engine.audit.module import audit, closure_of
path = Path(sys.argv[1])
save_module(path, GradientForm().build().double(), {"domain": {"knudsen": [0.01, 1.0]}})
module, card = load_module(path)
assert card["form"] == "gradient", card
assert type(module).__name__ == "Gradient"
small = replace(closure_of(module, card["domain"]), cells=20)
report = audit(small, "gradient", steps=20)
names = {f.name: f.passed for f in report.findings}
assert report.kind == "closure"
assert names["Galilean invariance"] and names["reflection"], names
"""
SCENARIO = """
version = 1
kind = "gas"
title = "A closure of another package"
resolution = "trusted"
[grid]
cells = [20]
lower = [-0.5]
upper = [0.5]
[gas]
dimension = 1
viscosity = "constant_time"
[initial]
kind = "flows"
family = "wave"
count = 4
[model]
kind = "kinetic"
nodes = [36]
lower = [-6.0]
upper = [6.0]
[[compare]]
kind = "hermite"
name = "gradient"
closure = { kind = "learned", members = ["gradient.safetensors"] }
[time]
end = 0.02
frames = 1
compared = [0.02]
"""


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_every_closure_is_saved_and_loaded(form, tmp_path):
    assert CLOSURES[form.kind] is type(form)
    module = form.build(seed=3)
    twin, other = form.build(seed=3), form.build(seed=4)
    same = zip(module.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    pairs = zip(module.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    path = card.save_module(tmp_path / "model", module, {"units": "none"})
    loaded, read = card.load_module(path)
    assert loaded.config == form
    assert read["form"] == form.kind
    for name, values in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].to(values), values), name


def run(outside, *words):
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    done = python(*words, env={**os.environ, "PYTHONPATH": path})
    return done.returncode, done.stdout + done.stderr


def test_a_closure_of_another_package(tmp_path):
    """It is saved, loaded, audited, run in the moment solver and drawn in a report."""
    package = tmp_path / "outside"
    information = package / "gradient_closure-1.0.dist-info"
    information.mkdir(parents=True)
    (package / "gradient_closure.py").write_text(MODULE)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gradient-closure\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(
        "[scalebridge.parts]\nclosure.gradient = gradient_closure:GradientForm\n"
    )
    code, text = run(package, "-c", SAVE, tmp_path / "gradient")
    assert code == 0, text
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    engine = ("-m", "scalebridge.engine.cli")
    folder = tmp_path / "run"
    words = ("run", tmp_path / "scenario.toml", "--out", folder)
    code, text = run(package, *engine, *words)
    assert code == 4 and "1 failed (knudsen_gradient)" in text, text  # as its card says
    summary = json.loads((folder / "summary.json").read_text())
    assert "worst_decade_gradient_t002" in json.dumps(summary)
    assert "gradient" in (folder / "report.html").read_text()
