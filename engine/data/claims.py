"""What a file says itself of its labels: that they converged, failed, or have no weight.

Programs write it under any name (``converged``, ``scf``, ``status``, ``error``,
``exit_code``, ``forces_mask``, ``config_weight``), so names and values are read as words.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_FINE = {
    "converged", "convergence", "converge", "success", "successful", "succeeded", "valid",
    "finished", "complete", "completed", "done", "ok", "okay", "usable", "reliable",
    "reached", "achieved",
}  # fmt: skip
_WRONG = {
    "unconverged", "nonconverged", "notconverged", "diverged", "failed", "fail", "fails",
    "failure", "error", "errors", "invalid", "aborted", "abort", "crashed", "crash",
    "incomplete", "unfinished", "broken", "bad", "timeout", "fizzled", "unreliable",
    "unusable", "killed", "discard", "exclude", "rejected",
}  # fmt: skip
_STATE = {"scf", "status", "state", "quality", "outcome", "job", "task", "flag", "exit",
          "termination"}  # fmt: skip
_NOT = {"not", "no", "un", "non", "without", "none", "never"}
_COUNTS = {"n", "num", "number", "count", "steps", "step", "iterations", "cycles", "tol",
           "tolerance", "threshold", "criterion", "limit", "bar"}  # fmt: skip
_YES, _NO = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
_LABELS = {"energy", "energies", "force", "forces"}
_STRESS = {"stress", "stresses", "virial", "virials"}
_MOTION = {"ionic", "relax", "relaxation", "geometry", "geo", "opt", "optimisation",
           "optimization", "fmax", "structure"} | _LABELS  # fmt: skip
"""Of an end that a relaxation has not reached yet, where labels are as good as any."""
_WEIGHED = {"config", "frame", "sample", "weight", "weights"} | _LABELS


def disowned(entries: Mapping[str, Any]) -> str | None:
    """Return the entry by which a file says that a frame has no valid labels, if any."""
    for key, value in entries.items():
        name = _words(str(key))
        said = _one(value)
        if said is None and _masks(name, value):
            return f"{key} = 0 of some atoms"
        if said is not None and _denies(name, said):
            return f"{key} = {said[:40]}"
    return None


def disowned_frames(path: Path, said: Sequence[tuple[Any, str | None]]) -> list[str]:
    """Return a sentence about the frames, by name, that :func:`disowned` speaks of.

    Raises:
        InputError: it did of all of them.
    """
    bad = [(name, why) for name, why in said if why is not None]
    if not bad:
        return []
    first, why = bad[0]
    text = f"{len(bad)} frames (first: {first}) whose labels the file disowns by {why}"
    if len(bad) == len(said):
        raise InputError(f"{path}: holds nothing but {text}")
    return [text]


def weightless_stress(entries: Mapping[str, Any]) -> bool:
    """Tell whether a file gives the stress of a frame the weight 0."""
    return any(
        _words(str(key)) & {"weight", "weights"}
        and _words(str(key)) & _STRESS
        and _one(value) in _NO
        for key, value in entries.items()
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _one(value: Any) -> str | None:
    """Return what a single value says, a number in its shortest form; None of several."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | tuple | dict):
        return None
    text = str(value).strip()
    try:  # 0.00 is 0
        return f"{float(text):g}"
    except ValueError:
        return text


def _masks(name: frozenset[str], value: Any) -> bool:
    """Tell whether a mask of forces or energies leaves something out."""
    if "mask" not in name or not name & _LABELS:
        return False
    return any(str(each).lower() in _NO for each in np.ravel(np.array(value, object)))


def _denies(name: frozenset[str], said: str) -> bool:
    """Tell whether a value says, under a name of such words, that labels are none."""
    text, words = said.lower(), _words(said)
    if name & {"weight", "weights"}:
        return name <= _WEIGHED and text in _NO
    if name & _COUNTS:
        return False
    wrong = name & _WRONG or (name & _FINE and name & _NOT)
    if wrong and not name & (_LABELS | _STRESS):
        return text in _YES or bool(words and text not in _NO and not _harmless(words))
    if name & _MOTION:
        return False
    if "converged" in name:
        return text in _NO or bool(words and text not in _YES and not _affirmed(words))
    if name & _FINE or "scf" in name:
        return text in _NO or _refused(words)
    if name & {"exit", "return", "returncode", "exitcode"} and re.fullmatch(r"-?\d+", said):
        return int(said) != 0
    return bool(name & _STATE) and _refused(words)


def _harmless(words: frozenset[str]) -> bool:
    """Tell whether the text of an error says that there was none."""
    return bool(words & (_NOT | {"null", "nan", "na"} | _FINE)) and not _refused(words)


def _affirmed(words: frozenset[str]) -> bool:
    return bool(words & _FINE) and not _refused(words)


def _refused(words: frozenset[str]) -> bool:
    """Tell whether words say that something went wrong: "failed", "not converged"."""
    denied = bool(words & _NOT)
    return bool(words & _FINE) if denied else bool(words & _WRONG)


__all__ = ["disowned", "disowned_frames", "weightless_stress"]
