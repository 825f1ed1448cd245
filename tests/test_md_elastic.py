"""Relaxation through ASE's optimisers and elastic constants against published ones."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from scalebridge.engine.errors import GuardError, InputError
from scalebridge.engine.interop.elastic import cubic, elastic_constants, relax
from scalebridge.engine.jobs import assemble
from scalebridge.engine.md.classical import LennardJones, StillingerWeber
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse


@pytest.mark.slow
def test_a_rattled_and_strained_crystal_finds_back():
    atoms = bulk("Si", "diamond", a=5.60, cubic=True)
    atoms.rattle(0.1, seed=4)
    found = relax(atoms, StillingerWeber(), cell=True)
    assert found.cell.lengths() == pytest.approx([5.431] * 3, abs=2e-3)
    assert found.get_potential_energy() / 8 == pytest.approx(-2 * 2.1683, abs=1e-4)
    assert np.abs(found.get_stress()).max() < 1e-3


def test_elastic_constants_of_stillinger_weber():
    # E. R. Cowley, Phys. Rev. Lett. 60, 2379 (1988), table I
    crystal = relax(
        bulk("Si", "diamond", a=5.431, cubic=True), StillingerWeber(), cell=True
    )
    relaxed, clamped = elastic_constants(crystal, StillingerWeber(), 0.002, 1e-6)
    found = cubic(relaxed)
    for name, value in {"C11": 151.4, "C12": 76.4, "C44": 56.4}.items():
        assert found[name] == pytest.approx(value, rel=4e-3), name
    # without the internal relaxation of diamond C44 is nearly twice as large
    assert cubic(clamped)["C44"] == pytest.approx(109.7, rel=4e-3)
    assert np.abs(np.diag(relaxed)[3:] - found["C44"]).max() < 0.1


def test_central_forces_obey_cauchy():
    potential = LennardJones((0.01,), (3.4,), 8.0, ("Ar",))
    crystal = relax(bulk("Ar", "fcc", a=5.3, cubic=True), potential, cell=True, force=1e-6)
    found = cubic(elastic_constants(crystal, potential, 0.001, 1e-6)[0])
    assert found["C12"] == pytest.approx(found["C44"], rel=5e-3)


def test_a_relaxation_that_does_not_end_is_told():
    atoms = bulk("Si", "diamond", a=5.60, cubic=True)
    with pytest.raises(GuardError, match="is left after 1 steps"):
        relax(atoms, StillingerWeber(), cell=True, steps=1)


SCENARIO = {
    "version": 1, "kind": "elastic",
    "structure": {
        "kind": "crystal", "element": "Si", "lattice": "diamond", "lattice_constant": 5.4,
    },
    "potential": {"kind": "stillinger_weber"},
    "expected": {"C11": 151.4},
}  # fmt: skip


def test_a_scenario(tmp_path):
    torch.set_num_threads(1)
    job = assemble(parse(SCENARIO), tmp_path)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
        assert folder.store["elastic/constants"].shape == (6, 6)
    assert outcome.figures["lattice_constant"].value == pytest.approx(5.431, abs=2e-3)
    assert outcome.figures["C11"].note == "expected 151.4"
    assert outcome.verdicts == {"stability": "ok", "expected_C11": "ok"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"repeat": [1, 1, 2]}, r"structure\.repeat"),
        ({"vacuum": 10.0}, r"structure\.vacuum: elastic constants are of a whole crystal"),
    ],
)
def test_what_is_no_cubic_crystal_is_refused(keys, said, tmp_path):
    wrong = SCENARIO | {"structure": SCENARIO["structure"] | keys}
    with pytest.raises(InputError, match=said):
        assemble(parse(wrong), tmp_path)
