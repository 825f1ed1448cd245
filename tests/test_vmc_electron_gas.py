"""The electron gas: Ewald's sum, plane waves, periodic networks, a whole run."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from scalebridge.engine import runtime
from scalebridge.engine.audit.wavefunctions import (
    WavefunctionSubject,
    electron_cusps,
    normalisability,
)
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc import electron_gas
from scalebridge.engine.vmc.electron_gas import ElectronGas
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.evaluate import PairCorrelation, evaluate
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.models.wavefunctions import jet
from scalebridge.models.wavefunctions.attention import AttentionForm
from scalebridge.models.wavefunctions.determinant import DeterminantForm
from scalebridge.models.wavefunctions.electrons import surroundings
from scalebridge.models.wavefunctions.slater import SlaterJastrow, SlaterJastrowForm

FORMS = [
    SlaterJastrowForm(),
    DeterminantForm(width=8, pair_width=4, layers=2, determinants=2),
    AttentionForm(width=8, heads=2, layers=1, determinants=2),
]
SCENARIO = {
    "version": 1, "kind": "vmc", "iterations": 12,
    "system": {"kind": "electron_gas", "rs": 2.0, "up": 7, "down": 0},
    "wavefunction": {"kind": "slater_jastrow"},
    "sampling": {"walkers": 64, "burn_in": 20}, "evaluation": {"sweeps": 20},
}  # fmt: skip


def network(form, gas: ElectronGas):
    """Return a network in f64 whose weights are not those of the start."""
    net, rng = form.build(gas, 1).double(), torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng).double()
    return net


def test_the_potential_is_ewalds_whatever_its_split(monkeypatch):
    """The energy of an image charge in a cubic lattice is -2.837297 / (2 L)."""
    gas = ElectronGas(1.5, 7, 1)
    r = gas.start(16, torch.Generator().manual_seed(1))
    found = gas.potential(r)
    assert gas._image * gas.period == pytest.approx(-2.8372974795, abs=2e-9)
    monkeypatch.setattr(electron_gas, "SPLIT", 3.6)
    monkeypatch.setattr(electron_gas, "WAVES", 32)
    moved = r + gas.period * torch.randint(-3, 4, r.shape).double()
    again = ElectronGas(1.5, 7, 1).potential(moved)
    torch.testing.assert_close(found, again, rtol=0, atol=1e-8)


def test_the_potential_of_two_electrons_far_and_near():
    """Near it is 1 / r; half a cell apart it is known from Madelung's constants.

    The potential of all others and the background is -2.837297 / L at a charge of a simple
    cubic lattice, -3.639233 / L of a body-centred one: they differ by ``v`` of its centre.
    """
    gas = ElectronGas(1.0, 1, 1)
    edge, image = gas.period, gas._image

    def pair(place) -> float:
        r = torch.tensor([[[0.0, 0.0, 0.0], place]], dtype=torch.float64)
        return float(gas.potential(r)) - image

    near = 1e-3 * edge
    assert pair([near, 0, 0]) == pytest.approx(1 / near + image, abs=1e-4)
    assert pair([edge / 2] * 3) * edge == pytest.approx(
        -3.639233449 + 2.837297479, abs=1e-8
    )


def test_plane_waves_have_the_energy_of_hartree_fock():
    """Kinetic energy in closed form, the exchange against samples of the determinant."""
    gas = ElectronGas(1.0, 7, 0)
    waves = 6 * (math.tau / gas.period) ** 2 / 2
    psi = SlaterJastrow(surroundings(gas), gas.orbitals(""), 7, 0, None).double()
    problem = Electrons(gas, Flat(psi))
    rng = runtime.generator(5)
    walkers = problem.start(1024, rng)
    width = torch.tensor(0.6, dtype=torch.float64)
    for _ in range(15):
        walkers = problem.sweep(walkers, width, rng).walkers
    result = evaluate(problem, walkers, width, rng, 12)
    potential = problem.hamiltonian.potential(walkers)
    kinetic = problem.local_energy(walkers, rng) - potential
    torch.testing.assert_close(kinetic, torch.full_like(kinetic, waves), rtol=1e-9, atol=0)
    assert result.error < 0.02  # of an exchange energy of -2.2
    assert abs(result.energy - gas.mean_field) < 4 * result.error


def test_fourteen_electrons_have_the_published_kinetic_energy():
    """QMCPACK's test of 14 electrons at rs = 5 has 0.627711 hartree without repulsion."""
    gas = ElectronGas(5.0)
    k = (math.tau / gas.period) * electron_gas.whole_numbers(9)[:7].double()
    assert float(k.square().sum()) == pytest.approx(0.627711, abs=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)
