"""Properties of a crystal by a potential and by its labeler."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase.build import bulk

from scalebridge.engine import scenario
from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.interop import properties as module
from scalebridge.engine.interop.elastic import relax
from scalebridge.engine.interop.properties import PROBES, properties
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.atoms import AtomsLabel, Configuration
from scalebridge.engine.learn.labelers.exact import StillingerWeberLabeler
from scalebridge.engine.md.classical import LennardJones, StillingerWeber
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder

SCALE = 4.63 / (2 * 2.1678)
"""By which Balamane, Halicioglu and Tiller (1992, Phys. Rev. B 46, 2250) scale all energies
of Stillinger and Weber's silicon."""

KNOWN = {
    "equation_of_state": {"volume": 5.431**3 / 8, "bulk_modulus": 108.3 / SCALE},
    "elastic": {"C11": 161.7 / SCALE, "C12": 81.6 / SCALE, "C44": 117.2 / SCALE},
    "vacancy": {"vacancy_energy": 2 * 2.1678},
    "surface": {"surface_energy": 2.1678 / (5.431**2 / 2) * 16.0218},
}
"""Their values; C44 with the atoms held in place. A vacancy cuts four bonds and leaves one
atom's worth of crystal; a (100) surface cuts two bonds of each atom. Those that are left
have their best lengths and angles."""


def silicon(repeat: int = 1):
    return bulk("Si", a=5.431, cubic=True).repeat(repeat)


def exact(samples):
    return [StillingerWeberLabeler().label(sample) for sample in samples]


@pytest.mark.parametrize("name", KNOWN)
def test_probes_find_what_is_known_of_silicon(name):
    crystal = silicon(2 if name == "vacancy" else 1)
    probe = PROBES[name](crystal, StillingerWeber())
    answers = exact([Configuration.of(atoms) for atoms in probe.structures])
    found = probe.values(answers)
    assert found.keys() == KNOWN[name].keys()
    for key, value in KNOWN[name].items():
        assert found[key] == pytest.approx(value, rel=0.01), key


def test_a_surface_is_that_of_the_crystal_in_whichever_cells_its_atoms_stand():
    crystal = silicon()
    crystal.positions[1] += 2 * crystal.cell[2]
    crystal.positions[4] -= crystal.cell[2]
    _, slab = PROBES["surface"](crystal, StillingerWeber()).structures
    assert np.ptp(slab.positions[:, 2]) == pytest.approx(0.75 * 5.431, abs=0.1)


def test_what_stands_on_a_saddle_is_relaxed_from_it():
    """Simple cubic argon falls together, as soon as symmetry does not hold it."""
    potential = LennardJones((1.0,), (3.4,), 6.0, ("Ar",))
    crystal = bulk("Ar", "sc", a=3.6).repeat(3)
    held = crystal.copy()
    del held[0]
    still = relax(held, potential, force=0.01).get_potential_energy()
    _, found = PROBES["vacancy"](crystal, potential).structures
    assert found.get_potential_energy() < still - 1.0
    assert np.abs(found.get_forces()).max() < 0.01


def test_crystals_that_are_not_cubic_have_a_diagonal():
    crystal = silicon()
    crystal.set_cell(crystal.cell.array * [1.0, 1.0, 1.2], scale_atoms=True)
    probe = PROBES["elastic"](crystal, StillingerWeber())
    found = probe.values(exact([Configuration.of(atoms) for atoms in probe.structures]))
    assert list(found) == [f"C{k}{k}" for k in range(1, 7)]
    assert found["C33"] == pytest.approx(1.107 * found["C11"], rel=0.01)


@dataclass(frozen=True)
class Stiff:
    """Silicon whose energies are those of the truth times a factor."""

    factor: float
    species: tuple[str, ...] = ("Si",)
    cutoff: float = StillingerWeber().cutoff

    def __call__(self, state, neighbours):
        found = StillingerWeber()(state, neighbours)
        names = ("energy", "forces", "virial")
        return replace(found, **{n: self.factor * getattr(found, n) for n in names})


