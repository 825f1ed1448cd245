"""Reference energies of hydrogen clusters, computed with PySCF: full CI at the basis limit.

    E = E_HF(QZ) + 27/19 corr(TZ) - 8/19 corr(DZ) + [E_FCI - E_CCSD(T)](DZ)

with the correlation energy ``corr`` of CCSD(T), extrapolated as ``1 / X^3`` from cc-pVDZ
and cc-pVTZ (Helgaker et al., J. Chem. Phys. 106, 9639 (1997)). Run as
``python benchmarks/vmc_references.py ANGLE`` (H4 on a circle of 3.2843 bohr) or ``chain``.
"""

import json
import math
import sys
from typing import Any


def circle(degrees: float, radius: float = 3.2843) -> list[tuple[float, float, float]]:
    """Return the rectangle of four atoms whose short sides subtend ``degrees``."""
    half = math.radians(degrees) / 2
    x, y = radius * math.cos(half), radius * math.sin(half)
    return [(x, y, 0.0), (x, -y, 0.0), (-x, y, 0.0), (-x, -y, 0.0)]


def chain(spacing: float, count: int = 4) -> list[tuple[float, float, float]]:
    """Return atoms in a row."""
    return [(0.0, 0.0, spacing * i) for i in range(count)]


def solve(
    positions: list[tuple[float, float, float]], basis: str, level: str
) -> dict[str, float]:
    """Return the energies up to ``level``: hf, cc or fci."""
    from pyscf import cc, fci, gto, scf

    mole = gto.M(atom=[("H", p) for p in positions], unit="bohr", basis=basis, verbose=0)
    field: Any = scf.RHF(mole).run(conv_tol=1e-10)
    found = {"hf": float(field.e_tot)}
    if level != "hf":
        coupled: Any = cc.CCSD(field).run(conv_tol=1e-8, max_cycle=200)
        found["ccsd_t"] = float(coupled.e_tot + coupled.ccsd_t())
    if level == "fci":
        found["fci"] = float(fci.FCI(field).kernel()[0])
    return found


def reference(positions: list[tuple[float, float, float]]) -> dict[str, float]:
    """Return the composite full CI and CCSD(T) energies at the basis limit."""
    double = solve(positions, "cc-pvdz", "fci")
    triple = solve(positions, "cc-pvtz", "cc")
    quadruple = solve(positions, "cc-pvqz", "hf")
    correlation = 27 * (triple["ccsd_t"] - triple["hf"]) - 8 * (
        double["ccsd_t"] - double["hf"]
    )
    coupled = quadruple["hf"] + correlation / 19
    return {"ccsd_t": coupled, "energy": coupled + double["fci"] - double["ccsd_t"]}


if __name__ == "__main__":
    asked = sys.argv[1]
    where = chain(1.8) if asked == "chain" else circle(float(asked))
    print(json.dumps({asked: reference(where)}))
