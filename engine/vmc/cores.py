"""Effective core potentials: what stands for the inner electrons of atoms."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

KNOWN = ("ccecp",)
"""Families of potentials that PySCF has and whose local parts are finite at the nucleus."""

CERTAIN = 0.02
"""Strength of the non-local part (hartree) from which on an electron is always measured."""


@dataclass(frozen=True, eq=False)
class Radial:
    """Sums ``v_k(d) = sum over t of c_tk d^n_t exp(-a_t d^2)`` of distances to nuclei.

    Terms of ``n = -1`` are without their pole: ``(exp(-a d^2) - 1) / d``.

    Attributes:
        nuclei: ``[terms]`` which distance a term takes.
        powers: ``[terms]`` the n.
        exponents: ``[terms]`` the a in bohr^-2.
        weights: ``[terms, sums]`` the c in hartree and bohr.
    """

    nuclei: Tensor
    powers: Tensor
    exponents: Tensor
    weights: Tensor

    def __call__(self, distance: Tensor) -> Tensor:
        """Return ``[..., sums]`` in hartree of distances ``[..., nuclei]`` in bohr."""
        d = distance[..., self.nuclei.to(distance.device)]
        powers = self.powers.to(d)
        bell = torch.expm1(-self.exponents.to(d) * d.square()) + (powers >= 0)
        return (d**powers * bell) @ self.weights.to(d)


@dataclass(frozen=True)
class Hops:
    """Where a non-local potential takes walkers; ``sum of w psi(r') / psi(r)`` is its part.

    Attributes:
        walkers: ``[hops]`` which walker.
        positions: ``[hops, n, 3]`` the configuration r' in bohr.
        weights: ``[hops]`` the w in hartree.
    """

    walkers: Tensor
    positions: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Cores:
    """Effective potentials of the inner electrons of some nuclei of a molecule.

    The nucleus, whose charge Z is that without the inner electrons, acts on an electron at
    the distance d by

        -Z / d + v_loc(d) + sum over l of v_l(d) sum over m of |lm><lm|,

    where the pole of ``v_loc`` takes that of the charge away: there is no cusp.

    Attributes:
        names: of every nucleus, the family of its potential; empty where it has none.
        electrons: ``[nuclei]`` that the potential stands for.
        poles: ``[nuclei]`` the Z that ``v_loc`` takes away, 0 without a potential.
        local: the sum of all ``v_loc`` without their poles.
        channels: ``(2 l + 1) v_l`` of every nucleus and l, ``nuclei * (highest + 1)`` sums.
        highest: largest l.
    """

    names: tuple[str, ...]
    electrons: Tensor
    poles: Tensor
    local: Radial
    channels: Radial
    highest: int

    def hops(self, r: Tensor, positions: Tensor, rng: torch.Generator) -> Hops:
        """Return the non-local part at ``r [batch, n, 3]`` of nuclei at ``positions``.

        The integral over the directions u of an electron around a nucleus,

            v_l (2 l + 1) / (4 pi) int du P_l(cos(r, u)) psi(.., R + d u, ..) / psi,

        is the mean over the corners of an icosahedron, which is exact where ``P_l psi`` is
        of degree five, and turned at random, so that it has no bias otherwise (Mitas,
        Shirley, Ceperley, J. Chem. Phys. 95, 3467 (1991)). Where the potential is below
        :data:`CERTAIN`, an electron is measured as seldom as it is weak, with the more
        weight: the mean is the same.
        """
        away = r[:, :, None] - positions.to(r)
        distance = away.norm(dim=-1)
        strength = self.channels(distance).unflatten(-1, (-1, self.highest + 1))
        share = (strength.abs().sum(-1) / CERTAIN).clamp(max=1)
        draw = torch.rand(share.shape, generator=rng, dtype=r.dtype, device=r.device)
        walker, electron, nucleus = chosen = (draw < share).nonzero(as_tuple=True)
        strength = strength[chosen] / share[chosen][:, None]
        unit = away[chosen] / distance[chosen][:, None]
        corners = turned(icosahedron().to(r), len(walker), rng)
        angular = legendre((corners @ unit[..., None])[..., 0], self.highest)
        weights = (angular @ strength[..., None])[..., 0] / corners.shape[1]
        place = positions.to(r)[nucleus, None] + distance[chosen][:, None, None] * corners
        moved = r[walker, None].repeat(1, corners.shape[1], 1, 1)
        moved[torch.arange(len(walker), device=r.device), :, electron] = place
        repeated = walker.repeat_interleave(corners.shape[1])
        return Hops(repeated, moved.flatten(0, 1), weights.flatten())


def icosahedron() -> Tensor:
    """Return the 12 corners on the unit sphere: they integrate degrees up to 5 exactly."""
    golden = (1 + math.sqrt(5)) / 2
    face = [[0.0, a, b * golden] for a in (1, -1) for b in (1, -1)]
    corners = torch.tensor(face, dtype=torch.float64) / math.hypot(1, golden)
    return torch.cat([corners.roll(k, 1) for k in range(3)])


def turned(points: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return ``[count, points, 3]``: the points in orientations drawn uniformly."""
    like = {"dtype": points.dtype, "device": points.device}
    turn = torch.randn(count, 4, generator=rng, **like)  # a quaternion
    turn = (turn / turn.norm(dim=1, keepdim=True))[:, None]
    axis, points = torch.broadcast_tensors(turn[..., 1:], points)
    side = 2 * torch.linalg.cross(axis, points)
    return points + turn[..., :1] * side + torch.linalg.cross(axis, side)


def legendre(x: Tensor, highest: int) -> Tensor:
    """Return ``P_0(x) ... P_highest(x)`` along a new last axis."""
    found = [torch.ones_like(x), x]
    for degree in range(1, highest):
        rise = (2 * degree + 1) * x * found[-1] - degree * found[-2]
        found.append(rise / (degree + 1))
    return torch.stack(found[: highest + 1], -1)


def cores_of(symbols: Sequence[str], core: str | Mapping[str, str] | None) -> Cores | None:
    """Return the potentials that nuclei of these symbols are given, None where none is.

    Args:
        symbols: of all nuclei.
        core: name of the family for all elements, or for some of them by their symbol.

    Raises:
        InputError: PySCF is missing or has no such potential, or an element is not there.
    """
    table = dict.fromkeys(symbols, core) if isinstance(core, str) else dict(core or {})
    if not table:
        return None
    for symbol, name in table.items():
        if symbol not in symbols:
            raise InputError(
                f"molecule: core of {symbol!r}, which is not in the molecule; "
                f"its elements: {', '.join(dict.fromkeys(symbols))}"
            )
        if name not in KNOWN:
            raise InputError(
                f"molecule: core {name!r} is not known; allowed: {', '.join(KNOWN)}"
            )
    found = {symbol: _loaded(symbol, name) for symbol, name in table.items()}
    return _joined([table.get(symbol, "") for symbol in symbols], symbols, found)


def _loaded(symbol: str, name: str) -> "Stored":
    """Read the potential of one element from PySCF."""
    try:
        from pyscf.gto import basis
    except ImportError as error:
        raise InputError(
            "core potentials need PySCF: pip install scalebridge[label]; or leave core out"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another package
        try:
            stored = basis.load_ecp(name, symbol)
        except (KeyError, RuntimeError):
            stored = []
    if not stored:
        raise InputError(
            f"molecule: core {name!r} has no potential for {symbol!r}; give core for the "
            'elements that have one: core = {ELEMENT = "ccecp"}'
        )
    removed, parts = stored
    terms = [
        (momentum, number - 2, float(exponent), float(coefficient))
        for momentum, groups in parts
        for number, group in enumerate(groups)
        for exponent, coefficient, *_ in group  # spin-orbit parts are left out
    ]
    return int(removed), terms


Stored = tuple[int, list[tuple[int, int, float, float]]]
"""Electrons left out; rows of l (-1: the local part), power, exponent, coefficient."""


def _joined(
    names: Sequence[str], symbols: Sequence[str], found: Mapping[str, Stored]
) -> Cores:
    known = {a: found[symbol] for a, symbol in enumerate(symbols) if symbol in found}
    rows = [(a, *term) for a, (_, terms) in known.items() for term in terms]
    highest = max(0, *(degree for _, degree, *_ in rows))
    electrons = torch.zeros(len(names), dtype=torch.float64)
    poles = torch.zeros_like(electrons)
    for a, (removed, terms) in known.items():
        electrons[a] = removed
        poles[a] = sum(c for _, power, _, c in terms if power == -1)
    local = [(a, power, rate, 0, c) for a, degree, power, rate, c in rows if degree < 0]
    channels = [
        (a, power, rate, a * (highest + 1) + degree, (2 * degree + 1) * c)
        for a, degree, power, rate, c in rows
        if degree >= 0
    ]
    sums = len(names) * (highest + 1)
    return Cores(
        tuple(names), electrons, poles, _radial(local, 1), _radial(channels, sums), highest
    )


def _radial(rows: Sequence[tuple[int, int, float, int, float]], sums: int) -> Radial:
    """Return the sums of rows (nucleus, power, exponent, sum, coefficient)."""
    columns = torch.tensor(rows, dtype=torch.float64).view(-1, 5).T
    nuclei, powers, places = (columns[k].long() for k in (0, 1, 3))
    weights = torch.zeros(len(rows), sums, dtype=torch.float64)
    weights[torch.arange(len(rows)), places] = columns[4]
    return Radial(nuclei, powers, columns[2], weights)
