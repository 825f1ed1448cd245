"""Other programs as the truth: any calculator of ASE by name, any command.

Both work in a folder of their own for each label, below ``calculations/`` of the run, where
inputs and outputs stay. What starts a program that a scenario names needs the consent of
the command line (``--allow-commands``).
"""

import difflib
import importlib
import inspect
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import ase.io
import numpy as np
from annotated_types import Gt, MinLen
from ase import Atoms
from ase.calculators.calculator import get_calculator_class, names
from pydantic import Field

from ....models.parts import part
from ..atoms import AtomsLabel, Configuration
from ..label_store import LabelError, workplace
from .quantum import ase_label, first_line

ALLOWED = "SCALEBRIDGE_ALLOW_COMMANDS"
"""Environment variable that the option ``--allow-commands`` sets, for workers too."""

PACKAGES: dict[str, tuple[str, str]] = {
    "tblite": ("tblite.ase", "TBLite"),
    "xtb": ("xtb.ase.calculator", "XTB"),
    "gpaw": ("gpaw", "GPAW"),
    "abacus": ("ase.calculators.abacus", "Abacus"),
    "mace_mp": ("mace.calculators", "mace_mp"),
    "mace": ("mace.calculators", "MACECalculator"),
    "chgnet": ("chgnet.model.dynamics", "CHGNetCalculator"),
    "dftd3": ("dftd3.ase", "DFTD3"),
    "dftd4": ("dftd4.ase", "DFTD4"),
    "pyscf": ("pyscf.pbc.tools.pyscf_ase", "PySCF"),
}
"""Calculators of packages of their own, beside those of ASE: module and class."""


def consent() -> str:
    """Return what is missing to start a program that a scenario names; empty if nothing."""
    if os.environ.get(ALLOWED) == "1":
        return ""
    return "it starts a program that the scenario names: run with --allow-commands"


_MOVED = 1e-3
"""Angstrom by which positions and cell may differ in what a program writes."""

Value = str | int | float | bool | None | list[Any] | dict[str, Any]


@part
class AseCalculator:
    """Any calculator of ASE, by name and parameters."""

    calculator: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    """As ASE names it (vasp, espresso, cp2k, gpaw, dftb, ...), or tblite, xtb, abacus,
    mace_mp, chgnet, dftd3, dftd4."""
    parameters: dict[str, Value] = field(default_factory=dict)
    """What the calculator takes; `directory` is set here."""
    kind: Literal["ase"] = "ase"

    def __post_init__(self) -> None:
        if self.calculator not in {*names, *PACKAGES}:
            near = difflib.get_close_matches(self.calculator, {*names, *PACKAGES}, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"calculator: ASE has no {self.calculator}{hint}")
        if "directory" in self.parameters:
            raise ValueError("parameters.directory: every label has a folder of its own")

    def missing(self) -> str:
        """Return which package, parameter or consent is missing; empty if all is there."""
        try:
            made = self._class()
        except (ImportError, AttributeError) as error:
            return f"calculator {self.calculator}: {first_line(error)}"
        if said := _misspelt(made, self.parameters):
            return f"parameters.{said}"
        return consent() if any(map(_names_program, self.parameters)) else ""

    def label(self, sample: Configuration) -> AtomsLabel:
        """Return energy, forces, and the virial where there is a stress.

        Raises:
            LabelError: the calculator gave up, or did not converge.
        """
        from ase.calculators.calculator import BaseCalculator
        from ase.calculators.genericfileio import GenericFileIOCalculator

        made: Any = self._class()
        settings: dict[str, Any] = dict(self.parameters)
        place = workplace()
        of_ase = isinstance(made, type) and issubclass(made, BaseCalculator)
        generic = of_ase and issubclass(made, GenericFileIOCalculator)
        if generic or (of_ase and hasattr(made, "write_input")):
            settings["directory"] = str(place)
        try:
            calculator = made(**settings)
        except Exception as error:
            # constructors raise anything at all; whatever it is, there is no label
            raise LabelError(f"{self.calculator}: {first_line(error)}") from error
        return ase_label(sample, calculator, self.calculator)

    def _class(self) -> Any:
        if self.calculator in PACKAGES:
            module, name = PACKAGES[self.calculator]
            return getattr(importlib.import_module(module), name)
        return get_calculator_class(self.calculator)


