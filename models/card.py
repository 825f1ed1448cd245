"""Saving and loading of learned modules: safetensors for the weights, and a JSON card.

``silicon.safetensors`` holds the tensors, ``silicon.json`` how to build the module and what
is known of it: units, training data and its hash, domain, audits, and the sha256 of the
weights. The form is a part (:mod:`.parts`): the card holds its ``kind``, which is looked up
among the shipped forms, those of installed packages and those that the caller passes. A
card can name nothing else, imports nothing by itself, and no pickle is ever read.
"""

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .closures import CLOSURES
from .parts import UnknownPartError, kind_of
from .potentials import POTENTIALS

FORMAT = 1

FAMILIES = (POTENTIALS, CLOSURES)
"""Whose parts a card may name."""

SMALL = 4096
"""Sizes up to this need no comparison with the weights before a module is built."""


class DamagedModelError(Exception):
    """The weights or the card do not match their hash."""


class UnknownModelError(Exception):
    """The card names a form that is not known here, or is no card."""


def save_module(path: Path, module: nn.Module, information: Mapping[str, Any]) -> Path:
    """Write ``path.safetensors`` and ``path.json``.

    Args:
        path: with or without suffix.
        module: has ``config``, a part: a dataclass with ``kind`` and ``build()``.
        information: units, data, domain, audits, figures: anything that JSON can hold.

    Returns:
        The path of the weights.

    Raises:
        UnknownModelError: the module's configuration is no part, or holds what JSON
            cannot.
    """
    form, config = _describe(getattr(module, "config", None))
    if not callable(getattr(module.config, "build", None)):
        raise UnknownModelError(f"{form}: no method build(), so it could not be loaded")
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    return save_tensors(path, tensors, form, config, information)


def load_module(path: Path, forms: Sequence[type] = ()) -> tuple[nn.Module, dict[str, Any]]:
    """Return the module, in evaluation mode and in the precision it was saved in, and card.

    Args:
        path: with or without suffix.
        forms: classes of parts that no installed package brings.

    Raises:
        FileNotFoundError: weights or card are missing.
        DamagedModelError: a byte differs from what was saved.
        UnknownModelError: the form is unknown or its configuration is not understood.
    """
    tensors, card = load_tensors(path)
    held = sum(t.numel() for t in tensors.values())
    try:
        largest = _largest(card.get("config"))
    except RecursionError as error:
        raise UnknownModelError(f"{path}: the card is nested too deeply") from error
    if largest > max(held, SMALL):
        raise UnknownModelError(f"{path}: the card asks for more than the weights hold")
    try:
        config = _configuration(card["form"], card["config"], forms)
        module = config.build()
        module.to(_precision(tensors)).load_state_dict(tensors)
    except UnknownModelError as error:
        raise UnknownModelError(f"{path}: {error}") from error
    except Exception as error:
        # a card that somebody edited can make any form fail in its own way
        raise UnknownModelError(
            f"{path}: the card does not fit the weights: {' '.join(str(error).split())}"
        ) from error
    return module.eval().requires_grad_(False), card


