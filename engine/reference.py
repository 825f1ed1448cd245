"""The reference of scenario keys, read off the parts that declare them.

Nothing here is written by hand for a key: the classes of :data:`.schema.SCENARIOS` say
name, type, bounds, default and meaning, and what a package from outside brings shows up
by itself. A key is written with the kinds that lead to it, as in
``md.ensemble.langevin.relaxation``.
"""

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from ..models.parts import UnknownPartError
from .errors import InputError
from .schema import SCENARIOS
from .schema.base import Common

Node = Mapping[str, Any]

_BOUNDS = {
    "exclusiveMinimum": "> {}",
    "minimum": ">= {}",
    "exclusiveMaximum": "< {}",
    "maximum": "<= {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
_UNBOUNDED = 1e9
"""Bounds from here on are those that every number has."""


@dataclass(frozen=True)
class Entry:
    """One key of a scenario file.

    Attributes:
        key: with the kinds that lead to it, e.g. ``md.ensemble.langevin.relaxation``.
        type: what may stand there, e.g. ``number > 0`` or ``one of f32, f64``.
        default: as it would stand in a file; empty where the key is required or has none.
        required: the key must be given.
        text: what it means, with its unit.
    """

    key: str
    type: str
    default: str
    required: bool
    text: str

    def __str__(self) -> str:
        """Return the entry as ``engine explain`` prints it."""
        given = "required" if self.required else f"default {self.default or 'none'}"
        text = self.text or "(no description)"
        return f"{self.key}: {self.type}; {given}\n    {text}"


@functools.cache
def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of one kind of scenario.

    Raises:
        InputError: there is no such kind.
    """
    known = SCENARIOS.kinds()
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"kind {kind!r} is unknown{hint}; allowed: {', '.join(known)}")
    try:
        variants = SCENARIOS[kind].variants()  # type: ignore[attr-defined]
    except UnknownPartError as error:
        raise InputError(str(error)) from error
    pairs = [(model, "validation") for model in variants]
    links, definitions = models_json_schema(pairs)  # type: ignore[arg-type]
    refs = list(links.values())
    return {**(refs[0] if len(refs) == 1 else {"anyOf": refs}), **definitions}


def entries(kind: str) -> list[Entry]:
    """Return every key that scenarios of a kind may give, in the order of declaration.

    Raises:
        InputError: there is no such kind.
    """
    schema = schema_of(kind)
    found: dict[str, Entry] = {}
    for entry in _walk(schema, schema.get("$defs", {}), kind, ()):
        found.setdefault(entry.key, entry)
    return list(found.values())


def explain(key: str) -> list[Entry]:
    """Return the entry of ``key``; of a table or a part, its keys.

    Parts of the key may be left out in front: ``langevin.relaxation`` is enough.

    Raises:
        InputError: no key is called so; the nearest ones are named.
    """
    first, (table, _, last) = key.partition(".")[0], key.rpartition(".")
    if last == "kind" and (found := _kinds_of(table)):
        return found
    kinds = [first] if first in SCENARIOS.kinds() else list(SCENARIOS.kinds())
    known = [entry for kind in kinds for entry in entries(kind)]
    exact = [entry for entry in known if entry.key == key]
    inside = [entry for entry in known if entry.key.startswith(f"{key}.")]
    if exact or inside:
        return exact + inside
    # the same part may stand in several kinds: it is told once
    ends: dict[tuple[str, str], Entry] = {}
    for entry in known:
        if entry.key.endswith(f".{key}") or f".{key}." in entry.key:
            ends.setdefault((entry.key.rpartition(f".{key}")[2], entry.text), entry)
    if ends:
        return list(ends.values())
    names = {entry.key.rpartition(".")[2] for entry in known}
    near = difflib.get_close_matches(key, [entry.key for entry in known], 3, 0.5)
    near += difflib.get_close_matches(last, sorted(names), 2)
    hint = f"; near: {', '.join(dict.fromkeys(near))}" if near else ""
    raise InputError(f"{key}: no scenario has this key{hint}")


def _kinds_of(table: str) -> list[Entry]:
    """Return what ``kind`` may be: at the top of a file, or of a table that has kinds."""
    if table in ("", *SCENARIOS.kinds()):
        allowed = "one of " + ", ".join(map(json.dumps, SCENARIOS.kinds()))
        text = Common.model_fields["kind"].description or ""
        return [Entry("kind", allowed, "", True, text)]
    return [
        entry
        for entry in explain(table)
        if entry.key.endswith(table) and "kind one of" in entry.type
    ]


def comment(data: Mapping[str, Any], path: Sequence[str]) -> str:
    """Return what the key at ``path`` of a scenario means, or nothing."""
    schema = schema_of(str(data["kind"]))
    definitions = schema.get("$defs", {})
    nodes, place = _forms(schema, definitions), data
    for depth, name in enumerate(path):
        found = [node["properties"][name] for node in nodes if name in _keys(node)]
        if not found:
            return ""
        if depth == len(path) - 1:
            return " ".join(str(_text(found[0], definitions)).split())
        place = place[name]
        place = place[-1] if isinstance(place, list) else place
        tag = place.get("kind") if isinstance(place, dict) else None
        nodes = [
            form
            for node in found
            for form in _forms(node, definitions)
            if tag is None or _tag(form) in (tag, None)
        ]
    return ""


def _keys(node: Node) -> Mapping[str, Any]:
    return node.get("properties", {})


def _tag(node: Node) -> str | None:
    return _keys(node).get("kind", {}).get("const")


def _resolve(node: Node, definitions: Mapping[str, Any]) -> Node:
    while "$ref" in node:
        node = definitions[str(node["$ref"]).rpartition("/")[2]]
    return node


def _text(node: Node, definitions: Mapping[str, Any]) -> str:
    return node.get("description") or _resolve(node, definitions).get("description", "")


def _forms(node: Node, definitions: Mapping[str, Any]) -> list[Node]:
    """Return the tables that may stand at a node: of every member, of every item."""
    node = _resolve(node, definitions)
    if "properties" in node:
        return [node]
    inner = [*node.get("anyOf", []), *node.get("oneOf", [])]
    inner += [node[key] for key in ("items", "additionalProperties")
              if isinstance(node.get(key), dict)]  # fmt: skip
    inner += [item for item in node.get("prefixItems", []) if isinstance(item, dict)]
    found = [form for each in inner for form in _forms(each, definitions)]
    return list({id(form): form for form in found}.values())


def _walk(
    node: Node, definitions: Mapping[str, Any], prefix: str, above: tuple[int, ...]
) -> Iterator[Entry]:
    for form in _forms(node, definitions):
        if id(form) in above:  # a part that holds parts of its own family
            continue
        needed = form.get("required", ())
        tag = _tag(form)
        here = f"{prefix}.{tag}" if tag and prefix.rpartition(".")[2] != tag else prefix
        for name, inner in _keys(form).items():
            if name == "kind" and tag:
                continue
            key = f"{here}.{name}"
            yield Entry(
                key,
                _type(inner, definitions),
                json.dumps(inner["default"]) if inner.get("default") is not None else "",
                name in needed,
                " ".join(str(_text(inner, definitions)).split()),
            )
            yield from _walk(inner, definitions, key, (*above, id(form)))


def _type(node: Node, definitions: Mapping[str, Any]) -> str:
    """Return what may stand at a node, in words."""
    node = _resolve(node, definitions)
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return "one of " + ", ".join(json.dumps(each) for each in node["enum"])
    if members := node.get("anyOf") or node.get("oneOf"):
        tags = [_tag(_resolve(each, definitions)) for each in members]
        if all(tags):
            return "table, kind one of " + ", ".join(map(str, tags))
        words = [_type(each, definitions) for each in members]
        return " or ".join(dict.fromkeys(word for word in words if word != "null"))
    match node.get("type"):
        case "array":
            items = node.get("prefixItems")
            inner = items[0] if items else node.get("items", {})
            word = f"list of {_type(inner, definitions)}"
        case "object":
            word = "table"
        case "string" if node.get("format") == "path":
            word = "path"
        case "string":
            word = "text"
        case None:
            word = "value"
        case str(other):
            word = {"boolean": "true or false", "integer": "whole number"}.get(
                other
            ) or other
    bounds = [
        text.format(f"{node[key]:g}")
        for key, text in _BOUNDS.items()
        if key in node and abs(node[key]) < _UNBOUNDED
    ]
    return " ".join([word, ", ".join(bounds)]).strip()


__all__ = ["Entry", "comment", "entries", "explain", "schema_of"]
