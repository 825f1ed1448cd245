"""Entry point of all audits: from a module, or its file, to a report."""

import importlib
import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from torch import nn

from ...models import card as cards
from ...models.closures.contract import takes_faces
from ..errors import InputError
from ..interop.ase import AsePotential
from ..md.data import LabelledFrame, read_frames
from ..md.learned import LearnedPotential, load_module
from ..md.potential import Potential
from ..runtime import dtype_of, start
from ..vmc.electrons import Electrons
from .findings import Report
from .moments import ClosureSubject, audit_closure
from .potentials import PotentialAudit
from .samples import Subject, crystal
from .wavefunctions import WavefunctionSubject, audit_wavefunction


def audit(
    module: Any,
    name: str = "",
    *,
    structure: Atoms | None = None,
    frames: Sequence[LabelledFrame] = (),
    shortest: float = math.nan,
    precision: str = "f64",
    temperature: float = 300.0,
    steps: int = 10_000,
) -> Report:
    """Audit the physical properties of a learned module.

    Args:
        module: a module of ``models.potentials``, any potential of molecular dynamics, a
            calculator of ASE; a closure of faces (``models.closures``), a function of
            faces with an attribute ``order``, or a :class:`~.moments.ClosureSubject`; or a
            Hamiltonian with a wavefunction.
        name: for the report.
        structure: on which a potential is audited, near equilibrium; for one element its
            own crystal, displaced at random by 0.05 angstrom, when left out.
        frames: labelled configurations, for the calibration of a committee.
        shortest: shortest distance in the potential's data, angstrom.
        precision: in which it computes: ``f64`` or ``f32``.
        temperature: of the dynamics, kelvin.
        steps: along which a closure must stay realizable.

    Raises:
        InputError: there is no audit for such an object, or a structure is needed and not
            given.
    """
    start("cpu")
    if isinstance(module, ClosureSubject) or takes_faces(module):
        closure = module if isinstance(module, ClosureSubject) else closure_of(module, {})
        return audit_closure(name, closure, steps)
    if isinstance(order := getattr(module, "order", None), int) and callable(module):
        given: Any = module
        return audit_closure(name, ClosureSubject(given, order), steps)
    if isinstance(module, Electrons):
        return audit_wavefunction(name, WavefunctionSubject.of(module))
    potential = _as_potential(module, structure)
    atoms = crystal(potential.species) if structure is None else structure
    dtype = dtype_of(precision)
    # a structure that was given may have stiff bonds: it is taken nearly as it is
    shake = 0.05 if structure is None else 1e-3
    subject = Subject.of(potential, atoms, dtype, shortest, shake)
    return PotentialAudit(frames, temperature=temperature)(name, subject)


def closure_of(module: nn.Module, domain: Mapping[str, Any]) -> ClosureSubject:
    """Return the subject of a learned closure, in f64.

    Args:
        module: the closure.
        domain: of its card; ``knudsen`` is used.
    """
    low, high = domain.get("knudsen", (1e-3, 10.0))
    config: Any = module.config
    return ClosureSubject(module.double(), config.order, (low, high), config.length)


def _as_potential(module: Any, structure: Atoms | None) -> Potential:
    if isinstance(module, BaseCalculator):
        if structure is None:
            raise InputError("audit: a calculator needs a structure")
        symbols = tuple(sorted(set(structure.get_chemical_symbols())))
        return AsePotential(module, symbols)
    if isinstance(module, nn.Module) and hasattr(module, "species"):
        return LearnedPotential(module)
    if hasattr(module, "species") and hasattr(module, "cutoff") and callable(module):
        found: Any = module
        return found
    raise InputError(f"audit: there is no audit for {type(module).__name__}")