def amend_card(path: Path, information: Mapping[str, Any]) -> Path:
    """Add to a card, or replace, what is known of a model; its weights stay as they are.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: there is no card.
        DamagedModelError: it does not match its hash.
    """
    card = {**read_card(path), **information}
    card["card_sha256"] = _card_hash(card)
    file = path.with_suffix(".json")
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)
    return file


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    form: str,
    config: Mapping[str, Any],
    information: Mapping[str, Any],
) -> Path:
    """Write tensors and their card; each file appears whole or not at all."""
    weights = path.with_suffix(".safetensors")
    part = weights.with_name(f".{weights.name}.part")
    part.write_bytes(safetensors.torch.save(dict(tensors)))
    card: dict[str, Any] = {
        **information,
        "format": FORMAT,
        "form": form,
        "config": dict(config),
        "weights": {
            "file": weights.name,
            "bytes": part.stat().st_size,
            "sha256": _file_hash(part),
        },
    }
    card["card_sha256"] = _card_hash(card)
    text = weights.with_name(f".{weights.stem}.json.part")
    text.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    os.replace(part, weights)
    os.replace(text, weights.with_suffix(".json"))
    return weights


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the verified tensors and their card; raises as :func:`load_module`."""
    weights = path.with_suffix(".safetensors")
    card = read_card(path)
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: the card's weights are missing")
    recorded = card.get("weights")
    if not isinstance(recorded, dict) or _file_hash(weights) != recorded.get("sha256"):
        raise DamagedModelError(
            f"{weights}: damaged, its sha256 is not the one on its card; get the file again"
        )
    try:
        return safetensors.torch.load_file(weights), card
    except safetensors.SafetensorError as error:
        raise DamagedModelError(f"{weights}: damaged: {error}") from error


def read_card(path: Path) -> dict[str, Any]:
    """Return the verified card of a model without loading its weights."""
    file = path.with_suffix(".json")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no card, so this is no model of this project")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedModelError(
            f"{file}: damaged, not readable as JSON ({error})"
        ) from error
    if not isinstance(card, dict) or "card_sha256" not in card:
        raise UnknownModelError(f"{file}: not the card of a model")
    if card.pop("card_sha256") != _card_hash(card):
        raise DamagedModelError(f"{file}: damaged or edited, its hash does not match")
    if card.get("format") != FORMAT:
        raise UnknownModelError(f"{file}: format {card.get('format')}, this is {FORMAT}")
    return card


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _largest(value: Any) -> int:
    """Return the largest whole number in a configuration, a bound on its sizes."""
    if isinstance(value, dict):
        return max((_largest(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return max((_largest(item) for item in value), default=0)
    return value if isinstance(value, int) else 0


def _card_hash(card: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _precision(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Return the dtype of the weights; energies per species are f64 in any case."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not name.endswith("energy_bias"):
            return tensor.dtype
    return torch.float64


def _describe(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the form's kind and its other fields; a part inside it likewise."""
    kind = kind_of(config)
    if kind is None or not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise UnknownModelError(
            f"config = {config!r}: a module that is saved needs a part as its config, a "
            "dataclass with a field kind and a method build()"
        )
    values = {}
    for item in dataclasses.fields(config):
        if item.name == "kind":
            continue
        value = getattr(config, item.name)
        if kind_of(value) is not None:
            inner, inside = _describe(value)
            value = {"form": inner, "config": inside}
        try:
            json.dumps(value, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise UnknownModelError(
                f"{kind}.{item.name}: no card holds it: {error}"
            ) from error
        values[item.name] = value
    return kind, values


def _configuration(kind: Any, values: Mapping[str, Any], forms: Sequence[type]) -> Any:
    arguments = {key: _value(value, forms) for key, value in values.items()}
    form = _form(kind, forms)
    named = {f.name for f in dataclasses.fields(form) if f.init and f.name != "kind"}
    if lacking := sorted(named - arguments.keys()):
        # a card of an earlier edition; nothing is assumed in silence
        warnings.warn(
            f"the card of form {kind} lacks {', '.join(lacking)}: the defaults are taken",
            stacklevel=2,
        )
    return form(**arguments)


def _value(value: Any, forms: Sequence[type]) -> Any:
    """Return a field as the part has it: lists were tuples, a part has form and config."""
    if isinstance(value, dict) and value.keys() == {"form", "config"}:
        return _configuration(value["form"], value["config"], forms)
    return tuple(_value(v, forms) for v in value) if isinstance(value, list) else value


def _form(kind: Any, forms: Sequence[type]) -> type:
    """Return the part of that kind.

    Raises:
        UnknownModelError: there is none, or the package that brings it does not import.
    """
    for form in forms:
        if not isinstance(form, type):
            raise UnknownModelError(f"forms: {form!r} is an object; pass its class")
        if kind_of(form) == kind:
            return form
    try:
        for family in FAMILIES:
            if kind in family:
                return family[kind]
        known = [k for family in FAMILIES for k in family.kinds()]
    except UnknownPartError as error:
        raise UnknownModelError(str(error)) from error
    known += [str(kind_of(form)) for form in forms]
    raise UnknownModelError(
        f"form {kind!r} is unknown; known are {', '.join(known)}; install the package that "
        "brings it, or pass its class: load_module(path, forms=[...])"
    )


__all__ = [
    "DamagedModelError",
    "UnknownModelError",
    "amend_card",
    "load_module",
    "load_tensors",
    "read_card",
    "save_module",
    "save_tensors",
]