def _misspelt(made: Any, given: Mapping[str, Value]) -> str:
    """Say which parameter looks like one that the calculator has; empty if none does.

    Calculators of ASE keep every keyword and read those that they know, so that with a
    misspelt one the default is computed. Names that are like no other may be options which
    a calculator does not list, and pass.
    """
    known = set(getattr(made, "default_parameters", None) or ())
    for each in inspect.getmro(made) if known and isinstance(made, type) else ():
        known |= set(inspect.signature(each.__init__).parameters)
    for name in sorted(given.keys() - known):
        if near := difflib.get_close_matches(name, known, 1, 0.75):
            return f"{name}: no parameter of {made.__name__}; did you mean {near[0]}?"
    return ""


def _names_program(key: str) -> bool:
    return "command" in key.lower() or key.lower() in ("profile", "binary", "executable")


@part
class CommandLabeler:
    """Any program: a structure file in, a file with energy and forces out.

    It is started in a folder that holds ``structure`` and must leave ``result`` there, in a
    format of ASE that carries energy and forces (extended XYZ, vasprun.xml, ...), and end
    with exit status 0. No shell is involved.
    """

    command: Annotated[tuple[str, ...], MinLen(1)]
    """Program and arguments."""
    structure: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "structure.extxyz"
    """Name of the file that is written; its ending decides the format."""
    result: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = "result.extxyz"
    """Name of the file that is read."""
    seconds: Annotated[float, Gt(0)] | None = None
    """Time limit; a label that takes longer has failed, and its processes are killed."""
    method: str = ""
    """Names what the program computes: labels of one method are the same wherever the
    program lies, those of another are others. Without, the command is the name."""
    kind: Literal["command"] = "command"

    @property
    def identity(self) -> str:
        """The name of the method: time limits and names of files decide no label."""
        return f"command {self.method or json.dumps(self.command)}"

    def missing(self) -> str:
        """Return that the consent is missing; empty if it is there."""
        return consent()

    def label(self, sample: Configuration) -> AtomsLabel:
        """Run the program.

        Raises:
            LabelError: consent is missing, it could not be started, ended with another
                status than 0, took too long, or left no usable result.
        """
        if consent():
            raise LabelError(consent())
        place = workplace()
        ase.io.write(place / self.structure, sample.atoms())
        (place / self.result).unlink(missing_ok=True)
        self._run(place)
        try:
            found: Any = ase.io.read(place / self.result)
        except Exception as error:
            # readers raise anything at all; whatever it is, there is no label
            raise LabelError(f"{self.result}: {first_line(error)}") from error
        return self._read(sample, found)

    def _run(self, place: Path) -> None:
        name = self.command[0]
        with (
            open(place / "stdout.txt", "wb") as out,
            open(place / "stderr.txt", "wb") as err,
        ):
            try:
                process = subprocess.Popen(
                    self.command, cwd=place, stdin=subprocess.DEVNULL, stdout=out,
                    stderr=err, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise LabelError(f"{name}: {error.strerror}") from error
            try:
                status = process.wait(self.seconds)
            except subprocess.TimeoutExpired as error:
                raise LabelError(f"{name}: took longer than {self.seconds:g} s") from error
            finally:
                if process.poll() is None:  # too long, or this worker is told to end
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if status:
            said = (place / "stderr.txt").read_text(errors="replace").strip().splitlines()
            last = f": {said[-1][:200]}" if said else ""
            raise LabelError(f"{name}: exit status {status}{last}")

    def _read(self, sample: Configuration, found: Atoms) -> AtomsLabel:
        if found.get_atomic_numbers().tolist() != sample.numbers.tolist():
            raise LabelError(f"{self.result}: not the atoms of {self.structure}")
        periodic = sample.periodic.numpy()
        edges = sample.cell.numpy()[periodic]
        strained = np.abs(found.cell.array[periodic] - edges).max(initial=0.0)
        if found.cell.rank and not strained <= _MOVED:  # some formats hold no cell
            raise LabelError(f"{self.result}: not the cell of {self.structure}")
        apart = found.positions - sample.positions.numpy()  # up to lattice vectors
        apart -= np.rint(apart @ np.linalg.pinv(edges)) @ edges
        moved = np.abs(apart).max()
        if not moved <= _MOVED:  # no number is no place
            raise LabelError(f"{self.result}: atoms were moved by {moved:.2g} angstrom")
        if found.calc is None:
            raise LabelError(f"{self.result}: holds no energy and forces")
        return ase_label(sample, found.calc, self.result, found)


__all__ = ["ALLOWED", "AseCalculator", "CommandLabeler", "consent"]
