"""Exact and near-exact ground-state energies, with their sources (hartree).

Nonrelativistic, clamped nuclei. Atoms up to neon after Chakravorty, Gwaltney, Davidson,
Parpia, Froese Fischer, Phys. Rev. A 47, 3649 (1993), as tabulated by Pfau et al., Phys.
Rev. Research 2, 033429 (2020), tables I and II, unless another source is named.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CHAKRAVORTY = "Chakravorty et al., Phys. Rev. A 47, 3649 (1993)"

ATOMS: dict[str, tuple[float, int, str]] = {
    "H": (-0.5, 1, "closed form"),
    "He": (-2.903724377, 0, "Drake, High Precision Calculations for Helium (1996)"),
    "Li": (-7.47806032, 1, "Puchalski and Pachucki, Phys. Rev. A 73, 022503 (2006)"),
    "Be": (-14.66736, 0, CHAKRAVORTY),
    "B": (-24.65391, 1, CHAKRAVORTY),
    "C": (-37.8450, 2, CHAKRAVORTY),
    "N": (-54.5892, 3, CHAKRAVORTY),
    "O": (-75.0673, 2, CHAKRAVORTY),
    "F": (-99.7339, 1, CHAKRAVORTY),
    "Ne": (-128.9376, 0, CHAKRAVORTY),
}
"""Neutral atom -> energy, unpaired electrons of the ground state, source."""

DIATOMICS: dict[tuple[str, str], tuple[float, float, str]] = {
    ("H", "H"): (
        1.4,
        -1.174475714,
        "Kolos and Wolniewicz; Pachucki, Phys. Rev. A 82 (2010)",
    ),
    ("H", "Li"): (3.015, -8.070548, "Cencek and Rychlewski, Chem. Phys. Lett. 320 (2000)"),
    ("Li", "Li"): (5.051, -14.9954, "Filippi and Umrigar, J. Chem. Phys. 105, 213 (1996)"),
    ("N", "N"): (2.068, -109.5423, "Filippi and Umrigar, J. Chem. Phys. 105, 213 (1996)"),
}
"""Sorted symbols -> distance in bohr, energy, source; all singlets."""

EXCITED: dict[str, tuple[float, ...]] = {"He": (-2.175229378, -2.145974046)}
"""Neutral atom -> energies of the first states above the ground state among those of no
magnetisation, from below: of helium 2 3S and 2 1S (Drake, High Precision Calculations for
Helium (1996), table 11.7)."""


def excited_energy(
    numbers: Sequence[int], electrons: int, spin: int, below: int
) -> float | None:
    """Return the energy of the state with ``below`` others below, where it is tabulated.

    Args:
        numbers: atomic numbers of the nuclei.
        electrons: number of electrons.
        spin: up minus down electrons.
        below: number of lower states of the same electrons.
    """
    from ase.data import chemical_symbols

    if len(numbers) != 1 or electrons != numbers[0] or spin or not below:
        return None
    known = EXCITED.get(chemical_symbols[numbers[0]], ())
    return known[below - 1] if below <= len(known) else None


def ground_spin(symbols: Sequence[str], electrons: int) -> int:
    """Return the number of unpaired electrons: of a neutral atom, else 0 or 1."""
    from ase.data import atomic_numbers, ground_state_magnetic_moments

    if len(symbols) == 1 and electrons == atomic_numbers[symbols[0]]:
        for moment in ground_state_magnetic_moments[electrons : electrons + 1]:
            if moment % 2 == electrons % 2:  # some of the table are no numbers of electrons
                return int(moment)
    return electrons % 2


def molecule_energy(
    symbols: Sequence[str], positions: Tensor, electrons: int, spin: int
) -> tuple[float | None, str]:
    """Return the energy and its source where this very system is tabulated."""
    from ase.data import atomic_numbers

    numbers = [atomic_numbers[s] for s in symbols]
    if len(symbols) == 1:
        if electrons == 1:
            return -0.5 * numbers[0] ** 2, "closed form"
        energy, ground, source = ATOMS.get(symbols[0], (None, -1, ""))
        known = electrons == sum(numbers) and spin == ground
        return (energy, source) if known else (None, "")
    neutral_singlet = electrons == sum(numbers) and spin == 0
    if len(symbols) == 2 and neutral_singlet:
        entry = DIATOMICS.get((min(symbols), max(symbols)))
        apart = float((positions[0] - positions[1]).norm())
        if entry and abs(apart - entry[0]) < 1e-6:
            return entry[1], entry[2]
    return None, ""


def ising_ring(sites: int, field: float, coupling: float = 1.0) -> float:
    """Ground-state energy of ``- J sum sz sz - h sum sx`` on a ring.

    ``E = - sum over k of sqrt(J^2 + h^2 - 2 J h cos k)``, ``k = 2 pi (m + 1/2) / n``
    (Pfeuty, Annals of Physics 57, 79 (1970)), for an even number of sites.
    """
    return -sum(
        math.sqrt(
            coupling**2
            + field**2
            - 2 * coupling * field * math.cos(math.tau * (m + 0.5) / sites)
        )
        for m in range(sites)
    )


def ising_ring_correlation(sites: int, field: float, coupling: float = 1.0) -> list[float]:
    """``<sz_i sz_(i+r)>`` for r = 1 ... n / 2 in the ground state of :func:`ising_ring`.

    ``det [g(i - j - 1)]``, i and j from 1 to r, with ``g(r) = mean over k of
    cos(k r + phi_k)`` and ``exp(i phi_k) = (h + J exp(i k)) / |h + J exp(i k)|``
    (Pfeuty, Annals of Physics 57, 79 (1970), section 3), for an even number of sites.
    """
    k = math.tau * (torch.arange(sites, dtype=torch.float64) + 0.5) / sites
    phase = torch.atan2(coupling * torch.sin(k), field + coupling * torch.cos(k))
    half = sites // 2
    apart = torch.arange(-half, half)
    means = torch.cos(apart[:, None] * k + phase).mean(-1)
    near = torch.arange(half)
    table = means[near[:, None] - near - 1 + half]
    return [float(torch.linalg.det(table[:r, :r])) for r in range(1, sites // 2 + 1)]


def heisenberg_ring(sites: int) -> float:
    """Ground-state energy of ``sum S_i . S_j`` on an even ring by the Bethe ansatz.

    Solves ``2 n atan(2 l_j) = 2 pi I_j + 2 sum_k atan(l_j - l_k)`` with
    ``I_j = -(m - 1) / 2 ... (m - 1) / 2``, ``m = n / 2``, by damped iteration; then
    ``E = n / 4 - sum_j 1 / (2 (l_j^2 + 1/4))`` (Bethe, Z. Phys. 71, 205 (1931)).
    """
    half = sites // 2
    number = torch.arange(half, dtype=torch.float64) - (half - 1) / 2
    rapidity = torch.tan(math.pi * number / sites) / 2
    for _ in range(20000):
        phase = 2 * torch.atan(rapidity[:, None] - rapidity[None]).sum(1)
        new = torch.tan((math.tau * number + phase) / (2 * sites)) / 2
        moved = float((new - rapidity).abs().max())
        rapidity = 0.5 * (rapidity + new)
        if moved < 1e-14:
            break
    return sites / 4 - float((0.5 / (rapidity.square() + 0.25)).sum())


def majumdar_ghosh(sites: int) -> float:
    """Ground-state energy of an even ring whose second neighbours couple half as much.

    Every second bond holds a singlet: ``E = - 3 n / 8`` (Majumdar and Ghosh, J. Math. Phys.
    10, 1388 (1969)).
    """
    return -3 * sites / 8


def trapped_pair(
    omega: float, repulsion: float, momentum: int = 0, points: int = 96
) -> float:
    """Ground-state energy of two particles in a trap of three dimensions (hartree).

    The centre of mass has ``3 w / 2``, the distance ``r`` the lowest eigenvalue of

        - u'' + [l (l + 1) / r^2 + w^2 r^2 / 4 + g / r] u = e u,   u(0) = u(inf) = 0

    (Taut, Phys. Rev. A 48, 3561 (1993), eq. 6), here by Chebyshev collocation (Trefethen,
    Spectral Methods in MATLAB (2000), program 13), to ten digits.

    Args:
        omega: frequency ``w`` in hartree.
        repulsion: strength ``g``.
        momentum: ``l``: 0 for unlike spins and bosons, 1 for like spins.
        points: collocation points.
    """
    nodes = torch.arange(points + 1, dtype=torch.float64)
    x = torch.cos(math.pi * nodes / points)
    weight = (-1.0) ** nodes
    weight[0], weight[-1] = 2.0, 2.0 * float(weight[-1])
    apart = x[:, None] - x[None] + torch.eye(points + 1).double()
    slope = weight[:, None] / weight[None] / apart
    slope -= torch.diag(slope.sum(1))
    # strong repulsion holds the two near the bottom of the well; the tails fall as
    # exp(-w r^2 / 4) and faster
    bottom, tail = (2 * repulsion / omega**2) ** (1 / 3), 14 / math.sqrt(omega)
    begin, end = max(bottom - tail, 0.0), bottom + tail
    r = begin + 0.5 * (end - begin) * (1 + x[1:-1])
    kinetic = -(slope @ slope)[1:-1, 1:-1] * (2 / (end - begin)) ** 2
    well = momentum * (momentum + 1) / r**2 + omega**2 * r**2 / 4 + repulsion / r
    levels = torch.linalg.eigvals(kinetic + torch.diag(well)).real
    return 1.5 * omega + float(levels.min())
