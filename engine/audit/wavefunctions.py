"""Audits of a wavefunction of electrons: what any approximate solution must obey.

A subject is a Hamiltonian with a wavefunction, as variational Monte Carlo uses it
(:class:`~..vmc.electrons.Electrons`), in hartree atomic units.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...models.wavefunctions import jet
from ..comparison import worst
from ..runtime import generator
from ..vmc.electrons import Electrons
from ..vmc.hamiltonian import Molecule, Trap
from ..vmc.parameters import Flat
from ..vmc.verdicts import mean_field
from .findings import Finding, Report, at_most, not_measured, tried

EXCHANGE = 1e-8
CUSP = 1e-2
DECAY = -0.05
UNDERFLOW = -1e3
"""Slope that stands for a wavefunction too small for a floating-point number."""
LAPLACIAN = 1e-8
VIRIAL = 0.02
VARIANCE = 0.1
"""hartree^2 for each electron; a converged network of small molecules has a tenth of it."""


def walkers_of(problem: Electrons, count: int, sweeps: int, seed: int = 0) -> Tensor:
    """Return walkers ``[count, n, dim]`` that sample ``|psi|^2``."""
    rng = generator(seed, 51)
    walkers, width = problem.start(count, rng), torch.tensor(0.3, dtype=torch.float64)
    for _ in range(sweeps):
        swept = problem.sweep(walkers, width, rng)
        walkers, width = swept.walkers, swept.width
    return walkers


@dataclass(frozen=True)
class WavefunctionSubject:
    """A wavefunction, and walkers that sample it.

    Attributes:
        problem: Hamiltonian and wavefunction.
        walkers: ``[walkers, n, dim]`` bohr, equilibrated.
        fermions: whether equal spins must be antisymmetric.
    """

    problem: Electrons
    walkers: Tensor
    fermions: bool = True

    @staticmethod
    def of(problem: Electrons, count: int = 512, sweeps: int = 30) -> "WavefunctionSubject":
        """Sample a problem; in f64, whatever its precision was."""
        problem = replace(problem, flat=Flat(problem.psi.double()))
        trap = problem.hamiltonian
        fermions = not (isinstance(trap, Trap) and trap.bosons)
        return WavefunctionSubject(problem, walkers_of(problem, count, sweeps), fermions)

    @property
    def spins(self) -> list[range]:
        """Numbers of the electrons of each spin."""
        up, count = self.problem.hamiltonian.up, self.problem.hamiltonian.electrons
        return [range(up), range(up, count)]

    def log(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return sign and ``log|psi|``."""
        with torch.no_grad():
            return self.problem.psi(r)


def antisymmetry(subject: WavefunctionSubject) -> Finding:
    """``psi(.. r_j .. r_i ..) = -psi(.. r_i .. r_j ..)`` for electrons of equal spin.

    Bosons must have the same sign. Found is the largest change of ``log|psi|``, or 1 where
    a sign is wrong.
    """
    r = subject.walkers[:128]
    sign, log = subject.log(r)
    expected, values = (-sign if subject.fermions else sign), []
    for spin in subject.spins:
        for i, j in itertools.combinations(spin, 2):
            order = list(range(r.shape[1]))
            order[i], order[j] = j, i
            other, new = subject.log(r[:, order])
            wrong = bool((other != expected).any())
            values += [1.0 if wrong else 0.0, float((new - log).abs().max())]
    if not values:
        return not_measured("antisymmetry", "no two electrons of equal spin", EXCHANGE)
    detail = f"{len(values) // 2} pairs of equal spin, {len(r)} configurations"
    return at_most("antisymmetry", worst(values), EXCHANGE, detail=detail)


def _slope(
    subject: WavefunctionSubject, place: Callable[[Tensor, Tensor], Tensor], power: int
) -> float:
    """Return the slope at 0 of the average of ``log|psi| - power log s`` over directions.

    Args:
        subject: the wavefunction.
        place: from unit vectors ``[n, dim]`` and a distance to configurations.
        power: of the node at contact.
    """
    rng = generator(5, 51)
    u = torch.randn(64, subject.walkers.shape[-1], generator=rng, dtype=torch.float64)
    u = torch.cat([u, -u]) / u.norm(dim=1).repeat(2)[:, None]
    base = subject.walkers.double()[:64].repeat(2, 1, 1)
    values = []
    for s in (1e-3, 2e-3, 4e-3):
        log = subject.log(place(base, s * u))[1]
        values.append((log - power * math.log(s)).clamp(min=-1e6))
    first = (values[1] - values[0]) / 1e-3
    second = (values[2] - values[1]) / 2e-3
    # differences are centred at 1.5e-3 and 3e-3: a straight line back to 0
    both = (2 * first - second).view(2, -1).mean(0)
    return float(both.median())