@pytest.fixture
def stiff(monkeypatch):
    """The committee is one number, by which it is too stiff."""
    monkeypatch.setattr(module, "fast", lambda committee: Stiff(committee[0]))
    monkeypatch.setattr(
        module, "_answers",
        lambda committee, samples: [
            AtomsLabel(committee[0] * x.energy, x.forces, committee[0] * x.virial)
            for x in exact(samples)
        ],
    )  # fmt: skip


def test_the_labeler_is_asked_about_the_same_atoms_and_differences_fail(stiff):
    asked = ("equation_of_state", "elastic")
    found = properties("diamond", silicon(), asked, [1.2], exact)
    verdict = {check.name: check.passed for check in found.checks}
    assert verdict == {
        "diamond volume": True, "diamond bulk_modulus": False, "diamond C11": False,
        "diamond C12": False, "diamond C44": False,
    }  # fmt: skip
    assert found.figures["diamond_C11"].value == pytest.approx(1.2 * 151.4, rel=0.02)
    assert float(found.figures["diamond_C11"].note.split()[-1]) == pytest.approx(
        151.4, rel=0.02
    )
    assert found.figures["diamond_labels"].value == 7 + 12
    assert all(c.passed for c in properties("x", silicon(), asked, [1.0], exact).checks)


def test_labels_that_failed_or_hold_no_stress_are_no_value(stiff):
    def without_stress(samples):
        return [replace(label, virial=None) for label in exact(samples)]

    def failing(samples):
        return [*exact(samples)[1:], None]

    for ask in (without_stress, failing):
        found = properties("diamond", silicon(), ("elastic",), [1.0], ask)
        assert found.checks == []
        assert found.figures["diamond_C11"].note == "no value of the labeler"


def test_a_potential_that_does_not_hold_the_crystal_is_said(stiff, monkeypatch):
    def once(atoms, potential, cell=False, **settings):
        if not cell:
            raise GuardError("relaxation: a force is left after 500 steps", 500, None)
        return relax(atoms, potential, cell, **settings)

    monkeypatch.setattr(module, "relax", once)
    asked = ("vacancy", "equation_of_state")
    found = properties("diamond", silicon(), asked, [1.0], exact)
    (bad,) = [check for check in found.checks if not check.passed]
    assert (bad.name, bad.kind) == ("diamond vacancy", "health")
    assert "a force is left" in bad.sentence
    assert "diamond_volume" in found.figures


START = {
    "name": "diamond", "temperatures": [300],
    "properties": ["equation_of_state", "vacancy"],
    "structure": {"kind": "crystal", "element": "Si", "lattice": "diamond",
                  "lattice_constant": 5.431},
}  # fmt: skip
TINY = [
    "rounds=1", "explorer.steps=10", "training.steps=10", "audit.frames=1", "batch.size=6",
    "model.channels=4", "model.axis=2", "model.products=2", "model.fitting=[8]",
]  # fmt: skip


def test_a_loop_ends_with_them(tmp_path, stiff, monkeypatch):
    """They stand beside the final evaluation, and their labels are counted."""
    job = assemble(*scenario.load("elt_silicon", [*TINY, f"start=[{_toml(START)}]"]))
    one = lambda *given: properties(*given[:3], [1.0], given[4])  # noqa: E731
    monkeypatch.setattr("scalebridge.engine.jobs.learn.properties", one)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
    values = {name: figure.value for name, figure in outcome.figures.items()}
    assert values["diamond_volume"] == pytest.approx(20.02, rel=0.01)
    counted = values["labels"] + values["labels_audit"] + values["diamond_labels"]
    assert values["labels_computed"] == counted
    assert "diamond vacancy_energy" in {check.name for check in outcome.checks}


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}={_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        ({"vacancies": 1}, "start diamond: properties: of a whole crystal"),
        ({"vacuum": 5.0}, "start diamond: properties: of a whole crystal"),
        ({"lattice": "sc"}, "properties: vacancy: of more than one atom"),
    ],
)
def test_what_is_no_crystal_has_none(structure, said):
    start = {**START, "structure": {**START["structure"], **structure}}
    with pytest.raises(InputError) as caught:
        assemble(*scenario.load("elt_silicon", [*TINY, f"start=[{_toml(start)}]"]))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
