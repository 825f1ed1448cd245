"""Scenario files: friendly errors for everything that can be wrong in one."""

import json
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from scalebridge.engine import scenario
from scalebridge.engine.errors import InputError
from scalebridge.engine.schema.base import Common, Section, locate


class Cold(Section):
    kind: Literal["cold"]
    cutoff: float = Field(gt=0)


class Hot(Section):
    kind: Literal["hot"]
    temperature: float = 300.0


class Toy(Common):
    kind: Literal["toy"]
    world: Annotated[Cold | Hot, Field(discriminator="kind")]
    steps: int = Field(default=10, ge=0)
    parts: list[Hot] = []
    sides: Annotated[tuple[float, ...], Field(min_length=1)] = (1.0,)
    corner: tuple[float, float] = (0.0, 0.0)


GOOD = {"version": 1, "kind": "toy", "world": {"kind": "cold", "cutoff": 2.5}}


class Toys:
    """A table of scenarios with one kind."""

    def kinds(self) -> tuple[str, ...]:
        return ("toy",)

    def __getitem__(self, kind: str) -> type[Toy]:
        return Toy

    def classes(self) -> tuple[type[Toy], ...]:
        return (Toy,)


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setattr(scenario, "SCENARIOS", Toys())


def refused(changes: dict) -> str:
    with pytest.raises(InputError) as caught:
        scenario.parse({**GOOD, **changes}, "x.toml")
    assert caught.value.status == 2
    return str(caught.value)


def test_defaults_are_filled_in():
    parsed = scenario.parse(GOOD)
    assert parsed.steps == 10 and parsed.precision == "f64"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"stepz": 3}, "x.toml: stepz: unknown key; did you mean steps?"),
        (
            {"kind": "tog"},
            "x.toml: kind: 'tog' is unknown; did you mean toy?; allowed: toy",
        ),
        (
            {"world": {"kind": "cold", "cutof": 2.5}},
            "x.toml: world.cutof: unknown key; did you mean cutoff?",
        ),
        (  # a key with the name of the kind
            {"world": {"kind": "cold", "cutoff": 2.5, "cold": 1}},
            "x.toml: world.cold: unknown key",
        ),
        (
            {"world": {"kind": "cool", "cutoff": 2.5}},
            "x.toml: world: kind 'cool' is unknown; did you mean cold?; allowed: cold, hot",
        ),
        ({"world": {"cutoff": 2.5}}, "x.toml: world: the key `kind` is required"),
        ({"world": {"kind": "cold"}}, "x.toml: world.cutoff: this key is required"),
        (
            {"steps": -1},
            "x.toml: steps: input should be greater than or equal to 0 (found -1)",
        ),
        (
            {"sides": 2.0},
            "x.toml: sides: input should be a list, such as [2.0] (found 2.0)",
        ),
        (
            {"sides": []},
            "x.toml: sides: input should have at least 1 item, not 0 (found [])",
        ),
        (
            {"parts": {"kind": "hot"}},
            "x.toml: parts: input should be a list: [[parts]] (found {'kind': 'hot'})",
        ),
        ({"parts": [3]}, "x.toml: parts.0: input should be a table (found 3)"),
        ({"corner": [3.0]}, "x.toml: corner: input should have more items (found [3.0])"),
        ({"version": 2}, "x.toml: version: input should be 1 (found 2)"),
        (
            {"parts": [{"kind": "hot"}, {"kind": "hot", "temprature": 1.0}]},
            "x.toml: parts.1.temprature: unknown key; did you mean temperature?",
        ),
        (
            {"world": {"kind": "cold", "cutoff": float("nan")}},
            "x.toml: world.cutoff: input should be a finite number (found nan)",
        ),
    ],
)
def test_one_line_says_what_is_wrong(changes, line):
    assert refused(changes) == line


def test_all_problems_are_reported_at_once():
    assert len(refused({"stepz": 3, "seed": "x"}).splitlines()) == 2


def test_settings_replace_keys():
    data = scenario.override(
        {"a": {"b": 1}, "c": [{"d": 2}]}, ["a.b=1e-3", "c.0.d=x", "e.f=3"]
    )
    assert data == {"a": {"b": 1e-3}, "c": [{"d": "x"}], "e": {"f": 3}}


@pytest.mark.parametrize("setting", ["novalue", "=3", "c.5.d=1", "a.b.c=2"])
def test_bad_settings_are_refused(setting):
    with pytest.raises(InputError, match="--set"):
        scenario.override({"a": {"b": 1}, "c": [{"d": 2}]}, [setting])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = [1", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x=" + b"[" * 100_000, "nested too deeply|not valid TOML"),
        (b" " * 1_000_001, "larger than"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, content, message):
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        scenario.read(file)


def test_a_missing_name_is_answered_with_the_nearest(monkeypatch, tmp_path):
    monkeypatch.setattr(scenario, "shipped", lambda: {"argon_nve": tmp_path})
    with pytest.raises(InputError, match="did you mean argon_nve"):
        scenario.find("argon_nvt")


def test_locate_says_where_missing_data_is_published(tmp_path):
    with pytest.raises(InputError, match=r"water: no such file or folder; published at x"):
        locate(tmp_path / "water", tmp_path, "published at x")


def test_json_schema_names_every_field():
    assert "cutoff" in json.dumps(scenario.json_schema())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_scenario_or_a_named_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_text(text, encoding="utf-8", errors="ignore")
    try:
        scenario.parse(scenario.read(file))
    except InputError as error:
        assert str(error)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "world", "cutoff", "cold", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["world", "steps", "parts", "seed", "y"]), _json))
def test_any_values_are_accepted_or_named(changes):
    try:
        scenario.parse({**GOOD, **changes})
    except InputError as error:
        assert str(error)
