"""A potential that a package from outside brings is trained, saved, audited, run and drawn.

The package is a folder with one module and the metadata that installing it would write;
every command runs in a process of its own, which finds it as it finds installed packages.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from processes import python

from scalebridge.models import card
from scalebridge.models.potentials import POTENTIALS
from scalebridge.models.potentials.fields import with_species
from scalebridge.models.potentials.local_frame import LocalFrame
from scalebridge.models.potentials.sums import ZblSum

ROOT = Path(__file__).resolve().parent.parent
FIRST_EDITION = Path(__file__).with_name("first_edition") / "salt"

MODULE = '''
"""Morse's potential with three trainable numbers."""
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from scalebridge.models.parts import part


@part
class Morse:
    """E_i = 1/2 sum_j D (exp(-2 a (r - r_0)) - 2 exp(-a (r - r_0))) w(r)."""

    species: tuple[str, ...] = ()
    """Chemical symbols; those of the data by default."""
    cutoff: Annotated[float, Gt(0)] = 4.5
    """Interaction range in angstrom."""
    kind: Literal["morse"] = "morse"

    def build(self, seed=0):
        """Return an untrained potential."""
        return MorsePotential(self)


class MorsePotential(torch.nn.Module):
    """Energies of atoms."""

    members = 1

    def __init__(self, config):
        super().__init__()
        self.config, self.species, self.cutoff = config, config.species, config.cutoff
        self.numbers = torch.nn.Parameter(torch.tensor([0.2, 1.2, 2.8]))

    def forward(self, displacements, neighbour_species, mask, species):
        far = torch.tensor([self.cutoff, 0.0, 0.0], dtype=displacements.dtype)
        safe = torch.where(mask[..., None], displacements, far)
        r = safe.norm(dim=-1)
        depth, width, place = self.numbers
        x = torch.exp(-width * (r - place))
        w = torch.where(r < self.cutoff, (1 - (r / self.cutoff) ** 2) ** 3, 0.0)
        pair = torch.where(mask, depth * (x * x - 2 * x) * w, 0.0)
        return 0.5 * pair.sum(1)[None].double()
