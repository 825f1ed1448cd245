"""Several geometries in one run: each as it is alone, and one wavefunction for all."""

from typing import Any

import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter, Simulation
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc.batch import Batch
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.hamiltonian import molecule
from scalebridge.engine.vmc.optimiser import Spring
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.wavefunctions.determinant import DeterminantForm

DISTANCES = (1.2, 1.8)


pytestmark = pytest.mark.usefixtures("one_thread")


def hydrogen(distance: float, orbitals: Any = "hartree_fock") -> Electrons:
    form = DeterminantForm(None, 8, 4, 1, 1, orbitals, "sto-3g")
    system = molecule(["H", "H"], [[0, 0, 0], [0, 0, distance]])
    return Electrons(system, Flat(form.build(system, 1).double()), moves=2)


def test_a_batch_of_one_is_a_run_of_its_own() -> None:
    """Up to round-off: scores and energies count from their means before, not after."""
    alone = Vmc(hydrogen(1.4), Spring(), 32, burn_in=2)
    batch = Batch([hydrogen(1.4)], Spring(), 32, burn_in=2)
    one, several = (each.init(runtime.generator(1)) for each in (alone, batch))
    for _ in range(5):
        one, several = alone.step(one), batch.step(several)
    torch.testing.assert_close(several.parameters, one.parameters, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(several.average, one.average, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(several.walkers[0], one.walkers, rtol=1e-6, atol=1e-9)
    for name, value in alone.observe(one).items():
        found = batch.observe(several)[name]
        torch.testing.assert_close(found.flatten()[0], value, rtol=1e-6, atol=1e-9)


def test_geometries_keep_their_walkers_and_all_are_lowered() -> None:
    problems = [hydrogen(distance, "none") for distance in DISTANCES]
    batch = Batch(problems, Spring(ramp=20, max_norm=0.01), 64, burn_in=20)
    state = batch.init(runtime.generator(1))
    first, energies = state.start[:, 0], []
    for number, problem in enumerate(problems):
        rng = runtime.generator(2)
        own = problem.local_energy(state.walkers[number], rng).mean()
        assert abs(float(own - first[number])) < 0.3
    for _ in range(60):
        state = batch.step(state)
        energies.append(state.energy)
    assert state.walkers.shape == (2, 64, 2, 3)
    found = torch.stack(energies[-20:]).mean(0)
    exact = torch.tensor([-1.1649, -1.1550]).double()  # Kolos and Wolniewicz
    assert bool((found < first - 0.15).all())
    assert bool(((found - exact).abs() < 0.1).all())


def curve(**changes) -> dict:
    return {
        "version": 1,
        "kind": "vmc",
        "symbols": ["H", "H"],
        "points": [
            {"coordinate": r, "positions": [[0, 0, 0], [0, 0, r]], "reference": -1.1}
            for r in (1.4, 1.45)
        ],
        "wavefunction": {
            "kind": "determinant", "width": 4, "pair_width": 4, "layers": 1,
            "determinants": 1, "basis": "sto-3g",
        },
        "sampling": {"walkers": 16, "moves": 2, "burn_in": 1},
        "evaluation": {"sweeps": 10},
        "differences": True,
        "together": True,
        "first_iterations": 4,
        **changes,
    }  # fmt: skip


def test_a_curve_of_a_batch_has_the_figures_of_a_scan(tmp_path) -> None:
    found = []
    for name, together in (("batch", True), ("scan", False)):
        job = assemble(parse(curve(together=together, iterations=1)), tmp_path)
        assert isinstance(job, Simulation) == together
        folder = RunFolder.create(tmp_path / name, "", {})
        outcome = job.run(folder, Reporter(quiet=True))
        found.append((set(outcome.figures), {check.name for check in outcome.checks}))
        assert folder.store["energies/energy"].shape == (2,)
    assert found[0] == found[1]
    assert "energy_at_1.45_above_1.4" in found[0][0]


def test_any_wavefunction_of_electrons_follows_a_curve(tmp_path) -> None:
    attention = {
        "kind": "attention",
        "width": 4,
        "heads": 2,
        "layers": 1,
        "basis": "sto-3g",
    }
    asked = parse(curve(wavefunction={**attention, "determinants": 1, "basis": "sto-3g"}))
    folder = RunFolder.create(tmp_path / "run", "", {})
    found = assemble(asked, tmp_path).run(folder, Reporter(quiet=True))
    assert "energy_at_1.4" in found.figures
    with pytest.raises(InputError, match="rbm cannot describe a molecule; allowed: det"):
        parse(curve(wavefunction={"kind": "rbm"}))


def test_walkers_of_all_geometries_count_for_the_memory(tmp_path, monkeypatch) -> None:
    bytes_of_one = 2**20
    monkeypatch.setattr(runtime, "available_memory", lambda: bytes_of_one)
    assemble(parse(curve(together=False)), tmp_path)
    many = [
        {"coordinate": 1 + k, "positions": [[0, 0, 0], [0, 0, 1.4 + 0.01 * k]]}
        for k in range(24)
    ]
    with pytest.raises(InputError, match="with 384 walkers need about"):
        assemble(parse(curve(points=many)), tmp_path)


def test_a_batch_goes_on_where_it_stopped(tmp_path) -> None:
    asked = parse(curve())
    straight = assemble(asked, tmp_path).run(
        RunFolder.create(tmp_path / "straight", "", {}), Reporter(quiet=True)
    )
    folder = RunFolder.create(tmp_path / "stopped", "", {})
    half = assemble(parse(curve(first_iterations=2)), tmp_path)
    half.run(folder, Reporter(quiet=True))
    again = assemble(asked, tmp_path).run(folder, Reporter(quiet=True))
    assert again.figures == straight.figures