def electron_cusps(subject: WavefunctionSubject) -> Finding:
    """``d log|psi| / dr = 1/2`` where unequal electrons meet, 1/4 beyond the node of equal.

    In ``dim`` dimensions ``1 / (dim - 1)`` and ``1 / (dim + 1)`` (Kato 1957; Pack and Byers
    Brown 1966). Averaged over opposite directions, for the smooth part cancels.
    """
    hamiltonian, dim = subject.problem.hamiltonian, subject.walkers.shape[-1]
    repel = float(getattr(hamiltonian, "repulsion", 1.0) or 0.0)
    if hamiltonian.electrons < 2 or dim < 2 or not repel:
        return not_measured("electron cusps", "no two electrons that repel", CUSP)
    up, count = hamiltonian.up, hamiltonian.electrons
    cases = []
    if up and count > up:
        cases.append(("opposite", 0, up, 0, repel / (dim - 1)))
    spin = subject.spins[0] if up > 1 else subject.spins[1]
    if len(spin) > 1 and subject.fermions:
        cases.append(("equal", spin[0], spin[1], 1, repel / (dim + 1)))
    values, told = [], []
    for name, i, j, power, exact in cases:

        def place(base: Tensor, shift: Tensor, i: int = i, j: int = j) -> Tensor:
            moved = base.clone()
            centre = 0.5 * (base[:, i] + base[:, j])
            moved[:, i], moved[:, j] = centre + 0.5 * shift, centre - 0.5 * shift
            return moved

        found = _slope(subject, place, power)
        values.append(abs(found / exact - 1))
        told.append(f"{name} {found:.4f} ({exact:.4g})")
    return at_most("electron cusps", worst(values), CUSP, detail=", ".join(told))


def nuclear_cusps(subject: WavefunctionSubject) -> Finding:
    """``d log|psi| / dr = -Z`` where an electron meets a nucleus (Kato 1957).

    At a core potential, which is smooth, it is 0.
    """
    hamiltonian = subject.problem.hamiltonian
    if not isinstance(hamiltonian, Molecule):
        return not_measured("nuclear cusps", "no nuclei", CUSP)
    values, told = [], []
    cusps = hamiltonian.nuclear_cusps
    for centre, charge in zip(hamiltonian.positions, cusps, strict=True):

        def place(base: Tensor, shift: Tensor, centre: Tensor = centre) -> Tensor:
            moved = base.clone()
            moved[:, 0] = centre.double() + shift
            return moved

        found = _slope(subject, place, 0)
        values.append(abs(found + float(charge)) / max(float(charge), 1.0))
        told.append(f"Z = {float(charge):g}: {found:.4f}")
    return at_most("nuclear cusps", worst(values), CUSP, detail=", ".join(told))


def normalisability(subject: WavefunctionSubject) -> Finding:
    """Far away the wavefunction decays: ``d log|psi| / dr`` is clearly negative.

    Each electron in turn, and all together, are carried to 20 and to 40 bohr (or so many
    widths of the trap). In a cell that repeats itself ``psi`` does so, too.
    """
    hamiltonian = subject.problem.hamiltonian
    if hamiltonian.period is not None:
        return _periodicity(subject, hamiltonian.period)
    rng, count = generator(6, 51), hamiltonian.electrons
    base = subject.walkers.double()[:64]
    u = torch.randn(base.shape, generator=rng, dtype=torch.float64)
    u = u / u.norm(dim=-1, keepdim=True)
    unit = 1.0 if isinstance(hamiltonian, Molecule) else hamiltonian.omega**-0.5
    near, far = (20.0, 40.0) if isinstance(hamiltonian, Molecule) else (5.0, 8.0)
    values = []
    for which in [*range(count), None]:
        logs = []
        for distance in (near * unit, far * unit):
            moved = base.clone()
            chosen = slice(None) if which is None else which
            moved[:, chosen] = distance * u[:, chosen]
            logs.append(subject.log(moved)[1])
        slope = (logs[1] - logs[0]) / ((far - near) * unit)
        slope = torch.where(slope.isfinite(), slope, torch.full_like(slope, math.inf))
        underflow = logs[1] == -math.inf
        slope = torch.where(underflow, torch.full_like(slope, UNDERFLOW), slope)
        values.append(float(slope.max()))
    detail = "largest slope of log|psi| far away, one electron or all"
    return at_most("normalisability", worst(values), DECAY, "1/bohr", detail)


def _periodicity(subject: WavefunctionSubject, period: float) -> Finding:
    """``psi`` is the same where an electron is carried by an edge of the cell.

    Found is the largest change of ``log|psi|``, or 1 where a sign is wrong.
    """
    r = subject.walkers.double()[:64]
    sign, log = subject.log(r)
    values = []
    for electron in range(r.shape[1]):
        for axis in range(r.shape[2]):
            moved = r.clone()
            moved[:, electron, axis] += period
            other, new = subject.log(moved)
            wrong = bool((other != sign).any())
            values += [1.0 if wrong else 0.0, float((new - log).abs().max())]
    detail = f"each of {r.shape[1]} electrons carried along every edge"
    return at_most("periodicity", worst(values), EXCHANGE, detail=detail)


