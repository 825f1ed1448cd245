"""Parts that declare themselves: one frozen dataclass is schema, card and constructor.

A part is what a scenario names by its ``kind``: a potential, a closure, a labeler, an
initial condition. Its class says everything once::

    @part
    class Morse:
        \"\"\"Morse's pair potential.\"\"\"

        depth: Annotated[float, Gt(0)] = 0.1
        \"\"\"Of the well, eV.\"\"\"
        kind: Literal["morse"] = "morse"

The fields with their bounds (:mod:`annotated_types`), defaults and the strings below them
are the keys of the scenario file, the form on a model's card, the reference page and the
arguments in Python. What fields must satisfy together stands in ``__post_init__``, which
raises ``ValueError``.

A :class:`Family` is the table of the parts that may stand in one place. A package from
outside adds its own through the entry point group ``scalebridge.parts``, under the name
``FAMILY.KIND``::

    [project.entry-points."scalebridge.parts"]
    "interaction.morse" = "my_package.potentials:Morse"
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args

GROUP = "scalebridge.parts"
"""Entry points of packages that bring parts of their own."""

STRICT: dict[str, Any] = {
    "extra": "forbid",
    "allow_inf_nan": False,
}
"""How fields are read from a file: no unknown key, no NaN; pydantic's own names."""

LARGEST = 1e9
"""A real number beyond this is a mistake, whatever it means: no quantity of a scenario
(fs, angstrom, eV, K, GPa; reference units of a gas) comes near."""
LARGEST_COUNT = 10**15
"""The same for whole numbers."""

Class = TypeVar("Class", bound=type)


class UnknownPartError(LookupError):
    """No part of that kind is known; the message lists those that are."""


def _whole(value: Any) -> Any:
    """Return ``1e4`` as the whole number that it is; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def strict_numbers(schema: Any) -> Any:
    """Return a core schema of pydantic in which a number is a number.

    A text or a truth value is none, a truth value is no number, and the size of a number
    that has no bound of its own is bounded by :data:`LARGEST`.
    """
    if isinstance(schema, (list, tuple)):
        return type(schema)(strict_numbers(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in ("int", "float", "bool") and not schema.get("strict"):
        bounds = {}
        if kind != "bool" and not schema.keys() & {"le", "lt"}:
            bounds["le"] = LARGEST_COUNT if kind == "int" else LARGEST
        if kind != "bool" and not schema.keys() & {"ge", "gt"}:
            bounds["ge"] = -LARGEST_COUNT if kind == "int" else -LARGEST
        found = {**schema, **bounds, "strict": True}
        if kind != "int":
            return found
        whole = {"type": "no-info", "function": _whole}
        return {"type": "function-before", "function": whole, "schema": found}
    kept = ("metadata", "default", "expected", "config", "serialization")
    return {k: v if k in kept else strict_numbers(v) for k, v in schema.items()}


def _strict(cls: Any, source: Any, handler: Any) -> Any:
    return strict_numbers(handler(source))


def described(cls: Any, core: Any, handler: Any) -> Any:
    """Return the JSON schema of a class with what its source says of each field.

    Sources are read when the schema is asked for: a run needs no description.
    """
    schema = handler(core)
    keys = handler.resolve_ref_schema(schema).get("properties", {})
    for name, text in _field_docs(cls).items():
        if name in keys:
            keys[name].setdefault("description", text)
    return schema


def _field_docs(cls: type) -> dict[str, str]:
    """Return the strings below the fields that a class declares or inherits."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        node = _classes(base.__module__).get(base.__name__)
        for field, below in itertools.pairwise(node.body if node else []):
            named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if named and told and isinstance(below.value.value, str):
                found[field.target.id] = inspect.cleandoc(below.value.value)
    return found


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """Return the classes in the source of a module; none where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    except (ImportError, OSError, TypeError, SyntaxError):
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


@dataclass_transform(frozen_default=True)
def part(cls: Class) -> Class:
    """Make ``cls`` a frozen dataclass whose fields a scenario file may give."""
    cls.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
    cls.__get_pydantic_core_schema__ = classmethod(_strict)  # type: ignore[attr-defined]
    cls.__get_pydantic_json_schema__ = classmethod(described)  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


class ByKind:
    """Marks a field of a part that is another part: ``Annotated[A | B, ByKind()]``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let the key ``kind`` choose; called by pydantic when a scenario is read."""
        from pydantic import Field

        return handler.generate_schema(Annotated[source, Field(discriminator="kind")])


def load_object(reference: str) -> Any:
    """Return the object that ``module:name`` names.

    Raises:
        UnknownPartError: there is no such module, or it has no such name.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UnknownPartError(f"{reference}: cannot be imported: {error}") from error


@functools.cache
def _outside() -> dict[str, Any]:
    """Return the entry points of installed packages, by ``FAMILY.KIND``."""
    found: dict[str, Any] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UnknownPartError(
                f"entry point {point.name}: two packages bring it, {other.value} and "
                f"{point.value}; uninstall one"
            )
    return found