def test_networks_repeat_themselves_and_have_their_derivatives(form):
    gas = ElectronGas(1.0, 7, 1)
    net = network(form, gas)
    r = gas.start(2, torch.Generator().manual_seed(2)).double()
    sign, log = net(jet.coordinates(r))
    moved = r.clone()
    moved[:, 3, 1] += gas.period
    moved[:, 7, 0] -= 2 * gas.period
    again, found = net(moved)
    assert torch.equal(sign, again)
    torch.testing.assert_close(found, log.value, rtol=0, atol=1e-11)
    x = r.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x)[1].sum(), x, create_graph=True)
    flat = slope.flatten(1)
    torch.testing.assert_close(flat.T.detach(), log.jacobian.detach(), rtol=1e-9, atol=1e-9)
    bend = torch.zeros(2, dtype=torch.float64)
    for i in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)
        bend += row.flatten(1)[:, i]
    torch.testing.assert_close(bend, log.laplacian.detach(), rtol=1e-8, atol=1e-8)


def test_the_audit_sees_cusps_and_the_cell():
    gas = ElectronGas(1.0, 7, 1)
    net = network(FORMS[1], gas)
    problem = Electrons(gas, Flat(net))
    subject = WavefunctionSubject(problem, gas.start(64, torch.Generator()))
    assert electron_cusps(subject).passed
    sound = normalisability(subject)
    assert sound.passed and sound.name == "periodicity"
    net.backbone.centres.period *= 1.001
    assert not normalisability(subject).passed


def test_pairs_by_chance_have_a_correlation_of_one():
    gas = ElectronGas(1.0, 7, 7)
    pairs = PairCorrelation(gas, bins=5)
    pairs(gas.start(20_000, torch.Generator().manual_seed(4)))
    columns = pairs.columns()
    assert set(columns) == {"r", "equal", "opposite"}
    for name in ("equal", "opposite"):  # 840,000 and more pairs, 0.4 % of them in the first
        torch.testing.assert_close(
            columns[name][1:], torch.ones(4).double(), rtol=0, atol=0.02
        )
    alone = PairCorrelation(ElectronGas(1.0, 7, 0))
    alone(ElectronGas(1.0, 7, 0).start(4, torch.Generator()))
    assert "opposite" not in alone.columns()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": {"up": 5}}, "up = 5 leaves a shell of plane waves open.*1, 7"),
        ({"system": {"down": 20}}, "down = 20 leaves.*19, 27"),
        ({"system": {"rs": -1.0}}, "rs"),
        ({"system": {"rs": 1e-300}}, "rs"),
        ({"evaluation": {"density": 8}}, "evaluation.density"),
        ({"evaluation": {"forces": True}}, "evaluation.forces: no nuclei in electron_gas"),
        ({"wavefunction": {"kind": "deepwf"}}, "deepwf decays"),
    ],
)
def test_what_the_gas_cannot_be_is_refused(changes, words):
    scenario = {
        key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
        for key, value in SCENARIO.items()
    }
    with pytest.raises((ValidationError, InputError), match=words):
        assemble(parse(scenario, "gas.toml"), Path())


def test_a_run_goes_below_hartree_fock_and_writes_pairs(tmp_path):
    checked = parse(SCENARIO, "gas.toml")
    job = assemble(checked, tmp_path)
    with RunFolder.create(tmp_path / "run", "", {"scenario": SCENARIO}) as folder:
        outcome = job.run(folder, Reporter(quiet=True))
        figures = outcome.figures
        assert figures["energy"].value < figures["hartree_fock_energy"].value
        failed = [check.name for check in outcome.checks if not check.passed]
        assert failed in ([], ["converged"], ["variance"])
        pairs = folder.store["pairs"]
        equal = torch.as_tensor(pairs["equal"][:])
        assert float(equal[0]) < 0.2 < 0.7 < float(equal[-1])
        walkers = torch.as_tensor(folder.store["walkers"][:])
        period = checked.system.period
        assert bool(((walkers >= 0) & (walkers <= period)).all())
