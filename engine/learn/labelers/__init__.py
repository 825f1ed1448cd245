"""Labelers: micro-scale models that label one sample.

A labeler is a part (:mod:`.....models.parts`): a frozen dataclass with the method
``label(sample)``, which runs in a worker and raises
:class:`~..label_store.LabelError` where there is no usable answer. It may also have
``missing()``, which names a package that is not installed, and ``refusal(sample)``, which
says why a sample cannot be treated; both return an empty text where nothing is wrong.
"""

import importlib.util
from collections.abc import Iterable
from typing import Any

from ....models.parts import Family
from ...errors import InputError

LABELERS = Family(
    "labeler",
    __name__,
    {
        "stillinger_weber": "exact:StillingerWeberLabeler",
        "lennard_jones": "exact:LennardJonesLabeler",
        "pyscf": "quantum:PyscfLabeler",
        "tblite": "quantum:TbliteLabeler",
        "emt": "quantum:EmtLabeler",
        "vmc": "quantum:VmcLabeler",
        "ase": "external:AseCalculator",
        "command": "external:CommandLabeler",
        "kinetic": "kinetic:Kinetic",
    },
)
"""Every micro-scale model that a scenario can name."""


def absent(package: str, extra: str) -> str:
    """Return how to install a package that is not there; empty if it is."""
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"{package} is not installed: pip install 'scalebridge[{extra}]'"


def check_installed(part: Any, key: str) -> None:
    """Refuse a labeler or an executor whose package is not installed.

    Raises:
        InputError: it is not; ``key`` names where the scenario asks for it.
    """
    said = getattr(part, "missing", str)()
    if said:
        raise InputError(f"{key}: {said}")


def check_labeler(labeler: Any, samples: Iterable[Any] = (), key: str = "labeler") -> None:
    """Ask a labeler about every sample that is known before anything is computed.

    Raises:
        InputError: its package is not installed, it labels no structures, or it cannot
            treat one of them, which its ``stratum`` names.
    """
    check_installed(labeler, key)
    if not hasattr(labeler, "label"):
        kind = labeler.kind
        raise InputError(f"{key}: {kind} labels gas flows (explorer.kind = flows) alone")
    for sample in samples if hasattr(labeler, "refusal") else ():
        said = labeler.refusal(sample)
        if said:
            raise InputError(f"{key}: cannot treat {sample.stratum}: {said}")


__all__ = ["LABELERS", "absent", "check_installed", "check_labeler"]
