"""From a checked scenario to the job that runs it; assembly only, no physics.

Packages are imported when they are asked for, so that a scenario loads only what it uses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from ...models.parts import blamed, entry_point, load_object
from ..errors import EngineError, InputError, MissingFileError
from ..protocols import Job
from ..schema.base import Common


def assemble(scenario: Common, base: Path, source: str | Path = "") -> Job:
    """Return the job of a checked scenario; ``base`` is what its paths are relative to.

    ``engine check`` ends here, and ``engine run`` makes its folder after it: whatever can
    be refused before the first step is refused here, in the name of its ``source``.

    Raises:
        InputError: something that the scenario names is missing or does not fit.
    """
    try:
        return _assembled(scenario, base)
    except InputError as error:
        if not source:
            raise
        raise InputError(f"{source}: {error}") from error


def _assembled(scenario: Common, base: Path) -> Job:
    if scenario.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is not available here; allowed: cpu")
    try:
        return load_object(scenario.job)(scenario, base)
    except MissingFileError as error:
        keys = ", ".join(_keys_of(error.name, scenario.model_dump(mode="json")))
        raise InputError(f"{keys}: {error}" if keys else str(error)) from error
    except EngineError:
        raise
    except Exception as error:
        # a part from outside can fail in its own way, or make us fail by what it gives
        if not (name := blamed(error) or ", ".join(_from_outside(scenario))):
            raise
        said = str(error).partition("\n")[0]
        raise InputError(f"{name}: {type(error).__name__}: {said}") from error


def _from_outside(value: Any) -> Iterator[str]:
    """Yield the entry points of the parts from outside in a scenario or a part of it."""
    if name := entry_point(value):
        yield name
    if isinstance(value, BaseModel) or is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        yield from _from_outside(each)


def _keys_of(sought: str, data: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested tables and lists that hold the text ``sought``."""
    if isinstance(data, dict):
        inner = data.items()
    elif isinstance(data, list):
        inner = enumerate(data)
    else:
        if data == sought:
            yield key
        return
    for name, value in inner:
        yield from _keys_of(sought, value, f"{key}.{name}".lstrip("."))


__all__ = ["assemble"]