def audit_file(
    path: Path,
    structure: Path | None = None,
    frames: Path | None = None,
    precision: str = "f64",
    temperature: float = 300.0,
) -> Report:
    """Audit a saved model; what its card says of the domain is used.

    Args:
        path: of weights or card.
        structure: file that ASE reads; the last frame is taken.
        frames: labelled configurations.
        precision: ``f64`` or ``f32``.
        temperature: of the dynamics, kelvin.

    Raises:
        InputError: missing or unreadable files.
        DamagedFileError: the model does not match its hash.
    """
    module, card = load_module(path, precision), cards.read_card(path)
    domain = card.get("domain", {})
    if takes_faces(module):
        return audit_closure(path.stem, closure_of(module, domain))
    if hasattr(module, "species"):
        factor = card.get("deviation_factor")
        module = LearnedPotential(module, math.nan if factor is None else factor)
    return audit(
        module,
        path.stem,
        structure=None if structure is None else _read(structure),
        frames=read_frames(frames) if frames else (),
        shortest=domain.get("shortest_distance_angstrom", math.nan),
        precision=precision,
        temperature=temperature,
    )


def audit_named(
    name: str,
    structure: Path | None = None,
    frames: Path | None = None,
    precision: str = "f64",
    temperature: float = 300.0,
) -> Report:
    """Audit what a name stands for; see :func:`imported`.

    Args:
        name: ``ase:emt``, ``ase:package.module:factory`` or ``package.module:object``.
        structure: file that ASE reads; a calculator needs one.
        frames: labelled configurations.
        precision: ``f64`` or ``f32``.
        temperature: of the dynamics, kelvin.

    Raises:
        InputError: there is no such thing, it cannot be made, or it needs a structure.
    """
    made = imported(name)
    if isinstance(made, BaseCalculator) and structure is None:
        raise InputError(f"{name}: needs --structure")
    return audit(
        made,
        name,
        structure=None if structure is None else _read(structure),
        frames=read_frames(frames) if frames else (),
        precision=precision,
        temperature=temperature,
    )


def imported(name: str) -> Any:
    """Return the object that a name stands for.

    ``ase:NAME`` is a calculator that ASE knows, ``package.module:object`` anything that can
    be imported (also from the working directory); a class or a function without arguments,
    unless it is a closure itself, is called for it.

    Raises:
        InputError: it cannot be imported or made.
    """
    kind, _, rest = name.partition(":")
    try:
        if kind == "ase" and ":" not in rest:
            from ase.calculators.calculator import get_calculator_class

            return get_calculator_class(rest)()
        module, _, attribute = (rest if kind == "ase" else name).partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found() if _makes(found) else found
    except Exception as error:  # what is imported fails in its own way
        raise InputError(f"{name}: {type(error).__name__}: {error}") from error


def _makes(found: Any) -> bool:
    """Tell whether an object has to be called to get what is audited."""
    if isinstance(found, type):
        return True
    if isinstance(found, nn.Module) or not callable(found) or hasattr(found, "species"):
        return False
    needed = inspect.Parameter.empty
    arguments = inspect.signature(found).parameters.values()
    return all(
        a.default is not needed or a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD)
        for a in arguments
    )


def find(name: str) -> Path:
    """Return the weights that ``name`` means: a path, or a shipped model.

    Raises:
        InputError: neither.
    """
    path = Path(name)
    path = path if path.suffix in (".safetensors", ".json") else Path(f"{name}.safetensors")
    shipped = Path(__file__).resolve().parents[2] / "scenarios" / "models"
    for candidate in (path, shipped / path):
        if candidate.with_suffix(".json").is_file():
            return candidate
    known = ", ".join(sorted(file.stem for file in shipped.glob("*.safetensors")))
    raise InputError(f"{name}: no such model; shipped are {known}")


def write_on_card(path: Path, report: Report) -> None:
    """Put the findings on the model's card, under ``audit``."""
    cards.amend_card(path, {"audit": report.as_dict()})


def _read(path: Path) -> Atoms:
    try:
        atoms: Any = ase.io.read(path)
    except Exception as error:  # every format of ASE fails in its own way
        raise InputError(f"{path}: not readable as a structure: {error}") from error
    return atoms


__all__ = ["audit", "audit_file", "audit_named", "find", "imported", "write_on_card"]
