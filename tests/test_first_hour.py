"""What a new user types first: templates, explanations, sweeps, comparisons."""

import itertools
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from scalebridge.engine import commands, reference, scenario, sweeps, templates
from scalebridge.engine.cli import main
from scalebridge.engine.errors import InputError
from scalebridge.engine.protocols import Outcome
from scalebridge.engine.schema import SCENARIOS


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.mark.parametrize("kind", SCENARIOS.kinds())
def test_every_key_of_every_kind_is_explained(kind):
    found = reference.entries(kind)
    assert [entry.key for entry in found if not entry.text] == []
    assert f"{kind}.seed" in [entry.key for entry in found]


def test_a_key_is_explained_with_type_default_bounds_and_meaning():
    text = call("explain", "md.run.timestep").output
    assert "number >= 1e-06, <= 1000; required" in text
    assert "fs" in text
    inherited = call("explain", "md.ensemble.langevin.relaxation").output
    assert "Relaxation time of the bath, fs" in inherited


def test_a_part_is_explained_without_what_leads_to_it():
    assert "relaxation" in call("explain", "langevin").output


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("kind", '"md"'),
        ("elastic.kind", '"elastic"'),
        ("gas.model.kind", "kinetic"),
        ("ensemble.kind", "nose_hoover"),
    ],
)
def test_a_kind_is_explained_by_what_it_may_be(key, said):
    assert said in call("explain", key).output


def test_a_table_without_kinds_has_no_key_kind():
    assert call("explain", "md.run.kind").exit_code == 2


def test_an_unknown_key_is_answered_with_the_nearest():
    result = call("explain", "md.ensemble.langevin.relaxtion")
    assert result.exit_code == 2
    assert "near: md.ensemble.langevin.relaxation" in result.output


def test_every_kind_that_is_shipped_has_a_template_that_is_that_scenario(tmp_path):
    kinds = {scenario.read(path)["kind"] for path in scenario.shipped().values()}
    for kind in sorted(kinds):
        path = templates.write(kind, tmp_path / f"{kind}.toml")
        assert scenario.load(path)[0].kind == kind
        text = re.sub(r'""".*?"""', '""', path.read_text(), flags=re.S)
        text = re.sub(r"\[expected\]\n[^\[]*", "", text)  # names are free there
        lines = text.splitlines()
        bare = [
            line
            for above, line in itertools.pairwise(lines)
            if re.match(r"[\w.]+ = ", line) and not above.startswith("#")
        ]
        told_elsewhere = {"version", "kind", "title", "description"}
        assert {line.split()[0] for line in bare} <= told_elsewhere


def test_a_copy_finds_the_files_of_the_shipped_scenario(tmp_path):
    path = tmp_path / "mine.toml"
    assert call("new", "silicon_melt", path).exit_code == 0
    model = Path(tomllib.loads(path.read_text())["potential"]["model"])
    assert model.is_absolute()
    assert model.is_file()


def test_a_template_overwrites_nothing(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("precious")
    result = call("new", "md", path)
    assert result.exit_code == 2
    assert path.read_text() == "precious"


def test_a_sweep_is_every_combination():
    assert sweeps.points(["a=1,2", "b.c=[3, 4],5"]) == [
        ("a=1", "b.c=[3, 4]"), ("a=1", "b.c=5"), ("a=2", "b.c=[3, 4]"), ("a=2", "b.c=5"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [["a"], ["a=1,,2"], ["=1"], ["a=1", "a=2"]])
def test_a_sweep_of_another_form_is_refused(wrong):
    with pytest.raises(InputError, match="--sweep"):
        sweeps.points(wrong)


def test_no_point_of_a_sweep_runs_when_one_is_refused(tmp_path):
    out = tmp_path / "sweep"
    result = call("run", "silicon_sw", "--sweep", "run.timestep=1.0,-1.0", "--out", out)
    assert result.exit_code == 2
    assert "run.timestep" in result.output
    assert not out.exists()


def finished(path, temperature, value):
    path.mkdir()
    resolved = {"scenario": {"kind": "md", "ensemble": {"temperature": temperature}}}
    (path / "resolved.json").write_text(json.dumps(resolved))
    figures = {"pressure": {"value": value, "unit": "GPa", "error": 0.1}}
    (path / "summary.json").write_text(json.dumps({"figures": figures, "exit_status": 0}))
    return path


def test_a_comparison_shows_what_was_set_and_what_came_out(tmp_path):
    one = finished(tmp_path / "one", 300, 1.25)
    two = finished(tmp_path / "two", 600, 2.5)
    lines = call("compare", one, two).output.splitlines()
    assert lines[1].split() == ["ensemble.temperature", "300", "600"]
    assert lines[2].split() == [
        "pressure",
        "[GPa]",
        "1.25",
        "+-",
        "0.1",
        "2.5",
        "+-",
        "0.1",
    ]
    assert not any(line.startswith("kind") for line in lines)


def test_a_comparison_refuses_what_is_no_run(tmp_path):
    assert call("compare", tmp_path).exit_code == 2


@pytest.mark.parametrize("command", ["run", "check", "new", "converge"])
def test_the_tab_key_offers_shipped_scenarios_and_files(command):
    words = {"COMP_WORDS": f"engine {command} silicon_s", "COMP_CWORD": "2"}
    complete = {"_ENGINE_COMPLETE": "bash_complete", **words}
    output = CliRunner().invoke(main, prog_name="engine", env=complete).output
    assert output.splitlines() == ["plain,silicon_sw", "file,silicon_s"]


def test_a_sweep_makes_one_folder_for_each_point(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(commands, "check", lambda *_: None)
    monkeypatch.setattr(
        commands, "run", lambda name, settings, out, **_: asked.append((settings, out))
        or Outcome(),
    )  # fmt: skip
    sweeps.run("silicon_sw", ["seed=2"], ["run.steps=1,2"], tmp_path)
    assert asked == [
        (["seed=2", "run.steps=1"], tmp_path / "1"),
        (["seed=2", "run.steps=2"], tmp_path / "2"),
    ]


def test_the_command_of_a_run_can_be_typed_again(tmp_path):
    sets = ["run.steps=1", "title=two words", "structure.repeat=1", "output.rdf=[]"]
    commands.run("silicon_sw", [*sets, "structure.repeat=[2,2,2]"], tmp_path / "run")
    command = json.loads((tmp_path / "run" / "resolved.json").read_text())["command"]
    assert "--set 'title=two words'" in command
