"""Every audit of a wavefunction passes a sound one and fails a planted defect."""

import pytest

from scalebridge.engine.audit.module import audit
from scalebridge.engine.audit.wavefunction_faults import HookesAtom, wavefunction_faults
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.hamiltonian import Trap
from scalebridge.engine.vmc.parameters import Flat

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def faults():
    return {each.name: each for each in wavefunction_faults()}


NAMES = [
    "antisymmetry",
    "electron cusps",
    "nuclear cusps",
    "normalisability",
    "forward Laplacian",
    "virial theorem",
    "variance",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_defect_is_caught_and_the_sound_twin_passes(faults, name):
    good, bad = faults[name].verdicts()
    assert good.passed is True, good
    assert bad.passed is False, bad


def test_every_twin_is_in_the_list(faults):
    assert set(faults) == set(NAMES)


def test_the_exact_wavefunction_passes_everything():
    report = audit(Electrons(Trap(0.5, 1, 1), Flat(HookesAtom())), "Hooke's atom")
    assert report.passed, report.failures
    assert report["variance"].value < 1e-20
    assert report["antisymmetry"].passed is None
