"""Which ionic steps of a VASP run have converged electrons."""

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ..errors import InputError
from ..inputs import opened


def converged_steps(path: Path, form: str) -> list[bool]:
    """Return for every ionic step whether its last electronic step was converged.

    Args:
        path: vasprun.xml or OUTCAR.
        form: ``vasp-xml`` or ``vasp-out``.

    Raises:
        InputError: the file is damaged.
    """
    return _xml(path) if form == "vasp-xml" else _outcar(path)


def _xml(path: Path) -> list[bool]:
    """Fewer electronic steps than NELM, or a last change below EDIFF."""
    most, limit, found = 60, 1e-4, []
    try:
        with opened(path) as file:
            for _, element in ElementTree.iterparse(file):
                if element.tag == "i" and element.get("name") == "NELM":
                    most = int(element.text or most)
                elif element.tag == "i" and element.get("name") == "EDIFF":
                    limit = float(element.text or limit)
                elif element.tag == "calculation":
                    steps = [
                        float(i.text or "nan")
                        for i in element.findall("scstep/energy/i[@name='e_fr_energy']")
                    ]
                    close = len(steps) > 1 and abs(steps[-1] - steps[-2]) < limit
                    found.append(0 < len(steps) < most or close)
                    element.clear()
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    return found


_LIMITS = re.compile(r"^\s+(NELM|EDIFF)\s+=\s*([\d.E+-]+)", re.IGNORECASE)
_STEP = re.compile(r"^-+ Iteration\s+\d+\(\s*(\d+)\)")
_CHANGE = re.compile(r"total energy-change \(2\. order\) :\s*([\d.E+-]+)")


def _outcar(path: Path) -> list[bool]:
    """What the file says, where it had steps left; else a last change below EDIFF.

    VASP 5 says after NELM steps, too, that "EDIFF is reached".
    """
    limits = {"NELM": 60.0, "EDIFF": 1e-4}
    found, fine, step, change = [], False, 0, math.inf
    with opened(path) as file:
        for line in file:
            text = line.decode("latin-1")
            if limit := _LIMITS.match(text):
                value = _number(limit[2])
                limits[limit[1].upper()] = value if value < math.inf else 0.0
            elif number := _STEP.match(text):
                step = int(number[1])
            elif part := _CHANGE.search(text):
                change = abs(_number(part[1]))
            elif "aborting loop" in text:
                close = step < limits["NELM"] or change < limits["EDIFF"]
                fine = "EDIFF is reached" in text and close
            elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in text:
                found.append(fine)
                fine = False
    return found


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # stars of Fortran, or damage
        return math.inf


__all__ = ["converged_steps"]
