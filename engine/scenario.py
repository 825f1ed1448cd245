"""Scenario files: TOML in, a checked and complete scenario out, or one clear line.

Unknown keys are answered with the nearest known one, wrong kinds with the allowed ones.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails

from ..models.parts import UnknownPartError
from .errors import InputError
from .schema import FORMER, SCENARIOS
from .schema.base import Common

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""Pydantic's words for an unknown key, in a section and in a part."""

MAX_BYTES = 1_000_000
"""A scenario file larger than this is refused unread."""


_MEMBER = re.compile(r"\[|^(constrained-)?(bool|float|int|str)$")
"""In pydantic's name of a member of a union that is no section."""

MAX_DEPTH = 64
"""Parts of a dotted key, at most."""

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_DEEP = re.compile(rf"(?<![\w-]){_PART}(?:\.[ \t]*+{_PART}){{{MAX_DEPTH}}}")


def shipped() -> dict[str, Path]:
    """Return the scenarios that come with the package, by name."""
    folder = Path(__file__).resolve().parent.parent / "scenarios"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """Return the scenario file that ``name`` means: a path, or a shipped scenario.

    Raises:
        InputError: neither; the nearest shipped name is offered.
    """
    path, known = Path(name), shipped()
    if path.is_file():
        return path
    if name in known:  # also where a run folder has that name
        return known[name]
    if path.is_dir():
        raise InputError(f"{name}: a folder; a scenario is a file")
    if path.suffix == ".toml" or path.exists():
        raise InputError(f"{name}: no such file in {path.parent.resolve()}")
    raise InputError(
        f"{name}: no scenario of that name{nearest(name, known)}; see engine list"
    )


def read(path: Path) -> dict[str, Any]:
    """Parse a scenario file.

    Raises:
        InputError: unreadable, too large, not UTF-8, or not TOML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes, not a scenario")
        text = path.read_text(encoding="utf-8-sig")  # editors may put a mark first
        if _DEEP.search(text):  # the parser's memory grows with the square of the depth
            raise InputError(f"{path}: a key of more than {MAX_DEPTH} parts")
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error


def override(data: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply ``key.path=value`` settings; values are TOML, or else plain strings.

    Raises:
        InputError: a setting without ``=``, or a path through something that has no keys.
    """
    for setting in settings:
        shown = setting if len(setting) <= 80 else f"{setting[:77]}..."
        path, found, text = setting.partition("=")
        if not found or not path.strip():
            raise InputError(f"--set {shown}: the form is key=value")
        if path.count(".") >= MAX_DEPTH or _DEEP.search(text):
            raise InputError(f"--set {shown}: a key of more than {MAX_DEPTH} parts")
        try:
            value, *others = tomllib.loads(f"value = {text}").values()
        except tomllib.TOMLDecodeError:
            value, others = text.strip(), []
        if others:
            raise InputError(f"--set {shown!r}: more than one key")
        _assign(data, path.strip().split("."), value, setting)
    return data


def _assign(node: Any, keys: Sequence[str], value: Any, setting: str) -> None:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            index: Any = int(key)
        elif isinstance(node, dict):
            index = key
            if not last:
                node.setdefault(key, {})
        else:
            raise InputError(f"--set {setting}: {'.'.join(keys[:depth])} has no key {key}")
        if last:
            node[index] = value
        else:
            node = node[index]


def parse(data: Mapping[str, Any], source: str = "scenario") -> Common:
    """Check ``data`` and fill in the defaults.

    Raises:
        InputError: one line per problem: file, key, what was found, what is allowed.
    """
    kinds, kind = SCENARIOS.kinds(), data.get("kind")
    if kind in FORMER:
        raise InputError(f"{source}: kind: {kind!r} was renamed; write {FORMER[kind]}")
    if not isinstance(kind, str) or kind not in kinds:
        found = "the key is required" if kind is None else f"{kind!r} is unknown"
        raise InputError(
            f"{source}: kind: {found}{nearest(kind, kinds)}; allowed: {', '.join(kinds)}"
        )
    try:
        model: type[Common] = SCENARIOS[kind].variant(data)  # type: ignore[attr-defined]
    except (InputError, UnknownPartError) as error:
        raise InputError(f"{source}: {error}") from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError("\n".join(_friendly(error, data, model, source))) from error
    except RecursionError as error:
        raise InputError(f"{source}: nested too deeply") from error


