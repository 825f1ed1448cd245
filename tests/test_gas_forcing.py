"""Force and heat: exact free fall in every model, rest to round-off, refusals."""

import math

import pytest
import torch

from scalebridge.engine import commands, scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.forcing import shifted
from scalebridge.engine.jobs import assemble

F64 = torch.float64
FALL = [
    "grid.cells=[16]", "model.nodes=[32]", "time.end=0.2", "time.frames=2",
    "reference='none'", "boundaries={}", "initial.density=1.0",
]  # fmt: skip


def job(settings, name="hydrostatic"):
    return assemble(*scenario.load(name, settings))


def ended(run):
    state = run.start()
    begun = run.world.observe(state)
    for _ in range(run.steps):
        state = run.world.step(state)
    return begun, run.world.observe(state)


def test_a_uniform_force_accelerates_every_model_alike():
    made = job([*FALL, "force={acceleration=[-1.0]}"])
    for run in (made.main, *made.others):
        begun, seen = ended(run)
        torch.testing.assert_close(
            seen["momentum"][:, 0], -0.2 * begun["mass"], rtol=1e-9, atol=0.0
        )
        assert float((seen["mass"] - begun["mass"]).abs().amax()) < 1e-13
        warmer = (seen["temperature"] - begun["temperature"]).abs().amax()
        assert float(warmer) < 1e-9, run.name


def test_heat_warms_every_model_alike():
    made = job([*FALL, "force={heat=0.3}"])
    for run in (made.main, *made.others):
        begun, seen = ended(run)
        gained = seen["energy"] - begun["energy"]
        assert float(gained) == pytest.approx(0.3 * 0.2, rel=1e-6), run.name


def test_the_rest_is_kept_and_a_disturbance_of_it_is_not():
    short = ["grid.cells=[16]", "model.nodes=[32]", "time.end=0.3", "time.frames=2"]
    made = job(short)
    for run in (made.main, *made.others):
        _, seen = ended(run)
        assert float(seen["velocity"].abs().amax()) < 1e-13, run.name
    other = "initial.density='exp(-x)*(1 + 0.01*cos(pi*x))'"
    for run in (made := job([*short, other])).others:
        _, seen = ended(run)
        assert float(seen["velocity"].abs().amax()) > 1e-3, run.name
    _, seen = ended(job([*short, "force={acceleration=[-1.0]}", "reference='none'"]).main)
    assert 1e-8 < float(seen["velocity"].abs().amax()) < 0.05  # the error of the scheme


def test_a_shift_moves_the_first_sums_exactly_and_loses_nothing():
    v = torch.linspace(-8, 8, 64, dtype=F64)
    h, steps = float(v[1] - v[0]), torch.tensor([0.3, -0.45, 0.0, 1.0], dtype=F64)
    f = torch.exp(-0.5 * (v - 0.3) ** 2)[None, None, None].expand(1, 1, 4, 64)
    g = shifted(f, steps, 3)
    for power in range(3):
        wanted = (f * (v + steps[:, None] * h) ** power).sum(-1)
        torch.testing.assert_close((g * v**power).sum(-1), wanted, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(g[..., 3, 1:-1], f[..., 3, :-2], rtol=0.0, atol=1e-14)
    cut = shifted(torch.ones(1, 1, 4, 8, dtype=F64), steps, 3)
    torch.testing.assert_close(cut.sum(-1), torch.full((1, 1, 4), 8.0, dtype=F64))


@pytest.mark.parametrize(("scheme", "order"), [("muscl", 1.8), ("weno5", 4.5)])
def test_order_of_free_fall(scheme, order):
    errors = [free_fall(scheme, n) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) > order


def free_fall(scheme: str, cells: int) -> float:
    """Error of a density wave that a uniform force accelerates: it keeps its shape."""
    settings = [
        f"grid.cells=[{cells}]", "boundaries={}", "reference='none'", "compare=[]",
        f"model={{kind='euler', scheme='{scheme}', gamma=1.4, cfl={0.1 * 32 / cells}}}",
        "force={acceleration=[-1.0]}", "time.end=0.4", "time.frames=1",
        "initial={kind='fields', density='1 + 0.3*sin(2*pi*x)', velocity=[1.0], "
        "pressure=1.0}",
    ]  # fmt: skip
    run = job(settings).main
    _, seen = ended(run)
    x, h = run.problem.grid.centers(0) - (0.4 - 0.08), 1.0 / cells
    mean = math.sin(math.pi * h) / (math.pi * h)  # of a cell
    exact = 1.0 + 0.3 * mean * torch.sin(2 * math.pi * x)
    return float((seen["density"][0] - exact).abs().mean())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["force.acceleration=[-1.0, 1.0]", "model.nodes=[24]"], "resolves 1 here"),
        (["force.acceleration=['-x*w']"], "'w' is not known"),
        (["force.acceleration=['-1/x**2', 0.0, 0.0, 0.0]"], "acceleration"),
        (["force.acceleration=['-y']"], "y is not known here"),
        (["force.acceleration=[-2.0]"], "its pressure's slope misses the force"),
        (["force.acceleration=['1/(x - x)']", "force.rest.density=1.0"], "not finite"),
        (["force.heat=-0.5"], "can be heated, not cooled"),
        (
            ["force.acceleration=[-1e4]", "force.rest={density=1.0, temperature=1.0}"],
            "force",
        ),
        (["force.rest={density=1.0}"], "give temperature or pressure"),
        (["reference='rayleigh_taylor'"], "needs a 2D grid"),
        (["force={acceleration=[-1.0]}"], "rest needs a gas at rest"),
    ],
)
def test_wrong_forces_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        commands.check("hydrostatic", settings)
