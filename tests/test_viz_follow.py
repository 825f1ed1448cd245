"""The live page says what keeps it from following; no browser is needed."""

import asyncio
from types import SimpleNamespace

import pytest

from scalebridge.engine.errors import DamagedFileError
from scalebridge.viz import live


class State(SimpleNamespace):
    """The state of the page; it is entered while it is changed."""

    def __enter__(self):
        return self

    def __exit__(self, *_how):
        return None


def test_a_chunk_that_is_lost_meanwhile_is_said_and_the_page_goes_on(monkeypatch):
    """Before, the task that follows the run ended in silence: the page stood still."""
    looks = []

    def look(self):
        looks.append(1)
        raise DamagedFileError("data.zarr/c/0: missing")

    async def twice(_seconds):
        if len(looks) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(live.LivePage, "look", look)
    monkeypatch.setattr(live.asyncio, "sleep", twice)
    page = object.__new__(live.LivePage)
    page._atoms = False
    page.server = SimpleNamespace(state=State(status="running", playing=False))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(page.follow())
    assert page.server.state.status == "data.zarr/c/0: missing"