'''

TRAIN = """
version = 1
kind = "train"
data = "copper.xyz"
name = "copper"
steps = 150
batch = 4
report_every = 50
checkpoint_every = 150
average = 0.0
validation = 0.2

[model]
kind = "morse"
cutoff = 4.2

[loss]
energy = 0.0

[optimiser]
kind = "adam"
learning_rate = 0.02
"""

RUN = """
version = 1
kind = "md"

[structure]
kind = "crystal"
element = "Cu"
lattice = "fcc"
lattice_constant = 3.61
repeat = [3, 3, 3]

[potential]
kind = "deep_potential"
model = "trained/copper.safetensors"

[ensemble]
kind = "nve"

[run]
steps = 20
timestep = 2.0
temperature = 300.0

[output]
trajectory_every = 10
"""


def copper(folder: Path) -> None:
    images = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True, a=3.55 + 0.02 * (seed % 5)) * (2, 2, 1)
        atoms.rattle(0.08, seed=seed)
        atoms.calc = EMT()
        found = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
        }
        atoms.calc = SinglePointCalculator(atoms, **found)
        images.append(atoms)
    ase.io.write(folder / "copper.xyz", images, format="extxyz")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, scenarios and a package that brings a potential."""
    folder = tmp_path_factory.mktemp("outside")
    copper(folder)
    (folder / "train.toml").write_text(TRAIN)
    (folder / "run.toml").write_text(RUN)
    package = folder / "packages"
    info = package / "morse_potential-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "morse_potential.py").write_text(MODULE)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: morse-potential\nVersion: 1\n"
    )
    (info / "entry_points.txt").write_text(
        "[scalebridge.parts]\npotential.morse = morse_potential:Morse\n"
    )
    return folder


def engine(place: Path, *arguments: str, package: bool = True):
    """Run one command in a fresh process, with or without the package installed."""
    paths = [os.environ.get("PYTHONPATH", "")]
    paths += [str(place / "packages")] if package else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return python("-m", "scalebridge.engine.cli", *arguments, cwd=place, env=environment)


@pytest.fixture(scope="module")
def trained(place):
    answer = engine(place, "run", "train.toml", "--out", "trained")
    assert answer.returncode == 0, answer.stderr
    return place / "trained"


def test_it_is_trained_from_a_file(trained):
    found = card.read_card(trained / "copper")
    assert found["form"] == "morse"
    assert found["config"] == {"species": ["Cu"], "cutoff": 4.2}
    images = ase.io.read(trained.parent / "copper.xyz", ":")
    size = np.sqrt(np.mean([image.get_forces() ** 2 for image in images]))
    assert found["figures"]["validation_force_rmse"]["value"] < 0.5 * size
    page = (trained / "report.html").read_text()
    assert "data:image/png;base64," in page and "was not drawn" not in page


def test_its_keys_are_checked_like_ours(place):
    answer = engine(place, "check", "train.toml", "--set", "model.cutof=3.0")
    assert answer.returncode == 2
    assert "model.cutof: unknown key; did you mean cutoff?" in answer.stderr
    answer = engine(place, "check", "train.toml", "--set", "model.cutoff=-1.0")
    assert "model.cutoff: input should be greater than 0" in answer.stderr


@pytest.mark.slow
def test_it_drives_dynamics_that_are_drawn(place, trained):
    answer = engine(place, "run", "run.toml", "--out", "moved", "--no-strict")
    assert answer.returncode == 0, answer.stderr
    page = (place / "moved" / "report.html").read_text()
    assert "data:image/png;base64," in page and "was not drawn" not in page


@pytest.mark.slow
def test_it_is_audited(place, trained):
    answer = engine(place, "audit", "trained/copper.safetensors", "--out", str(place))
    page = (place / "copper.audit.html").read_text()
    assert answer.returncode in (0, 1), answer.stderr
    assert "rotation" in page and "work round closed loops" in page
    assert "Traceback" not in answer.stderr


def test_without_the_package_the_card_is_refused_with_the_remedy(place, trained):
    answer = engine(place, "audit", "trained/copper.safetensors", package=False)
    assert answer.returncode == 2
    for part in ("form 'morse' is unknown", "smooth_edition", "install the package"):
        assert part in answer.stderr
    assert "Traceback" not in answer.stderr


# -- cards ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spring:
    stiffness: float = 1.0
    steps: tuple[tuple[int, ...], ...] = ((1, 2), (3,))
    inner: LocalFrame = LocalFrame(("Cu",))  # noqa: RUF009
    kind: Literal["spring"] = "spring"

    def build(self):
        module = torch.nn.Linear(2, 2).double()
        module.config = self
        return module


def test_a_part_from_python_is_saved_and_loaded_by_its_class(tmp_path):
    module = Spring(2.0).build()
    card.save_module(tmp_path / "spring", module, {})
    loaded, _ = card.load_module(tmp_path / "spring", forms=[Spring])
    assert loaded.config == module.config
    assert torch.equal(loaded.weight, module.weight)
    with pytest.raises(card.UnknownModelError, match=r"'spring' is unknown.*forms="):
        card.load_module(tmp_path / "spring")


def test_what_is_no_part_is_not_saved(tmp_path):
    module = torch.nn.Linear(1, 1)
    with pytest.raises(card.UnknownModelError, match="needs a part as its config"):
        card.save_module(tmp_path / "x", module, {})


def test_a_card_of_the_first_edition_loads_and_gives_the_same_bits():
    module, found = card.load_module(FIRST_EDITION)
    assert found["format"] == 1 and isinstance(module.config, ZblSum)
    places = [[[0.0, 0.0, 1.8], [2.0, 0.5, 0.0], [0.0, 0.0, 0.0]]]
    d = torch.tensor(places, dtype=torch.float64)
    mask, kinds = torch.tensor([[True, True, False]]), torch.tensor([[1, 0, 0]])
    energy = module(d, kinds, mask, torch.tensor([0])).flatten()
    known = [float.fromhex(v) for v in ("-0x1.41bd14696f728p-7", "0x1.3035a6a86f931p-1")]
    # another processor may sum in another order: 100 terms of order one
    expected = torch.tensor(known, dtype=torch.float64)
    torch.testing.assert_close(energy, expected, rtol=0, atol=2e-14)


def test_what_a_card_lacks_is_said(tmp_path):
    held = card.read_card(FIRST_EDITION)
    form, config = held["form"], dict(held["config"])
    lost = config.pop(next(iter(config)))
    assert lost is not None
    with pytest.warns(UserWarning, match="the defaults are taken"):
        card._configuration(form, config, ())


@pytest.mark.parametrize("kind", POTENTIALS.kinds())
def test_every_form_names_its_kind_and_takes_the_species_of_the_data(kind):
    form = POTENTIALS[kind]
    assert form.kind == kind  # type: ignore[attr-defined]
    if kind != "whole_box":
        assert with_species(form(), ("Na", "Cl")).species == ("Na", "Cl")
        assert with_species(with_species(form(), ("Na",)), ("Cl",)).species == ("Na",)


def test_charges_follow_from_the_species():
    assert with_species(ZblSum(), ("Na", "Cl")).charges == (11, 17)
    with pytest.raises(ValueError, match="Xx is no chemical symbol"):
        with_species(ZblSum(), ("Xx",))
