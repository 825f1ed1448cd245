"""Which ionic steps of a VASP run have converged electrons."""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..inputs import loose_number, number_of, opened
from .frames import symmetric


def converged_steps(path: Path, form: str) -> list[bool]:
    """Return for every ionic step whether its last electronic step was converged.

    Args:
        path: vasprun.xml or OUTCAR.
        form: ``vasp-xml`` or ``vasp-out``.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return _xml(path) if form == "vasp-xml" else _outcar(path)
    except (ElementTree.ParseError, ValueError, IndexError) as error:
        raise InputError(f"{path}: damaged: {error}") from error


def _xml(path: Path) -> list[bool]:
    """Fewer electronic steps than NELM, or a last change below EDIFF."""
    most, limit, atoms, found = 60, 1e-4, 0, []
    with opened(path) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "i" and element.get("name") == "NELM":
                most = int(element.text or most)
            elif element.tag == "i" and element.get("name") == "EDIFF":
                limit = number_of(element.text or str(limit))
            elif element.tag == "array" and element.get("name") == "atoms":
                atoms = len(element.findall("set/rc"))
            elif element.tag == "calculation":
                _check_rows(path, element, atoms, len(found))
                steps = [
                    number_of(i.text or "")
                    for i in element.findall("scstep/energy/i[@name='e_fr_energy']")
                ]
                close = len(steps) > 1 and abs(steps[-1] - steps[-2]) < limit
                found.append(0 < len(steps) < most or close)
                element.clear()
    return found


def _check_rows(path: Path, step: ElementTree.Element, atoms: int, number: int) -> None:
    """Refuse a step of more or fewer rows than atoms: ASE takes zeros for those.

    It takes six of the nine numbers of a stress, too, and Python's ``1_0`` for 10.
    """
    counts = {"positions": atoms, "forces": atoms, "basis": 3, "stress": 3}
    for name, rows in counts.items():
        for array in step.iter("varray"):
            if array.get("name") == name and len(array.findall("v")) != rows:
                raise InputError(
                    f"{path}: step {number}: {len(array.findall('v'))} rows of {name}, "
                    f"expected {rows}"
                )
    where = f"{path}: step {number}"
    for item in step.iter():
        if item.text and (word := loose_number(item.text)):
            raise InputError(f"{where}: {item.get('name', item.tag)}: {word} is no number")
    given = [v.text or "" for v in step.findall("varray[@name='stress']/v")]
    stress = np.array([[number_of(word) for word in row.split()] for row in given])
    if stress.shape == (3, 3) and np.isfinite(stress).all() and not symmetric(stress):
        raise InputError(f"{where}: the stress is not symmetric")


def _is_row(line: bytes) -> bool:
    return not line.startswith(b" ---")


_LIMITS = re.compile(r"^\s+(NELM|EDIFF)\s+=\s*([\d.E+-]+)", re.IGNORECASE)
_STEP = re.compile(r"^-+ Iteration\s+\d+\(\s*(\d+)\)")
_CHANGE = re.compile(r"total energy-change \(2\. order\) :\s*([\d.E+-]+)")


def _outcar(path: Path) -> list[bool]:
    """What the file says of a loop that had steps left; else a last change below EDIFF.

    VASP 5 says after NELM steps, too, that "EDIFF is reached", or says nothing. A step at
    the end that has no energy yet counts, as one that has not converged.
    """
    limits = {"NELM": 60.0, "EDIFF": 1e-4}
    found, fine, begun, ions, step, change = [], False, False, 0, 0, math.inf
    with opened(path) as file:
        for line in file:
            text = line.decode("latin-1")
            if "NIONS =" in text:
                ions = int(text.split("NIONS =")[1].split()[0])
            elif "TOTAL-FORCE" in text:
                _count_forces(path, file, ions, len(found))
            elif limit := _LIMITS.match(text):
                limits[limit[1].upper()] = number_of(limit[2])  # nothing is below NaN
            elif number := _STEP.match(text):
                step, begun = int(number[1]), True
            elif part := _CHANGE.search(text):
                change = abs(number_of(part[1]))
            elif "aborting loop" in text:
                close = step < limits["NELM"] or change < limits["EDIFF"]
                fine = "EDIFF is reached" in text and close
            elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in text:
                found.append(fine)
                fine, begun, step, change = False, False, 0, math.inf
    return [*found, False] if begun else found


def _count_forces(path: Path, file: Iterator[bytes], ions: int, step: int) -> None:
    """Refuse more rows of forces than ions: ASE drops those."""
    rows = itertools.takewhile(_is_row, itertools.islice(file, 1, None))
    if (count := sum(1 for _ in rows)) > ions:
        raise InputError(f"{path}: step {step}: {count} rows of forces, expected {ions}")


__all__ = ["converged_steps"]
