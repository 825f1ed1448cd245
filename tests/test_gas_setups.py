"""What check takes, run begins; what is wrong is named; what is right passes."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import setups


def test_generated_set_ups_are_run_or_refused_by_check():
    ends = [trial.end for _, trial in setups.generate(16, 7)]
    assert not {"crashed", "refused_late"} & set(ends)
    assert ends.count("ran") >= 5


def test_a_refusal_after_the_check_would_be_seen(monkeypatch):
    def late(*_):
        raise setups.InputError("too late")

    monkeypatch.setattr("scalebridge.engine.jobs.gas.GasJob.run", late)
    assert setups.attempt(setups.TUBE).end == "refused_late"
    monkeypatch.setattr("scalebridge.engine.jobs.gas.GasJob.run", lambda *_: 1 / 0)
    assert setups.attempt(setups.TUBE).end == "crashed"


@pytest.mark.parametrize(("name", "data", "named"), [*setups.wrong()])
def test_what_is_wrong_is_named_by_its_key(name, data, named):
    trial = setups.attempt(data)
    assert trial.end == "refused"
    assert named in trial.said
    assert "\n" not in trial.said


@pytest.mark.parametrize(("name", "data"), [*setups.adequate()])
def test_what_is_right_is_neither_refused_nor_warned_about(name, data):
    assert setups.attempt(data) == setups.Trial("ran")
