"""Forward Laplacian, antisymmetry, cusps and exact local energies."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scalebridge.engine.vmc.hamiltonian import Molecule, Trap
from scalebridge.engine.vmc.parameters import Flat
from scalebridge.engine.vmc.scores import layout, write_scores
from scalebridge.models.wavefunctions import jet
from scalebridge.models.wavefunctions.attention import AttentionForm
from scalebridge.models.wavefunctions.determinant import DeterminantForm, DeterminantNet

pytestmark = pytest.mark.usefixtures("one_thread")


CASES = [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 2, 1)]


FORMS = {
    "messages": DeterminantForm(
        width=8, pair_width=4, layers=2, determinants=2, orbitals="none"
    ),
    "attention": AttentionForm(width=8, heads=2, layers=2, determinants=2, orbitals="none"),
}


def network(
    up: int, down: int, centres: int, seed: int = 0, kind: str = "messages"
) -> DeterminantNet:
    positions = 1.5 * torch.arange(centres * 3).view(centres, 3).double()
    charges = torch.tensor([3.0, 1.0])[:centres].double()
    net = FORMS[kind].build(Molecule(positions, charges, up, down), seed).double()
    with torch.no_grad():
        net.pool.normal_()
    return net


def reference(psi: nn.Module, r: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian trace of log|psi| by autograd, one walker at a time."""

    def log(flat: Tensor) -> Tensor:
        return psi(flat.view(1, *r.shape[1:]))[1][0]

    gradient = torch.stack([torch.func.grad(log)(x.flatten()) for x in r])
    trace = torch.stack([torch.func.hessian(log)(x.flatten()).trace() for x in r])
    return gradient, trace


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(("up", "down", "centres"), CASES)
def test_forward_laplacian_is_the_hessian_trace(
    up: int, down: int, centres: int, kind: str
) -> None:
    net = network(up, down, centres, kind=kind)
    r = torch.randn(4, up + down, 3, generator=torch.Generator().manual_seed(1)).double()
    sign, log = net(jet.coordinates(r))
    gradient, trace = reference(net, r)
    plain_sign, plain = net(r)
    assert torch.equal(sign, plain_sign)
    torch.testing.assert_close(log.value, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log.jacobian.T, gradient, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log.laplacian, trace, rtol=1e-10, atol=1e-10)


