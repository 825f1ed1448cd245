"""Which ionic steps of a VASP run have converged electrons."""

import itertools
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
                limit = float(element.text or limit)
            elif element.tag == "array" and element.get("name") == "atoms":
                atoms = len(element.findall("set/rc"))
            elif element.tag == "calculation":
                _check_rows(path, element, atoms, len(found))
                steps = [
                    float(i.text or "nan")
                    for i in element.findall("scstep/energy/i[@name='e_fr_energy']")
                ]
                close = len(steps) > 1 and abs(steps[-1] - steps[-2]) < limit
                found.append(0 < len(steps) < most or close)
                element.clear()
    return found


def _check_rows(path: Path, step: ElementTree.Element, atoms: int, number: int) -> None:
    """Refuse a step of more or fewer rows than atoms: ASE takes zeros for those."""
    counts = {"positions": atoms, "forces": atoms, "basis": 3, "stress": 3}
    for name, rows in counts.items():
        for array in step.iter("varray"):
            if array.get("name") == name and len(array.findall("v")) != rows:
                raise InputError(
                    f"{path}: step {number}: {len(array.findall('v'))} rows of {name}, "
                    f"expected {rows}"
                )


def _is_row(line: bytes) -> bool:
    return not line.startswith(b" ---")


def _outcar(path: Path) -> list[bool]:
    """Whether it is said of the loop; releases before 6 say nothing where it is not.

    A step at the end that has no energy yet counts, as one that has not converged.
    """
    found, fine, begun, ions = [], False, False, 0
    with opened(path) as file:
        for line in file:
            if b"NIONS =" in line:
                ions = int(line.split(b"NIONS =")[1].split()[0])
            elif b"TOTAL-FORCE" in line:
                rows = list(itertools.takewhile(_is_row, itertools.islice(file, 1, None)))
                if len(rows) > ions:
                    raise InputError(
                        f"{path}: step {len(found)}: {len(rows)} rows of forces, expected "
                        f"{ions}"
                    )
            elif b"aborting loop" in line:
                fine = b"EDIFF is reached" in line
            elif b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                found.append(fine)
                fine = begun = False
            elif b" Iteration " in line:
                begun = True
    return [*found, False] if begun else found


__all__ = ["converged_steps"]
