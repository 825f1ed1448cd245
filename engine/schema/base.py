"""What all scenario kinds share; classes are data only, units stand in field docs."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..errors import InputError


class Section(BaseModel):
    """A table of a scenario file: immutable, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class Common(Section):
    """The keys that stand at the top of every scenario."""

    version: Literal[1]
    """Version of the file format."""
    kind: str
    """What the scenario does."""
    title: str = ""
    """One line: what is computed."""
    description: str = ""
    """A few sentences for a reader who never saw the project."""
    seed: int = Field(default=1, ge=0)
    """Seed of every random number of the run."""
    precision: Literal["f32", "f64"] = "f64"
    """Floating-point precision of the simulation."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the simulation runs."""


def _no_null_byte(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot hold a null byte")
    return path


InputPath = Annotated[Path, AfterValidator(_no_null_byte)]
"""A file to read: absolute, or relative to the scenario file (see :func:`locate`)."""


def locate(path: Path, base: Path, hint: str = "") -> Path:
    """Return the existing file or folder that ``path`` names.

    A relative path is looked for beside the scenario file, then beside its parent folder
    (the checkout, for shipped scenarios), then in the working directory.

    Raises:
        InputError: nothing is there; ``hint`` tells where to get it.
    """
    candidates = (
        [path]
        if path.is_absolute()
        else [base / path, base.parent / path, Path.cwd() / path]
    )
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    raise InputError(f"{path}: no such file or folder" + (f"; {hint}" if hint else ""))
