"""Which ionic steps of a VASP run have converged electrons."""

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


def _outcar(path: Path) -> list[bool]:
    found, fine = [], False
    with opened(path) as file:
        for line in file:
            text = line.decode("latin-1")
            if "aborting loop" in text:
                fine = "EDIFF is reached" in text
            elif re.search(r"FREE ENERGIE OF THE ION-ELECTRON SYSTEM", text):
                found.append(fine)
    return found


__all__ = ["converged_steps"]