def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted defect: the cross term of the product rule is lost."""

    def wrong(a: jet.Field, b: jet.Field) -> jet.Field:
        if not isinstance(a, jet.Jet):
            return a * b
        slots = a.slots * b.value
        slots[1:] += a.value * b.slots[1:]
        return jet.Jet(slots)

    monkeypatch.setattr(jet, "multiply", wrong)
    net = network(1, 1, 1)
    r = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1)).double()
    _, trace = reference(net, r)
    assert (net(jet.coordinates(r))[1].laplacian - trace).abs().max() > 1e-3


@pytest.mark.parametrize("kind", FORMS)
def test_antisymmetry_is_exact(kind: str) -> None:
    net = network(3, 2, 1, kind=kind)
    r = torch.randn(16, 5, 3, generator=torch.Generator().manual_seed(2)).double()
    sign, log = net(r)
    for order in ([1, 0, 2, 3, 4], [0, 1, 2, 4, 3]):
        swapped, other = net(r[:, order])
        assert torch.equal(swapped, -sign)
        torch.testing.assert_close(other, log, rtol=0, atol=1e-11)
    cycled, _ = net(r[:, [1, 2, 0, 3, 4]])
    assert torch.equal(cycled, sign)


@pytest.mark.parametrize("kind", FORMS)
def test_opposite_spins_are_not_antisymmetric(kind: str) -> None:
    """Planted defect: exchanging an up with a down electron must not merely flip a sign."""
    net = network(3, 2, 1, kind=kind)
    r = torch.randn(16, 5, 3, generator=torch.Generator().manual_seed(2)).double()
    assert (net(r)[1] - net(r[:, [3, 1, 2, 0, 4]])[1]).abs().max() > 1e-3


def radial_slope(
    net: DeterminantNet, first: Tensor, direction: Tensor, which: int
) -> Tensor:
    """Slope of log|psi|, averaged over +-direction, as ``which`` leaves ``first``."""

    def along(distance: float) -> Tensor:
        values = []
        for side in (1.0, -1.0):
            r = first.clone()
            r[:, which] = r[:, which] + side * distance * direction
            values.append(net(r)[1])
        return sum(values) / 2  # type: ignore[return-value]

    h = 1e-5
    return (4 * along(h) - along(2 * h) - 3 * along(1e-9)) / (2 * h)


@pytest.mark.parametrize("kind", FORMS)
def test_cusps_are_kato_s(kind: str) -> None:
    net = network(2, 2, 2, kind=kind)
    rng = torch.Generator().manual_seed(3)
    r = torch.randn(3, 4, 3, generator=rng).double()
    direction = torch.nn.functional.normalize(torch.randn(3, generator=rng).double(), dim=0)
    opposite = r.clone()
    opposite[:, 2] = opposite[:, 0]
    slope = radial_slope(net, opposite, direction, 2)
    torch.testing.assert_close(slope, torch.full((3,), 0.5).double(), rtol=0, atol=2e-3)
    nuclear = r.clone()
    nuclear[:, 1] = net.backbone.centres.positions[0]
    slope = radial_slope(net, nuclear, direction, 1)
    torch.testing.assert_close(slope, torch.full((3,), -3.0).double(), rtol=0, atol=2e-3)


class Hydrogen(nn.Module):
    """``psi = exp(-Z r)``."""

    def __init__(self, charge: float) -> None:
        super().__init__()
        self.charge = nn.Parameter(torch.tensor(charge).double())

    def forward(self, r: jet.Field) -> tuple[Tensor, jet.Field]:
        log = jet.linear(lambda t: -self.charge * t[..., 0], jet.norm(r))
        total = jet.sum_electrons(log)
        value = total.value if isinstance(total, jet.Jet) else total
        return torch.ones_like(value), total


class Hooke(nn.Module):
    """``psi = (1 + s r_12) exp(-(r_1^2 + r_2^2) / 4)``; exact for s = 1/2, omega = 1/2."""

    def __init__(self, slope: float = 0.5) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope).double())

    def forward(self, r: jet.Field) -> tuple[Tensor, jet.Field]:
        apart = jet.linear(lambda t: self.slope * t[..., 0], jet.norm(jet.pairs(r)))
        pair = jet.sum_pairs(jet.log1p(apart))
        trap = jet.linear(lambda t: -0.25 * t.sum(-1), jet.square(r))
        total = jet.add(jet.sum_electrons(trap), pair)
        value = total.value if isinstance(total, jet.Jet) else total
        return torch.ones_like(value), total


def energies(hamiltonian, psi: nn.Module) -> Tensor:
    from scalebridge.engine.vmc.electrons import Electrons
    from scalebridge.engine.vmc.parameters import Flat

    rng = torch.Generator().manual_seed(4)
    problem = Electrons(hamiltonian, Flat(psi))
    return problem.local_energy(problem.start(64, rng).double(), rng)


@pytest.mark.parametrize("charge", [1, 3])
def test_hydrogen_local_energy_is_constant(charge: int) -> None:
    from scalebridge.engine.vmc.hamiltonian import molecule

    symbol = {1: "H", 3: "Li"}[charge]
    ion = molecule([symbol], [[0.0, 0.0, 0.0]], charge=charge - 1)
    energy = energies(ion, Hydrogen(float(charge)))
    assert (energy + charge**2 / 2).abs().max() < 1e-8
    assert energies(ion, Hydrogen(charge + 0.01)).std() > 1e-4


def test_hooke_local_energy_is_constant() -> None:
    trap = Trap(0.5, 1, 1)
    assert trap.exact == pytest.approx(2.0, abs=1e-10)
    assert (energies(trap, Hooke()) - 2).abs().max() < 1e-8
    assert energies(trap, Hooke(0.45)).std() > 1e-3
    assert math.isclose(Trap(1.0, 2, 2, 0.0).exact or 0, 2 * 1.5 + 2 * 2.5)


@pytest.mark.parametrize(
    ("omega", "up", "down", "exact"),
    [(0.5, 1, 1, 2.0), (0.1, 1, 1, 0.5), (0.25, 2, 0, 1.25)],
)
def test_pairs_in_a_trap_have_the_energies_of_taut(omega, up, down, exact) -> None:
    """Taut, Phys. Rev. A 48, 3561 (1993), tables I and II: closed forms."""
    trap = Trap(omega, up, down)
    assert trap.exact == pytest.approx(exact, abs=1e-10)
    assert Trap(omega, up, down, 0.0).exact == omega * (3 if down else 4)
    assert Trap(omega, 2, 1).exact is None


@pytest.mark.parametrize(("omega", "repulsion"), [(0.5, 1e4), (1e-6, 1.0), (1e-8, 1.0)])
def test_strong_repulsion_holds_a_pair_at_the_bottom_of_its_well(omega, repulsion) -> None:
    """Two classical charges at rest, and the zero point of centre and distance."""
    apart = (2 * repulsion / omega**2) ** (1 / 3)
    bottom = 0.75 * (omega * apart) ** 2
    zero = omega * (1.5 + math.sqrt(3) / 2)
    exact = Trap(omega, 1, 1, repulsion).exact
    assert exact == pytest.approx(bottom + zero, abs=0.1 * zero)


def test_a_walker_on_a_node_is_lost_alone() -> None:
    """A singular matrix gives NaN for its walker and leaves the others as they are."""
    draws = torch.Generator().manual_seed(3)
    slots = torch.randn(5, 3, 1, 2, 2, generator=draws, dtype=torch.float64)
    whole = jet.log_determinants(jet.Jet(slots))[1].laplacian
    slots[0, 1] = 0.0
    found = jet.log_determinants(jet.Jet(slots))[1].laplacian
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[[0, 2]], whole[[0, 2]])


def test_adding_a_local_jet_is_adding_its_spread() -> None:
    rng = torch.Generator().manual_seed(4)
    local = jet.Jet(torch.randn(5, 6, 4, 7, generator=rng))
    whole = torch.randn(14, 6, 4, 7, generator=rng)
    wanted = jet.add(jet.Jet(whole), jet.spread(local)).slots
    assert torch.equal(jet.add_local(jet.Jet(whole.clone()), local).slots, wanted)


class Reused(nn.Module):
    """One weight in four products: a part of it, all of it, that again, transposed."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(3, 3, generator=rng).double())
        self.unused = nn.Parameter(torch.ones(2).double())

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(r[..., :2] @ self.weight[:2])
        h = torch.tanh(h @ self.weight) + torch.tanh(r @ self.weight)
        log = torch.tanh(h @ self.weight.T).sum((1, 2))
        return torch.ones_like(log), log


