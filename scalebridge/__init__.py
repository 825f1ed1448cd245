"""Simulate with learned physics: molecules, gases, electrons.

``import scalebridge as sb`` imports nothing else; a name is imported when it is first used.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (in a checkout the packages are beside this folder, in an installation inside it)

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine.audit.certify import certify as certify
    from .engine.audit.module import audit as audit
    from .engine.commands import check as check
    from .engine.commands import resume as resume
    from .engine.commands import run as run
    from .engine.interop.ase import PotentialCalculator as PotentialCalculator
    from .engine.interop.host import Host as Host
    from .engine.md.learned import load_potential as load_potential
    from .engine.md.structure import from_atoms as from_atoms
    from .engine.md.world import MolecularDynamics as MolecularDynamics
    from .engine.protocols import Check as Check
    from .engine.protocols import Figure as Figure
    from .engine.protocols import Outcome as Outcome
    from .engine.scenario import load as load_scenario
    from .engine.vmc.labeler import VmcCalculator as VmcCalculator
    from .models.card import load_module as load_model
    from .models.card import save_module as save_model
    from .models.parts import Family as Family
    from .models.parts import part as part
    from .viz.report import Report as Report
    from .viz.report import write_report as write_report

    __version__: str

_PUBLIC = {
    "Check": "engine.protocols:Check",
    "Family": "models.parts:Family",
    "Figure": "engine.protocols:Figure",
    "Host": "engine.interop.host:Host",
    "MolecularDynamics": "engine.md.world:MolecularDynamics",
    "Outcome": "engine.protocols:Outcome",
    "PotentialCalculator": "engine.interop.ase:PotentialCalculator",
    "Report": "viz.report:Report",
    "VmcCalculator": "engine.vmc.labeler:VmcCalculator",
    "audit": "engine.audit.module:audit",
    "certify": "engine.audit.certify:certify",
    "check": "engine.commands:check",
    "from_atoms": "engine.md.structure:from_atoms",
    "load_model": "models.card:load_module",
    "load_potential": "engine.md.learned:load_potential",
    "load_scenario": "engine.scenario:load",
    "part": "models.parts:part",
    "resume": "engine.commands:resume",
    "run": "engine.commands:run",
    "save_model": "models.card:save_module",
    "write_report": "viz.report:write_report",
}
"""Public name -> ``module:name`` below this package."""

__all__ = [
    "Check",
    "Family",
    "Figure",
    "Host",
    "MolecularDynamics",
    "Outcome",
    "PotentialCalculator",
    "Report",
    "VmcCalculator",
    "__version__",
    "audit",
    "certify",
    "check",
    "from_atoms",
    "load_model",
    "load_potential",
    "load_scenario",
    "part",
    "resume",
    "run",
    "save_model",
    "write_report",
]

_FOLDER = os.path.dirname(__file__)
if not os.path.isdir(os.path.join(_FOLDER, "engine")):
    __path__.append(os.path.dirname(os.path.realpath(_FOLDER)))  # a checkout


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name == "__version__":
        found: Any = _version()
    elif name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, and what a module has by itself."""
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scalebridge")
    except PackageNotFoundError:
        return "0+checkout"  # run from a checkout that is not installed
