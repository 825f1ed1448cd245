"""Excited states: the lifted Hamiltonian against one particle in a trap, and its runs."""

import math

import pytest
import torch
from torch import Tensor, nn

from scalebridge.engine import runtime
from scalebridge.engine.errors import InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import Reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.engine.vmc import references
from scalebridge.engine.vmc.electrons import Electrons
from scalebridge.engine.vmc.evaluate import evaluate
from scalebridge.engine.vmc.excited import Lifted, Lower
from scalebridge.engine.vmc.hamiltonian import Trap
from scalebridge.engine.vmc.optimiser import Spring
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.results import orthogonal
from scalebridge.engine.vmc.world import Vmc
from scalebridge.models.wavefunctions import jet

OMEGA = 0.5
TRAP = Trap(OMEGA, 1, 0, repulsion=0.0)
GROUND, FIRST = 1.5 * OMEGA, 2.5 * OMEGA


class Mixture(nn.Module):
    """``(a + b x) exp(-w r^2 / 2)``: shares of the ground state and of the next one."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.tensor([1.0, share]).double())

    def forward(self, r: jet.Field) -> tuple[Tensor, jet.Field]:
        """Return sign and ``log|psi|``."""
        a, b = self.shares
        factor = jet.shift(jet.linear(lambda t: b * t[..., 0], r), a)
        well = jet.linear(lambda t: -0.5 * OMEGA * t.sum(-1), jet.square(r))
        log = jet.sum_electrons(jet.add(well, jet.log_abs(factor)))
        value = factor.value if isinstance(factor, jet.Jet) else factor
        return value[..., 0].sign(), log


def problem(psi: nn.Module) -> Electrons:
    return Electrons(TRAP, Flat(psi), exchange=False)


def ground(samples: int) -> Lower:
    state, rng = problem(Mixture(0.0)), runtime.generator(1)
    walkers = state.start(samples, rng)
    return Lower(state, walkers, *state.psi_of(walkers))


def lifted(psi: nn.Module, penalty: float = 2.0, samples: int = 4096) -> Lifted:
    return Lifted(
        TRAP, Flat(psi), exchange=False, lower=(ground(samples),), penalty=penalty
    )


pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_lower_state_is_lifted_by_the_penalty() -> None:
    above = lifted(Mixture(0.0))
    rng = runtime.generator(2)
    energy = above.local_energy(above.start(64, rng), rng)
    assert (energy - GROUND - 2.0).abs().max() < 1e-8
    assert float(above.overlaps(above.start(64, rng), rng)) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.5, 3.0])
def test_the_energy_of_a_mixture_is_that_of_the_lifted_hamiltonian(share: float) -> None:
    above, rng = lifted(Mixture(share)), runtime.generator(3)
    first = above.start(1024, rng)
    result = evaluate(above, first, torch.tensor(1.0).double(), rng, 30)
    odds = share**2 / (2 * OMEGA)  # of the excited state
    exact = (GROUND + 2.0 + FIRST * odds) / (1 + odds)
    assert abs(result.energy - exact) < 4 * result.error + 0.01
    overlap = float(above.overlaps(result.walkers, rng))
    assert overlap == pytest.approx(1 / (1 + odds), abs=0.08)
    # Planted defect: no penalty.
    assert abs(result.energy - (GROUND + FIRST * odds) / (1 + odds)) > 0.1


def test_the_next_state_is_found() -> None:
    above, rng = lifted(Mixture(0.5)), runtime.generator(2)
    world = Vmc(above, Spring(ramp=20, max_norm=0.01), 256)
    state = world.init(runtime.generator(1))
    first = above.overlaps(state.walkers, rng)
    assert not orthogonal(float(first)).passed
    for _ in range(60):
        state = world.step(state)
    found = above.at(state.average)
    result = evaluate(found, state.walkers, state.width, rng, 20)
    assert abs(result.energy - FIRST) < 0.01
    assert orthogonal(float(found.overlaps(result.walkers, rng))).passed


def scenario(**changes) -> dict:
    return {
        "version": 1,
        "kind": "vmc",
        "system": {"kind": "trap", "omega": 0.5, "up": 1, "down": 1},
        "wavefunction": {
            "kind": "determinant", "width": 4, "pair_width": 4, "layers": 1,
            "determinants": 1, "orbitals": "none",
        },
        "sampling": {"walkers": 16, "moves": 2, "burn_in": 1},
        "evaluation": {"sweeps": 10},
        "iterations": 2,
        **changes,
    }  # fmt: skip


def test_a_run_stands_above_finished_runs(tmp_path) -> None:
    for name, above in (("one", []), ("two", ["one"]), ("three", ["one", "two"])):
        asked = {"excited": {"above": above}} if above else {}
        job = assemble(parse(scenario(**asked)), tmp_path)
        record = {"scenario": scenario(**asked)}
        with RunFolder.create(tmp_path / name, "", record) as folder:
            outcome = job.run(folder, Reporter(quiet=True))
        made = {check.name for check in outcome.checks}
        assert ("orthogonal" in made) == bool(above)
        assert ("exact_energy" in made) != bool(above)
        found = {name for name in outcome.figures if name.startswith("overlap")}
        assert found == {f"overlap_{k}" for k in range(len(above))}
        # with the weights of a lower state it would begin as that one, and stay
        assert all(abs(outcome.figures[name].value) < 0.99 for name in found)
    other = {"kind": "trap", "omega": 0.6, "up": 1, "down": 1}
    with pytest.raises(InputError, match=r"excited\.above: one is the run of another"):
        assemble(parse(scenario(system=other, excited={"above": ["one"]})), tmp_path)
    with pytest.raises(InputError, match=r"excited\.above: one is named twice"):
        assemble(parse(scenario(excited={"above": ["one", "./one"]})), tmp_path)
    with pytest.raises(InputError, match=r"excited\.above\.0: nowhere: no such file"):
        assemble(parse(scenario(excited={"above": ["nowhere"]})), tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wavefunction": {"kind": "determinant"}}, "begins at the ground state"),
        ({"wavefunction": {"kind": "slater_jastrow"}}, "begins at the ground state"),
        (
            {
                "system": {"kind": "heisenberg", "shape": [6]},
                "wavefunction": {"kind": "rbm"},
            },
            "excited: only of electrons",
        ),
        ({"excited": {"above": []}}, "above"),
    ],
)
def test_what_cannot_be_excited_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(scenario(**{"excited": {"above": ["one"]}, **changes}))


def test_tabulated_excited_energies_are_of_their_system() -> None:
    assert references.excited_energy([2], 2, 0, 1) == pytest.approx(-2.175229378)
    for numbers, electrons, spin, below in (
        ([2], 2, 2, 1), ([2], 1, 0, 1), ([2], 2, 0, 9), ([1, 1], 2, 0, 1), ([2], 2, 0, 0),
    ):  # fmt: skip
        assert references.excited_energy(numbers, electrons, spin, below) is None
    assert math.isclose(FIRST - GROUND, OMEGA)
