"""Closures fitted to whole runs: the last layer, through the solver."""

import tomllib
from pathlib import Path

import pytest
import torch

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.closures.parts import read
from scalebridge.engine.gas.flows import lines
from scalebridge.engine.jobs import assemble
from scalebridge.engine.learn.trainers.closure import Labelled, labelled, linear_rates
from scalebridge.engine.learn.trainers.refinement import Course, refine
from scalebridge.engine.scenario import parse
from scalebridge.models.closures.local import LocalClosure

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
TIMES = (0.0, 0.05, 0.1, 0.16)


@pytest.fixture(scope="module")
def data() -> Labelled:
    some = [lines.flow("wave", 5, index) for index in (1, 2, 3)]
    raw = lines.solve(some, TIMES, 40, 48, 40, 6, 7.2)
    return labelled(raw, lines.knudsen_numbers(some, lines.box(40)), TIMES, 5)


def module() -> LocalClosure:
    return read(SCENARIOS / "models" / "closure_local_0.safetensors").float()


def test_a_course_is_compared_with_what_the_kinetic_equation_says(data: Labelled) -> None:
    course = Course.of(data)
    assert course.times == (0.1, 0.16)
    assert course.truth.shape == (2, 3, 20, 3)
    halves = data.moments[2:, :, :, :3].unflatten(2, (20, 2)).mean(3)
    torch.testing.assert_close(course.truth[..., :2], halves[..., :2])
    torch.testing.assert_close(course.truth[..., 2], 0.5 * halves[..., 2])
    found = course.run(module())
    miss = (found - course.truth).square().sum((2, 3)).sqrt() / course.signal
    assert float(miss.max()) < 0.5  # six moments over such a time
    torch.testing.assert_close(found[..., 0].sum(-1), course.truth[..., 0].sum(-1))


def test_a_round_brings_runs_and_rates_nearer_by_the_last_layer_alone(
    data: Labelled,
) -> None:
    one, told = module(), []
    before = {name: value.clone() for name, value in one.state_dict().items()}
    course = Course.of(data)

    def far() -> float:
        off = (course.run(one) - course.truth).square().sum((2, 3)).sqrt()
        return float((off / course.signal).mean())

    miss = far()
    refine(one, [data], 2, lambda *given: told.append(given))
    assert [given[:3] for given in told] == [("refined", 0, 2), ("refined", 1, 2)]
    assert far() < 0.85 * miss
    ours, exact = linear_rates(one, 5, 6.28, 0.3 / 6.28)
    assert abs(ours / exact - 1).max() < 0.02
    moved = [n for n, v in one.state_dict().items() if not torch.equal(v, before[n])]
    assert moved == ["net.rest.3.weight"]


def scenario(**changed: object) -> object:
    raw = tomllib.loads((SCENARIOS / "closure_refine.toml").read_text()) | changed
    raw = {name: value for name, value in raw.items() if value is not None}
    return assemble(parse(raw), SCENARIOS)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"members": 2}, "begin: 1 files; members = 2: one for each"),
        ({"refined": 0}, "begin: nothing is done with them; set refined"),
        ({"steps": 5, "rolled": 2}, "nothing is regressed then: leave out rolled, steps"),
        ({"begin": ["no.safetensors"], "members": 1}, r"begin.0: .*no card"),
        (
            {"begin": ["models/closure_wide_0.safetensors"], "members": 1},
            "begin.0: models/closure_wide_0.safetensors has another form than model",
        ),
        (
            {"begin": [], "model": {"kind": "local_closure", "dimension": 3}},
            "refined, fronts belong to gases with one velocity dimension",
        ),
    ],
)
def test_what_cannot_be_refined_is_refused(changed: dict, told: str) -> None:
    with pytest.raises((InputError, ValueError), match=told):
        scenario(**changed)


def test_the_shipped_scenario_is_accepted() -> None:
    scenario()
