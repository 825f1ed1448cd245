"""Versions are pinned, all of them, and every archive by its hash."""

import subprocess
import sys

import pins
import pytest
from packaging.requirements import Requirement


def missing(roots) -> set[str]:
    return pins.needed(roots) - set(pins.pinned())


def test_everything_that_is_installed_with_us_is_pinned():
    assert not missing(pins.declared())
    # the planted defect: something that nobody pinned, and what it needs
    assert missing([*pins.declared(), Requirement("nowhere>=1")]) == {"nowhere"}


def test_every_pin_has_its_hash():
    locked = pins.locked()
    assert {name: version for name, (version, _) in locked.items()} == pins.pinned()
    assert all(hashes for _, hashes in locked.values())


def test_an_edited_hash_is_no_hash(tmp_path, monkeypatch):
    edited = tmp_path / "requirements.lock"
    edited.write_text(pins.LOCK.read_text().replace("sha256:", "sha256:0", 1))
    monkeypatch.setattr(pins, "LOCK", edited)
    assert [name for name, (_, hashes) in pins.locked().items() if not hashes]


@pytest.mark.slow
def test_the_pins_install(tmp_path):
    """pip takes every archive by its hash; needs the network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    more = ["--ignore-installed", "--require-hashes", "-r", str(pins.LOCK)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
