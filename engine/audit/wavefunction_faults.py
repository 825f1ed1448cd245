"""Pairs of wavefunctions that the audits must tell apart."""

from typing import Any

import torch
from torch import Tensor, nn

from ...models.wavefunctions import jet
from ...models.wavefunctions.determinant import DeterminantForm, DeterminantNet
from ...models.wavefunctions.jet import Field
from ..vmc.electrons import Electrons
from ..vmc.hamiltonian import Molecule, Trap
from ..vmc.parameters import Flat
from . import wavefunctions
from .fault_injection import PlantedFault
from .wavefunctions import WavefunctionSubject


class HookesAtom(nn.Module):
    """``psi = (1 + c r_12) exp(-a (r_1^2 + r_2^2))``, exact with c = 1/2 and a = 1/4.

    Reference: S. Kais, D. Herschbach, R. Levine, J. Chem. Phys. 91, 7791 (1989).
    """

    def __init__(self, cusp: float = 0.5, decay: float = 0.25) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([cusp, decay], dtype=torch.float64))

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return sign and ``log|psi|`` of positions or their jet."""
        cusp, decay = self.values.unbind()
        apart = jet.linear(lambda t: t[..., 0], jet.norm(jet.pairs(r)))
        pair = jet.log1p(jet.linear(lambda t: cusp * t, apart))
        out = jet.linear(lambda t: t[..., 0], jet.norm(r))
        one = jet.linear(lambda t: -decay * t, jet.square(out))
        log = jet.add(jet.sum_electrons(one), jet.sum_pairs(pair))
        value = log.value if isinstance(log, jet.Jet) else log
        return torch.ones_like(value), log


class WrongLaplacian(nn.Module):
    """A wavefunction whose forward Laplacian lost a thousandth on its way."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, r: Field) -> tuple[Tensor, Field]:
        """Return sign and ``log|psi|``."""
        sign, log = self.inner(r)
        if isinstance(log, jet.Jet):
            slots = log.slots.clone()
            slots[-1] *= 1.001
            log = jet.Jet(slots)
        return sign, log


class Labelled(nn.Module):
    """A wavefunction that tells its electrons apart: ``psi exp(1e-3 x_1)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return sign and ``log|psi|`` of positions."""
        sign, log = self.inner(r)
        return sign, log + 1e-3 * r[:, 0, 0]


def _lithium(charge: float = 3.0) -> DeterminantNet:
    """Return a random network for lithium, with the cusp of a nucleus of ``charge``."""
    positions = torch.zeros(1, 3, dtype=torch.float64)
    charges = torch.tensor([charge], dtype=torch.float64)
    form = DeterminantForm(
        width=12, pair_width=6, layers=2, determinants=2, orbitals="none"
    )
    net = form.build(Molecule(positions, charges, 2, 1), seed=4).double()
    return net.requires_grad_(False)


def _on(hamiltonian: Any, psi: nn.Module) -> WavefunctionSubject:
    problem = Electrons(hamiltonian, Flat(psi))
    walkers = wavefunctions.walkers_of(problem, 256, 20)
    return WavefunctionSubject(problem, walkers)


def wavefunction_faults() -> list[PlantedFault]:
    """Return the fixtures of all audits of wavefunctions."""
    trap = Trap(0.5, 1, 1)
    atom = Molecule(
        torch.zeros(1, 3, dtype=torch.float64),
        torch.tensor([3.0], dtype=torch.float64),
        2,
        1,
    )
    exact, lithium = _on(trap, HookesAtom()), _on(atom, _lithium())
    told = WavefunctionSubject(Electrons(atom, Flat(Labelled(_lithium()))), lithium.walkers)
    spread = WavefunctionSubject(
        Electrons(trap, Flat(HookesAtom(0.5, -0.01))), exact.walkers
    )
    wrong = WavefunctionSubject(
        Electrons(trap, Flat(WrongLaplacian(HookesAtom()))), exact.walkers
    )
    w = wavefunctions
    blunt, heavy = _on(trap, HookesAtom(0.4)), _on(atom, _lithium(3.3))
    narrow, narrower = _on(trap, HookesAtom(0.5, 0.35)), _on(trap, HookesAtom(0.5, 0.5))
    rows: list[tuple[str, str, Any, Any, Any]] = [
        ("antisymmetry", "tells electrons apart", w.antisymmetry, lithium, told),
        ("electron cusps", "cusp of 0.4", w.electron_cusps, exact, blunt),
        ("nuclear cusps", "cusp of a charge of 3.3", w.nuclear_cusps, lithium, heavy),
        ("normalisability", "grows outwards", w.normalisability, exact, spread),
        ("forward Laplacian", "lost a thousandth", w.forward_laplacian, exact, wrong),
        ("virial theorem", "too narrow", w.averages, exact, narrow),
        ("variance", "too narrow", w.averages, exact, narrower),
    ]
    return [PlantedFault(*row) for row in rows]


__all__ = ["HookesAtom", "wavefunction_faults"]