def forward_laplacian(subject: WavefunctionSubject, count: int = 6) -> Finding:
    """The forward Laplacian against second derivatives of automatic differentiation."""
    r = subject.walkers.double()[:count]
    with torch.no_grad():
        fast = subject.problem.psi(jet.coordinates(r))[1]

    def log(x: Tensor) -> Tensor:
        return subject.problem.psi(x.view(1, *r.shape[1:]))[1][0]

    slow = []
    for x in r:
        hessian = torch.autograd.functional.hessian(log, x.reshape(-1))
        assert isinstance(hessian, Tensor)
        slow.append(hessian.trace())
    exact = torch.stack(slow)
    scale = exact.abs().clamp(min=1.0)
    value = float(((fast.laplacian - exact).abs() / scale).max())
    detail = f"{count} configurations"
    return at_most("forward Laplacian", value, LAPLACIAN, detail=detail)


def energies(subject: WavefunctionSubject, sweeps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return kinetic, potential and virial ``r . dV/dr`` energies, ``[samples]`` each.

    The kinetic energy is ``|grad log|psi||^2 / 2``, whose mean is that of the operator and
    whose variance is smaller.
    """
    problem, rng = subject.problem, generator(7, 51)
    walkers, width = subject.walkers, torch.tensor(0.3, dtype=torch.float64)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(sweeps):
        swept = problem.sweep(walkers, width, rng)
        walkers, width = swept.walkers, swept.width
        energy, gradient = problem.local_energies(walkers, rng)
        kinetic = 0.5 * gradient.double().square().sum((1, 2))
        with torch.enable_grad():
            x = walkers.detach().double().requires_grad_()
            potential = problem.hamiltonian.potential(x)
            (force,) = torch.autograd.grad(potential.sum(), x)
        parts.append((energy, kinetic, (x * force).sum((1, 2)).detach()))
    found = [torch.cat(t) for t in zip(*parts, strict=True)]
    return found[0], found[1], found[2]


def averages(subject: WavefunctionSubject, sweeps: int = 20) -> list[Finding]:
    """The virial theorem and the variance of the local energy.

    ``2 <T> = <r . dV/dr>`` holds for the exact wavefunction of an atom, of a trap, and of a
    molecule where no force acts; ``<(H - E)^2>`` vanishes. One electronvolt of variance is
    0.00135 hartree^2.
    """
    energy, kinetic, virial = energies(subject, sweeps)
    count = subject.problem.hamiltonian.electrons
    variance = float(energy.var()) / count  # one energy that is not finite fails it
    balance = 2 * kinetic - virial
    scale = float(2 * kinetic.mean())
    error = float(balance.std()) / math.sqrt(len(balance)) * 2  # sweeps are correlated
    value, noise = abs(float(balance.mean())) / scale, 3 * error / scale
    hamiltonian = subject.problem.hamiltonian
    several = isinstance(hamiltonian, Molecule) and len(hamiltonian.charges) > 1
    name = "virial theorem"
    told = f"|2T - r.dV/dr| / 2T, {len(balance)} samples, noise {noise:.1e} allowed"
    first = at_most(name, value, VIRIAL + noise, detail=told)
    if isinstance(hamiltonian, Molecule) and hamiltonian.cores is not None:
        first = not_measured(name, "core potentials are not only local", VIRIAL)
    elif hamiltonian.period is not None:
        first = not_measured(name, "a cell that repeats itself is under pressure", VIRIAL)
    elif several:
        first = not_measured(name, "nuclei that may feel a force", VIRIAL)
    what = f"per electron, {len(energy)} samples; mean energy {float(energy.mean()):.4f}"
    made = [first, at_most("variance", variance, VARIANCE, "hartree^2", what)]
    found, name = mean_field(subject.problem), "energy above Hartree-Fock's"
    if found is None:
        return [*made, not_measured(name, "no molecule, or PySCF is not installed")]
    bound, _ = found
    noise = 4 * math.sqrt(float(energy.var()) / len(energy)) * 2
    above = float(energy.mean()) - bound
    detail = f"Hartree-Fock's, an upper bound, is {bound:.5f}"
    return [*made, at_most(name, above, noise, "hartree", detail)]


AUDITS = (
    antisymmetry,
    electron_cusps,
    nuclear_cusps,
    normalisability,
    forward_laplacian,
    averages,
)


def audit_wavefunction(name: str, subject: WavefunctionSubject) -> Report:
    """Run all audits of a wavefunction and report."""
    begun, findings = time.monotonic(), []
    for each in AUDITS:
        findings += tried(each, subject)
    return Report(name, "wavefunction", findings, time.monotonic() - begun)


__all__ = [
    "AUDITS",
    "WavefunctionSubject",
    "antisymmetry",
    "audit_wavefunction",
    "averages",
    "electron_cusps",
    "forward_laplacian",
    "normalisability",
    "nuclear_cusps",
    "walkers_of",
]
