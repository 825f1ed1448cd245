"""What all scenario kinds share; classes are data only, units stand in field docs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ...models.parts import STRICT, Family, described, strict_numbers
from ..errors import InputError, MissingFileError
from ..manifest import refuse_damage
from ..resolved import begun


class Section(BaseModel):
    """A table of a scenario file: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, **STRICT)  # type: ignore[typeddict-item]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Take numbers as numbers only; called by pydantic when the class is made."""
        return strict_numbers(handler(source))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """Say what each key means; called by pydantic when the JSON schema is made."""
        return described(cls, core, handler)


_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


@contextmanager
def of_a_record() -> Iterator[None]:
    """Take what is read inside for the record of a run, in which every default stands."""
    token = _recorded.set(True)
    try:
        yield
    finally:
        _recorded.reset(token)


def given(section: BaseModel) -> set[str]:
    """Return the keys that a file gives; of a record, those that are not at their default.

    A key that stands in a file for nothing is refused, even at its default.
    """
    told, fields = section.model_fields_set, type(section).model_fields
    return {
        name
        for name in told
        if not _recorded.get()
        or getattr(section, name) != fields[name].get_default(call_default_factory=True)
    }


def choice(family: Family, default: str | None = None) -> Any:
    """Return the type of a key that takes any part of ``family``; a text is a kind alone.

    Args:
        family: whose parts may stand there; the key ``kind`` says which.
        default: the kind where the table does not name one.
    """
    classes = family.classes()
    found: Any = classes[0]
    if len(classes) > 1:
        found = Annotated[Union[classes], Field(discriminator="kind")]  # noqa: UP007

    def with_kind(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict) and "kind" not in value and default is not None:
            return {"kind": default, **value}
        return value

    return Annotated[found, BeforeValidator(with_kind)]


class Common(Section):
    """The keys that stand at the top of every scenario.

    Attributes:
        job: ``module:function`` of the function that takes the checked scenario and the
            folder that its paths are relative to, and returns the job. Everything that
            can be refused is refused there.
    """

    job: ClassVar[str]
    changeable: ClassVar[tuple[str, ...]] = ()
    """Keys that a run which is resumed may change, besides title and description."""

    @classmethod
    def variants(cls) -> tuple[type[Self], ...]:
        """Return the classes that share this kind; the file's other keys choose one."""
        return (cls,)

    @classmethod
    def variant(cls, data: Any) -> type["Common"]:
        """Return the class that reads ``data``."""
        return cls

    version: Literal[1]
    """Version of the file format."""
    kind: str
    """What the scenario does."""
    title: str = ""
    """One line: what is computed."""
    description: str = ""
    """A few sentences for a reader who never saw the project."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Seed of every random number of the run."""
    precision: Literal["f32", "f64"] = "f64"
    """Floating-point precision of the simulation."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the simulation runs."""


def _no_null_byte(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot hold a null byte")
    return path


def thrice(value: Any) -> Any:
    """Return a number as the same number along each of three axes."""
    return (value,) * 3 if isinstance(value, int | float) else value


InputPath = Annotated[Path, AfterValidator(_no_null_byte)]
"""A file to read: absolute, or relative to the scenario file (see :func:`locate`)."""


_located: ContextVar[dict[str, Path] | None] = ContextVar("located", default=None)


@contextmanager
def noting_inputs() -> Iterator[dict[str, Path]]:
    """Give a table that fills with the files and folders that :func:`locate` finds."""
    found: dict[str, Path] = {}
    token = _located.set(found)
    try:
        yield found
    finally:
        _located.reset(token)


def locate(path: Path, base: Path, hint: str = "") -> Path:
    """Return the existing file or folder that ``path`` names.

    A relative path is looked for beside the scenario file, then beside its parent folder
    (the checkout, for shipped scenarios), then in the working directory.

    Raises:
        MissingFileError: nothing is there; names the folders that were searched, and
            ``hint`` tells where to get it.
        InputError: what is there is neither a file nor a folder.
        DamagedFileError: a file of a run folder that is not what the run wrote.
    """
    candidates = (
        [path]
        if path.is_absolute()
        else [base / path, base.parent / path, Path.cwd() / path]
    )
    for candidate in candidates:
        if candidate.exists():
            if not (candidate.is_file() or candidate.is_dir()):
                raise InputError(f"{path}: is neither a file nor a folder")
            if candidate.is_file() and begun(candidate.parent):
                refuse_damage(candidate.parent, candidate.name)
            if (noted := _located.get()) is not None:
                noted[str(path)] = candidate.resolve()
            return candidate.resolve()
    said = [f"{path}: no such file or folder", *([hint] if hint else [])]
    if not path.is_absolute():
        folders = dict.fromkeys(str(f.resolve()) for f in (base, base.parent, Path.cwd()))
        said.append(f"searched: {', '.join(folders)}")
    raise MissingFileError("; ".join(said), str(path))


Some = TypeVar("Some")


def located(part: Some, base: Path) -> Some:
    """Return a part, or a section or a tuple of parts, whose files are found from ``base``.

    Raises:
        MissingFileError: one is not there.
    """
    if hasattr(part, "located"):
        return part.located(base)  # type: ignore[attr-defined]
    if isinstance(part, tuple):
        each = tuple(located(item, base) for item in part)
        same = all(a is b for a, b in zip(each, part, strict=True))
        return part if same else each  # type: ignore[return-value]
    if isinstance(part, BaseModel):
        own = {name: getattr(part, name) for name in type(part).model_fields}
    elif is_dataclass(part) and not isinstance(part, type):
        own = {field.name: getattr(part, field.name) for field in fields(part)}
    else:
        return part
    found = {name: located(value, base) for name, value in own.items()}
    found = {name: value for name, value in found.items() if value is not own[name]}
    if not found:
        return part
    if isinstance(part, BaseModel):
        return part.model_copy(update=found)
    return replace(part, **found)  # type: ignore[type-var]


def by_key(key: str, classes: Mapping[str, type[Common]], data: Any) -> type[Common]:
    """Return the class of ``classes`` that the value of ``key`` in ``data`` names.

    Raises:
        InputError: the key is missing, or names none of them.
    """
    value = data.get(key)
    if isinstance(value, str) and value in classes:
        return classes[value]
    found = "the key is required" if value is None else f"{value!r} is unknown"
    raise InputError(f"{key}: {found}; allowed: {', '.join(classes)}")