def load(name: str | Path, settings: Sequence[str] = ()) -> tuple[Common, Path]:
    """Return the checked scenario and the folder that its paths are relative to."""
    path = find(str(name))
    return parse(override(read(path), settings), str(path)), path.resolve().parent


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of scenario files, for editors.

    Raises:
        InputError: a part of an installed package cannot be used.
    """
    try:
        kinds = SCENARIOS.classes()
    except UnknownPartError as error:
        raise InputError(str(error)) from error
    variants = [kind.variants() for kind in kinds]  # type: ignore[attr-defined]
    pairs = [(model, "validation") for each in variants for model in each]
    links, definitions = models_json_schema(pairs)  # type: ignore[arg-type]
    names = list(SCENARIOS.kinds())
    rules = []
    for name, models in zip(names, variants, strict=True):
        refs = [links[model, "validation"] for model in models]
        then = refs[0] if len(refs) == 1 else {"oneOf": refs}
        chosen = {"properties": {"kind": {"const": name}}, "required": ["kind"]}
        rules.append({"if": chosen, "then": then})
    # an editor that knows the kind names the one key that is wrong
    known = {"kind": {"enum": names}}
    return {"type": "object", "properties": known, "required": ["kind"], "allOf": rules,
            **definitions}  # fmt: skip


def _friendly(
    error: ValidationError, data: Mapping[str, Any], model: type[Common], source: str
) -> list[str]:
    """Turn pydantic's report into lines; a typo is one line, not missing plus extra."""
    schema = model.model_json_schema()
    lines, explained = [], set()
    found = _of_the_nearest(error.errors(), data, schema.get("$defs", {}))
    for detail in found:
        if detail["type"] in _UNKNOWN:
            key = _key(detail["loc"], data, schema)
            parent, _, name = key.rpartition(".")
            known = _known_keys(detail["loc"], schema)
            lines.append(f"{source}: {key}: unknown key{nearest(name, known)}")
            for guess in difflib.get_close_matches(name, known, 1):
                explained.add(f"{parent}.{guess}".lstrip("."))
    for detail in _told_once(found, data, schema):
        key = _key(detail["loc"], data, schema)
        typo = detail["type"] == "missing" and key in explained
        if detail["type"] not in _UNKNOWN and not typo:
            lines.append(f"{source}: {key or 'scenario'}: {_sentence(detail)}")
    return lines


def _of_the_nearest(
    found: Sequence[ErrorDetails], data: Mapping[str, Any], definitions: Mapping[str, Any]
) -> list[ErrorDetails]:
    """Drop what is said of a value of which more is said of its keys or items.

    So of a union the member speaks whose keys are there, and of a list its items, which
    pydantic counts as none where all are refused. The names by which pydantic tells the
    members apart are taken out of the locations.
    """
    bare = []
    for detail in found:
        node, location = data, []
        for part in detail["loc"]:
            inside = (
                part in range(len(node))
                if isinstance(node, list | tuple)
                else isinstance(node, Mapping) and part in node
            )
            member = isinstance(part, str) and (part in definitions or _MEMBER.search(part))
            if member and not inside:
                continue
            location.append(part)
            if inside:
                node = node[part]  # type: ignore[index]
        bare.append({**detail, "loc": tuple(location)})
    deep = [detail["loc"] for detail in bare]
    return [
        detail
        for detail in bare
        if not any(d[: len(detail["loc"])] == detail["loc"] != d for d in deep)
    ]


