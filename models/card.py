"""Saving and loading of learned modules: safetensors for the weights, a JSON card beside.

``silicon.safetensors`` holds the tensors, ``silicon.json`` how to build the module and what
is known of it: units, training data and its hash, domain, audits, and the sha256 of the
weights. The class is looked up in a fixed table, so a file can name nothing else, and no
pickle is ever read.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

FORMAT = 1


class DamagedModelError(Exception):
    """The weights or the card do not match their hash."""


class UnknownModelError(Exception):
    """The card names a form that this version does not have, or is no card."""


def _forms() -> dict[str, Callable[..., Any]]:
    """Every form that can be saved: name -> configuration with ``build()``."""
    from .closures import CLOSURES
    from .potentials.behler_parrinello import BehlerParrinello
    from .potentials.deep_potential import HigherMoments, SmoothEdition
    from .potentials.local_frame import LocalFrame
    from .potentials.sums import ZblSum
    from .potentials.unconstrained import Unconstrained
    from .potentials.whole_box import WholeBox

    return {
        "smooth_edition": SmoothEdition,
        "higher_moments": HigherMoments,
        "local_frame": LocalFrame,
        "behler_parrinello": BehlerParrinello,
        "unconstrained": Unconstrained,
        "whole_box": WholeBox,
        "zbl_sum": ZblSum,
        **{kind: CLOSURES[kind] for kind in CLOSURES.kinds()},
    }


def save_module(path: Path, module: nn.Module, information: Mapping[str, Any]) -> Path:
    """Write ``path.safetensors`` and ``path.json``.

    Args:
        path: with or without suffix.
        module: has ``config``, a dataclass of the table of forms.
        information: units, data, domain, audits, figures: anything that JSON can hold.

    Returns:
        The path of the weights.

    Raises:
        UnknownModelError: the module's configuration is not in the table.
    """
    form, config = _describe(module.config)
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    return save_tensors(path, tensors, form, config, information)


def load_module(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the module, in evaluation mode and in the precision it was saved in, and card.

    Raises:
        FileNotFoundError: weights or card are missing.
        DamagedModelError: a byte differs from what was saved.
        UnknownModelError: the form is unknown or its configuration is not understood.
    """
    tensors, card = load_tensors(path)
    if card.get("form") not in _forms():
        known = ", ".join(_forms())
        raise UnknownModelError(
            f"{path}: form {card.get('form')!r} is unknown; known are {known}"
        )
    if _largest(card.get("config")) > sum(t.numel() for t in tensors.values()):
        raise UnknownModelError(f"{path}: the card asks for more than the weights hold")
    try:
        config = _configuration(card["form"], card["config"])
        module = config.build()
        precision = next(
            t.dtype for n, t in tensors.items() if not n.endswith("energy_bias")
        )
        module.to(precision).load_state_dict(tensors)
    except Exception as error:
        # a card that somebody edited can make any form fail in its own way
        raise UnknownModelError(
            f"{path}: the card does not fit the weights: {error}"
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
        "format": FORMAT,
        "form": form,
        "config": dict(config),
        **information,
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


def _describe(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the form's name and its fields; a configuration inside one likewise."""
    names = [name for name, form in _forms().items() if form is type(config)]
    if not names:
        raise UnknownModelError(
            f"{type(config).__name__} has no place in the table of forms"
        )
    values = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            inner, inside = _describe(value)
            value = {"form": inner, "config": inside}
        values[item.name] = value
    return names[0], values


def _configuration(form: str, values: Mapping[str, Any]) -> Any:
    arguments = {}
    for key, value in values.items():
        if isinstance(value, dict):
            arguments[key] = _configuration(value["form"], value["config"])
        else:
            arguments[key] = tuple(value) if isinstance(value, list) else value
    return _forms()[form](**arguments)


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