def test_scores_of_a_weight_that_enters_several_times() -> None:
    flat = Flat(Reused())
    walkers = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(3)).double()
    found = walkers.new_full((5, flat.size), torch.nan)
    write_scores(flat, layout(flat, walkers[:1]), walkers, found)
    for number, one in enumerate(walkers):
        (wanted,) = torch.autograd.grad(flat.module(one[None])[1], flat.module.weight)
        torch.testing.assert_close(found[number, :9], wanted.flatten())
    assert not found[:, 9:].any()


class Mixed(nn.Module):
    """A weight in a product, and what is done with that product."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.eye(3).double() + 0.1)
        self.rate = nn.Parameter(torch.ones(3).double())

    def forward(self, r: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "elementwise":
            h = (r @ self.weight) * self.rate
        elif self.kind == "first_row":  # of a table that no walker changes
            h = r * (torch.eye(3).double() @ self.weight)[0]
        elif self.kind == "flattened":
            h = (r.flatten(0, 1) @ self.weight).view(r.shape)
        else:
            h = r @ self.weight
        return torch.ones(len(r)).double(), torch.tanh(h).sum((1, 2))


@pytest.mark.parametrize(
    ("kind", "whole"),
    [("plain", True), ("elementwise", False), ("first_row", False), ("flattened", False)],
)
def test_a_batch_is_differentiated_at_once_only_where_that_is_right(
    kind: str, whole: bool
) -> None:
    flat = Flat(Mixed(kind))
    walkers = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(3)).double()
    how = layout(flat, walkers[:1])
    assert (how.batched is not None) == whole
    found = torch.empty(5, flat.size).double()
    write_scores(flat, how, walkers, found)
    for number, one in enumerate(walkers):
        log = flat.module(one[None])[1]
        parts = torch.autograd.grad(log, list(flat.module.parameters()), allow_unused=True)
        wanted = [torch.zeros(9 - 6 * i) if p is None else p for i, p in enumerate(parts)]
        joined = torch.cat([p.flatten().double() for p in wanted])
        torch.testing.assert_close(found[number], joined)


@pytest.mark.parametrize("kind", FORMS)
def test_shipped_wavefunctions_are_differentiated_at_once(kind: str) -> None:
    walkers = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3)).double()
    assert layout(Flat(network(2, 2, 2, kind=kind)), walkers).batched is not None


def test_electrons_attend_to_each_other() -> None:
    """One electron's features follow where another is, and not where no layer is."""
    r = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(5)).double()
    moved = r.clone()
    moved[:, 3] += 0.5
    for layers, heard in ((1, True), (0, False)):
        form = replace(FORMS["attention"], layers=layers)
        backbone = form.build(Molecule(r[0, :1], torch.ones(1), 2, 2)).backbone.double()
        change = (backbone(r)[0] - backbone(moved)[0])[:, 0].detach().abs().max()
        assert (float(change) > 1e-3) == heard


def test_the_width_must_hold_all_heads() -> None:
    with pytest.raises(ValueError, match="width 10 is no multiple of heads 4"):
        AttentionForm(width=10)
