"""Keys of scenario files are a promise: none moves, and no default or bound, by accident.

``norms/keys.txt`` holds every key with its type, bounds and default. A change that is meant
is recorded by ``python tests/test_schema_keys.py`` and told in CHANGELOG.md.
"""

import difflib
import json
from pathlib import Path

import pytest

from scalebridge.engine import reference, scenario
from scalebridge.engine.data.keys import DataFile, LabelKeys, located_set
from scalebridge.engine.schema import SCENARIOS
from scalebridge.engine.schema.base import of_a_record

RECORD = Path(__file__).parent / "norms" / "keys.txt"


def keys() -> list[str]:
    """Return a line for each key of every kind of scenario."""
    return [
        str(entry).partition("\n")[0]
        for kind in SCENARIOS.kinds()
        for entry in reference.entries(kind)
    ]


def test_keys_defaults_and_bounds_are_those_on_record():
    recorded = RECORD.read_text("utf-8").splitlines()
    moved = list(difflib.unified_diff(recorded, keys(), "on record", "now", "", "", 0))
    assert moved == []


@pytest.mark.parametrize("name", scenario.shipped())
def test_the_record_of_a_run_is_a_scenario_again(name):
    """With every default filled in: else the run could not be resumed."""
    asked, _ = scenario.load(name)
    record = json.loads(json.dumps(asked.model_dump(mode="json")))
    with of_a_record():
        assert scenario.parse(record, "resolved.json") == asked


def test_a_set_read_from_a_record_has_the_keys_of_the_scenario(tmp_path):
    (tmp_path / "a.xyz").touch()
    asked = DataFile(path=Path("a.xyz"), forces_key="pull")
    record = DataFile(**asked.model_dump(mode="json"))
    for source in (asked, record):
        _, keys = located_set(source, tmp_path, LabelKeys(energy_key="E0"))
        assert (keys.energy_key, keys.forces_key) == ("E0", "pull")


if __name__ == "__main__":
    RECORD.write_text("\n".join(keys()) + "\n", "utf-8")