def _load_outside(point: Any, kind: str) -> type:
    """Return the class of an entry point.

    Raises:
        UnknownPartError: its module fails, or the class does not declare itself as a part
            of that kind.
    """
    try:
        found: Any = point.load()
    except Exception as error:
        # a module from outside can fail in its own way
        raise UnknownPartError(
            f"entry point {point.name}: {point.value} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if kind_of(found) != kind:
        raise UnknownPartError(
            f"entry point {point.name}: {point.value} calls itself {kind_of(found)!r}"
        )
    if dataclasses.is_dataclass(found):
        declared = {item.name: item.type for item in dataclasses.fields(found)}
        if get_args(declared.get("kind")) != (kind,):
            raise UnknownPartError(
                f'entry point {point.name}: {point.value} needs kind: Literal["{kind}"]'
            )
    elif not hasattr(found, "model_fields"):
        raise UnknownPartError(
            f"entry point {point.name}: {point.value} is no part; decorate it with @part"
        )
    cls: type = found  # type: ignore[assignment]
    _loaded[cls] = f"entry point {point.name} ({point.value})"
    return cls


_loaded: dict[type, str] = {}
"""Classes that came from outside, and where from."""

_families: set[str] = set()


def blamed(error: BaseException) -> str:
    """Return the entry point whose part raised ``error``, or lacks what was asked of it.

    Empty where no part from outside has to do with it.
    """
    missing = type(getattr(error, "obj", None))
    if isinstance(error, AttributeError) and missing in _loaded:
        return _loaded[missing]
    modules = {cls.__module__: name for cls, name in _loaded.items()}
    trace, found = error.__traceback__, ""
    while trace is not None:
        found = modules.get(trace.tb_frame.f_globals.get("__name__", ""), found)
        trace = trace.tb_next
    return found


def entry_point(thing: object) -> str:
    """Return the entry point by which a part came from outside; empty for any other."""
    return _loaded.get(type(thing), "")


def strays() -> dict[str, str]:
    """Return the entry points that name no family, with the family that may be meant."""
    found = {}
    for name in _outside():
        family = name.partition(".")[0]
        if family not in _families:
            near = difflib.get_close_matches(family, _families, 1)
            found[name] = near[0] if near else ""
    return found


@dataclass(frozen=True)
class Family:
    """The parts that may stand in one place; classes are imported when they are asked for.

    Attributes:
        name: of the family, e.g. ``potential``.
        package: where the shipped ones stand.
        shipped: kind -> ``module:class``, the module below ``package``, or its full name
            (``scalebridge.``...) where a package that is built on top brings the class.
    """

    name: str
    package: str
    shipped: Mapping[str, str]

    def __post_init__(self) -> None:
        _families.add(self.name)

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds that are known, those from outside last.

        Raises:
            UnknownPartError: two packages bring one kind, or one brings a shipped kind.
        """
        start = self.name + "."
        others = [name.removeprefix(start) for name in _outside() if name.startswith(start)]
        if taken := self.shipped.keys() & others:
            raise UnknownPartError(
                f"entry point {start}{min(taken)}: that kind is shipped; the package that "
                "brings it must give it another name"
            )
        return tuple(dict.fromkeys([*self.shipped, *sorted(others)]))

    def __contains__(self, kind: object) -> bool:
        """Tell whether ``kind`` is known."""
        return kind in self.kinds()

    def __getitem__(self, kind: str) -> type:
        """Return the class of a kind.

        Raises:
            UnknownPartError: there is none, it cannot be imported, or it calls itself
                something else.
        """
        if kind in self.shipped:
            reference, top = self.shipped[kind], self.package.partition(".")[0]
            full = reference.startswith(f"{top}.")
            return load_object(reference if full else f"{self.package}.{reference}")
        point = _outside().get(f"{self.name}.{kind}")
        if point is None:
            known = ", ".join(self.kinds())
            lost = [name for name in strays() if name.endswith(f".{kind}")]
            hint = f"; entry point {lost[0]} names no family" if lost else ""
            raise UnknownPartError(
                f"{self.name} {kind!r} is unknown; known are {known}{hint}"
            )
        return _load_outside(point, kind)

    def classes(self) -> tuple[type, ...]:
        """Return all classes of the family."""
        return tuple(self[kind] for kind in self.kinds())


def kind_of(cls: Any) -> str | None:
    """Return what a part, or its class, calls itself; None for what is no part."""
    kind = getattr(cls, "kind", None)
    if kind is None and (declared := getattr(cls, "model_fields", {}).get("kind")):
        kind = next(iter(get_args(declared.annotation)), None)  # a scenario: Literal["x"]
    return kind if isinstance(kind, str) else None


__all__ = [
    "GROUP",
    "STRICT",
    "ByKind",
    "Family",
    "UnknownPartError",
    "blamed",
    "kind_of",
    "load_object",
    "part",
    "strays",
    "strict_numbers",
]