def _told_once(
    found: Sequence[ErrorDetails], data: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[ErrorDetails]:
    """Return one error of every key: of a union each member has its own.

    The member whose type fits says more than those whose type does not.
    """
    chosen: dict[tuple[str, bool], ErrorDetails] = {}
    for detail in found:
        at = _key(detail["loc"], data, schema), detail["type"] in _UNKNOWN
        other = chosen.setdefault(at, detail)
        if other["type"].endswith("_type") and not detail["type"].endswith("_type"):
            chosen[at] = detail
    return list(chosen.values())


def _sentence(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing" if isinstance(detail["loc"][-1], str):
            return "this key is required"
        case "union_tag_invalid":
            allowed = str(context["expected_tags"]).replace("'", "")
            near = nearest(context["tag"], allowed.split(", "))
            return f"kind {context['tag']!r} is unknown{near}; allowed: {allowed}"
        case "union_tag_not_found":
            return "the key `kind` is required"
        case "value_error":
            return str(context.get("error", detail["msg"]))
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{_demand(detail)} (found {shown})"


def _demand(detail: ErrorDetails) -> str:
    """Return what a value should be, in the words of the file format, not of Python."""
    found, message = detail["input"], detail["msg"]
    match detail["type"]:
        case "tuple_type" | "list_type" | "set_type":
            if isinstance(found, Mapping):  # double brackets make a list of tables
                return f"input should be a list: [[{detail['loc'][-1]}]]"
            alone = isinstance(found, int | float | str)
            return "input should be a list" + f", such as [{json.dumps(found)}]" * alone
        case "missing":  # of a list of so many items
            return "input should have more items"
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            return "input should be a table"
        case "too_short" | "too_long":
            message = message.replace(" after validation", "")
            return re.sub("^(Tuple|List|Set|Dictionary)", "input", message)
    return message[:1].lower() + message[1:]


def _key(location: Sequence[int | str], data: Any, schema: Mapping[str, Any]) -> str:
    """Return the dotted key as the file has it, without the tags of unions."""
    definitions = schema.get("$defs", {})
    kinds = [_resolve(schema, definitions)]
    parts: list[str] = []
    node = data
    for part in location:
        tag = any(
            part in kind.get("discriminator", {}).get("mapping", {}) for kind in kinds
        )
        kinds = [found for kind in kinds for found in _descend(kind, part, definitions)]
        if tag:  # a key of the file may have the same name
            continue
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        ):
            node = node[part]  # type: ignore[index]
            parts.append(str(part))
        elif isinstance(node, dict):
            parts.append(str(part))
            break
    return ".".join(parts)


def _known_keys(location: Sequence[int | str], schema: Mapping[str, Any]) -> list[str]:
    """Return the keys that the table around an unknown key allows."""
    definitions = schema.get("$defs", {})
    nodes = [_resolve(schema, definitions)]
    for part in location[:-1]:
        nodes = [found for node in nodes for found in _descend(node, part, definitions)]
    return sorted({key for node in nodes for key in node.get("properties", {})})


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = definitions[str(node["$ref"]).rpartition("/")[2]]
    return node


def _descend(
    node: Mapping[str, Any], part: int | str, definitions: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return the schemas that one part of a location (a key, an index, a tag) leads to."""
    if isinstance(part, int):
        inner = [node.get("items", {})]
    elif part in node.get("properties", {}):
        inner = [node["properties"][part]]
    elif part in node.get("discriminator", {}).get("mapping", {}):
        inner = [{"$ref": node["discriminator"]["mapping"][part]}]
    else:
        inner = []
    found = [_resolve(each, definitions) for each in inner]
    for each in list(found):
        if "discriminator" not in each:
            found += [_resolve(v, definitions) for v in each.get("anyOf", [])]
    return found


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the known name that may be meant, as the end of a message; or nothing."""
    found = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""
