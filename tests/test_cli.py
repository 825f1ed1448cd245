"""The command line: exit codes, one-line errors, and what every shipped scenario needs."""

import json

import pytest
from click.testing import CliRunner

from scalebridge.engine import bench, scenario
from scalebridge.engine.cli import main
from scalebridge.engine.errors import EngineError, InputError
from scalebridge.engine.interop.host import Host


def call(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_help_lists_the_commands():
    text = call("--help").output
    for command in ("run", "check", "list", "schema", "resume", "doctor", "bench"):
        assert command in text


def test_list_shows_every_shipped_scenario_with_a_title():
    lines = call("list").output.splitlines()
    named = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert set(scenario.shipped()) <= set(named)
    assert all(named[name] for name in scenario.shipped())
    assert all(len(line) <= 80 for line in lines)
    kinds = [line.rstrip(":") for line in lines if not line.startswith(" ")]
    assert kinds == sorted({scenario.read(p)["kind"] for p in scenario.shipped().values()})


def test_schema_is_json():
    whole = json.loads(call("schema").output)
    by_kind = {rule["if"]["properties"]["kind"]["const"]: rule for rule in whole["allOf"]}
    assert set(by_kind) == set(whole["properties"]["kind"]["enum"])
    assert json.loads(call("schema", "md").output)["$defs"]
    assert call("schema", "mdd").exit_code == 2


def test_an_unknown_scenario_is_bad_input():
    result = call("run", "argon_nvee")
    assert result.exit_code == 2
    assert "did you mean argon_nve" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_bad_input_leaves_nothing_behind(tmp_path):
    out = tmp_path / "run"
    result = call("run", "argon_nve", "--set", "run.stepz=3", "--out", str(out))
    assert result.exit_code == 2
    assert "run.stepz: unknown key; did you mean steps?" in result.output
    assert not out.exists()


def test_what_does_not_fit_together_is_refused_with_the_file(tmp_path):
    file, out = scenario.find("sod"), tmp_path / "run"
    setting = 'boundaries.y={low="wall",high="wall"}'
    said = f"{file}: boundaries.y: the grid has 1 axes"
    for command in (["check", "sod"], ["run", "sod", "--out", str(out)]):
        result = call(*command, "--set", setting)
        assert result.exit_code == 2 and result.output.startswith(f"engine: {said}")
    with pytest.raises(InputError, match=f"^{said}"):
        Host.open("sod", [setting])
    assert not out.exists()


def test_resume_of_something_else_is_bad_input(tmp_path):
    result = call("resume", str(tmp_path))
    assert result.exit_code == 2
    assert "not a run folder" in result.output


@pytest.mark.parametrize("name", sorted(scenario.shipped()))
def test_every_shipped_scenario_is_complete(name):
    parsed, _ = scenario.load(name)
    assert parsed.title
    assert len(parsed.description) > 80


def test_the_page_of_results_tells_met_from_missed(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "toy.py").write_text(
        "def measure(quick, record):\n"
        "    record('speed', 2.0, 'x', goal=3, better='higher')\n"
        "    record('error', 2.0, 'eV', goal=3)\n"
    )
    monkeypatch.setattr(bench, "folder", lambda: tmp_path)
    bench.measure("toy", quick=True)
    table = json.loads((tmp_path / "results/toy.json").read_text())["figures"]
    assert table["speed"]["met"] is False
    assert table["error"]["met"] is True
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| speed | 2 | x | >= 3 | no |" in page
    assert "| error | 2 | eV | <= 3 | yes |" in page


def test_one_figure_can_be_measured_alone(tmp_path, monkeypatch):
    test_the_page_of_results_tells_met_from_missed(tmp_path, monkeypatch)
    (tmp_path / "toy.py").write_text(
        "def measure(quick, record):\n"
        "    record('speed', 4.0, 'x', goal=3, better='higher')\n"
        "    record('error', 9.0, 'eV', goal=3)\n"
    )
    bench.measure("toy", quick=True, only=["speed"])
    table = json.loads((tmp_path / "results/toy.json").read_text())["figures"]
    assert table["speed"]["value"] == 4.0
    assert table["error"]["value"] == 2.0


def test_the_history_tells_the_last_value_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "folder", lambda: tmp_path)
    record = bench.Recorder("toy")
    assert record.before("speed") is None
    for threads, value in (("1", 2.0), ("1", 3.0), ("2", 7.0)):
        monkeypatch.setenv("SCALEBRIDGE_THREADS", threads)
        record("speed", value)
    assert record.before("speed") == 7.0
    assert record.before("error") is None
    assert bench.Recorder("other").before("speed") is None
    monkeypatch.setenv("SCALEBRIDGE_THREADS", "1")
    assert record.before("speed") == 3.0
    monkeypatch.setattr(bench, "machine", lambda: "another")
    assert record.before("speed") is None
    assert len((tmp_path / "results/history.jsonl").read_text().splitlines()) == 3


def test_a_slower_step_is_an_error(monkeypatch):
    quick = bench.load("quick")
    kept = {"lj_step_ms": 10.0, "euler_step_ms": 10.0}

    class Record(dict):
        wants = staticmethod(lambda figure: figure in kept)
        before = staticmethod(kept.get)

        def __call__(self, figure, value, *_, **__):
            self[figure] = value

    times = iter([0.0119, 0.0121])
    monkeypatch.setattr(quick, "seconds", lambda *_: next(times))
    monkeypatch.setattr(quick.speed, "work", lambda kind: None)
    monkeypatch.setattr(quick, "_of_scenario", lambda name: None)
    record = Record()
    with pytest.raises(EngineError, match=r"euler_step_ms 12\.1 after 10") as error:
        quick.measure(True, record)
    assert "lj_step_ms" not in str(error.value)
    assert len(record) == 2


def test_every_figure_keeps_where_and_with_what_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALEBRIDGE_THREADS", "1")
    test_the_page_of_results_tells_met_from_missed(tmp_path, monkeypatch)
    monkeypatch.setenv("SCALEBRIDGE_THREADS", "2")
    bench.measure("toy", quick=True, only=["speed"])
    table = json.loads((tmp_path / "results/toy.json").read_text())["figures"]
    assert (table["error"]["threads"], table["speed"]["threads"]) == (1, 2)
    for key in ("machine", "versions", "date", "commit"):
        assert table["speed"][key]
    page = (tmp_path / "RESULTS.md").read_text()
    assert "; 1 thread;" in page
    assert "; 2 threads;" in page
