"""Closures that a scenario names; a package from outside adds ``moment_closure.KIND``.

A part returns the equations that it closes::

    def equations(self, gas: Gas, order: int | None, find: Find) -> Equations: ...

``order`` is None where the scenario says nothing; ``find`` returns the existing file that a
path names. A closure that has been learned needs no part of its own: any module with a card
(:mod:`scalebridge.models.card`) is read by :class:`Learned`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from ....models import card
from ....models.closures.contract import Closure
from ....models.closures.face import FaceClosure
from ....models.closures.local import LocalClosure
from ....models.closures.recurrence import CellClosure
from ....models.parts import Family, part
from ...errors import InputError
from ..equations.hermite import Hermite, grad, roe, rusanov
from ..equations.recurrence import Recurrence
from ..material import Gas
from .axial import AxialClosure
from .directional import DirectionalClosure
from .ensemble import ClosureEnsemble

Find = Callable[[Path], Path]

EXAMPLE = "models/closure_refined_0.safetensors"
"""Shipped weights for a gas with one velocity dimension."""

TOLERANCE = 0.05
"""Usual spread of an ensemble at which its correction is halved."""

DIRECTIONAL = 6
"""Highest order that the eight directions of the plane determine."""


def plain(gas: Gas, order: int | None, closure: Closure | None = None) -> Hermite:
    """Return Hermite moments: along a line by the more robust local Lax-Friedrichs flux."""
    return Hermite(gas, order or 5, closure, rusanov if gas.dimension == 1 else roe)


@part
class Hyperbolic:
    """HME: what is not known is left out so that all speeds stay real."""

    kind: Literal["hyperbolic"] = "hyperbolic"

    def equations(self, gas: Gas, order: int | None, find: Find) -> Hermite:
        """Return HME."""
        return plain(gas, order)


@part
class Grad:
    """Grad's closure: the moments of degree M + 1 are zero; one velocity dimension."""

    kind: Literal["grad"] = "grad"

    def equations(self, gas: Gas, order: int | None, find: Find) -> Hermite:
        """Return Grad's equations."""
        return plain(gas, order, grad)


@part
class Realizable:
    """Six moments that always belong to a gas, with an analytic baseline; no walls."""

    kind: Literal["realizable"] = "realizable"

    def equations(self, gas: Gas, order: int | None, find: Find) -> Recurrence:
        """Return the equations.

        Raises:
            InputError: another order than 5, or more than one velocity dimension.
        """
        if order not in (None, 5):
            raise InputError(f"model.order: {order}; realizable moments have order 5")
        return Recurrence(gas)


@part
class Learned:
    """Closures from their files; several answer together and close where they disagree."""

    members: tuple[Path, ...] = ()
    """Weights (NAME.safetensors, with NAME.json beside it), at least one."""
    tolerance: Annotated[float, Gt(0)] = TOLERANCE
    """Spread over the members at which the correction is halved."""
    asked: Literal["stage", "step"] = "stage"
    """At both stages of a step, or at the first alone: 1.4 times as fast, and what it says
    is then off by a change over 0.29 of a step."""
    precision: Literal["f32", "f64"] = "f64"
    """Of the network; what it says is applied in the precision of the run."""
    kind: Literal["learned"] = "learned"

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError(
                "members: which weights? write closure = {kind = 'learned', members = "
                f"['{EXAMPLE}']}}, several to answer together"
            )
        if len(self.members) == 1 and self.tolerance != TOLERANCE:
            raise ValueError(
                f"tolerance: {self.tolerance} is of the spread over several members; here "
                "is one: leave it out"
            )

    def equations(self, gas: Gas, order: int | None, find: Find) -> Any:
        """Return Hermite moments with the closure, or six realizable moments.

        Raises:
            InputError: a file is missing or damaged, or the closures do not fit the gas,
                the order, or each other.
        """
        files = [find(path) for path in self.members]
        names = [file.resolve().with_suffix("") for file in files]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise InputError(
                    f"model.closure.members.{number}: {self.members[number]} stands twice; "
                    "members must differ, or their spread says nothing"
                )
        modules = [read(file) for file in files]
        if self.precision == "f32":
            modules = [module.float() for module in modules]
        contracts = {module.config.contract for module in modules}
        orders = {module.config.order for module in modules}
        if len(contracts) > 1 or len(orders) > 1:
            raise InputError("model.closure.members: closures of different kinds or orders")
        if order not in (None, *orders):
            raise InputError(
                f"model.order: {order}; the closure has order {orders.pop()}: leave it out"
            )
        if contracts == {"recurrence"}:
            return self._recurrence(gas, modules)
        return self._faces(gas, orders.pop(), modules)

    def _recurrence(self, gas: Gas, modules: list[Any]) -> Recurrence:
        if len(modules) > 1:
            raise InputError(
                f"model.closure.members: {len(modules)}; one realizable closure runs alone"
            )
        if self.asked == "step":
            raise InputError(
                "model.closure.asked: step; a realizable closure is part of every flux, "
                "allowed: stage"
            )
        return Recurrence(gas, CellClosure(modules[0]))

    def _faces(self, gas: Gas, order: int, modules: list[Any]) -> Hermite:
        alike = all(isinstance(module, FaceClosure) for module in modules)
        if len(modules) > 1 and not alike:
            raise InputError(
                "model.closure.members: an ensemble takes local_closure or face_closure"
            )
        learned_in = {_gas_of(module) for module in modules if alike}
        if alike and gas.dimension > 1 and learned_in == {_gas_of(gas)}:
            if len(modules) > 1:
                raise InputError(
                    f"model.closure.members: {len(modules)}; with gas.dimension = "
                    f"{gas.dimension} one closure runs alone"
                )
            return Hermite(gas, order, AxialClosure(modules[0].float()))
        if alike and learned_in - {(1, 1.0)}:
            told = ", ".join(f"{d} and {p:g}" for d, p in sorted(learned_in))
            raise InputError(
                f"model.closure: learned with gas.dimension and gas.prandtl {told}; "
                f"here {gas.dimension} and {gas.prandtl:g}"
            )
        if gas.dimension == 1:
            closure = ClosureEnsemble(modules, self.tolerance)
            return Hermite(gas, order, closure if len(modules) > 1 else modules[0])
        if any(isinstance(module, LocalClosure) for module in modules):
            raise InputError(
                f"model.closure: local_closure was learned in one velocity dimension; "
                f"gas.dimension = {gas.dimension}, allowed: 1"
            )
        if gas.dimension == 3 or not alike or len(modules) > 1 or order > DIRECTIONAL:
            raise InputError(
                f"model.closure: learned in one velocity dimension; gas.dimension = "
                f"{gas.dimension} takes 2 at most, one face_closure of order "
                f"{DIRECTIONAL} or less (here {len(modules)} of order {order})"
            )
        return Hermite(gas, order, DirectionalClosure(modules[0].float()))


def _gas_of(some: Any) -> tuple[int, float]:
    """Velocity dimensions and Prandtl number of a gas, or of that of a closure."""
    has = getattr(some, "config", some)
    return has.dimension, round(has.prandtl, 4)


def read(path: Path) -> Any:
    """Return a closure from its file, in f64 and without gradients.

    Raises:
        InputError: missing, damaged, or another kind of model.
    """
    try:
        module: Any = card.load_module(path)[0]
    except (FileNotFoundError, card.DamagedModelError, card.UnknownModelError) as error:
        raise InputError(f"model.closure: {error}") from error
    if getattr(module.config, "contract", None) not in ("faces", "recurrence"):
        raise InputError(
            f"model.closure: {path}: {type(module).__name__} is no moment closure"
        )
    return module.double().requires_grad_(False)


def trained_knudsen(part_: Any, find: Find) -> tuple[float, float] | None:
    """Return the smallest and largest Knudsen number of the training that cards tell."""
    if not isinstance(part_, Learned):
        return None
    cards = [card.load_module(find(path))[1] for path in part_.members]
    told = [c["domain"]["knudsen"] for c in cards if "knudsen" in c.get("domain", {})]
    if not told:
        return None
    return max(low for low, _ in told), min(high for _, high in told)


def on(equations: Any, device: Any) -> Any:
    """Return equations whose closure is on a device."""
    return dataclasses.replace(equations, closure=equations.closure.to(device))


MOMENT_CLOSURES = Family(
    "moment_closure",
    __name__.rpartition(".")[0],
    {
        "hyperbolic": "parts:Hyperbolic",
        "grad": "parts:Grad",
        "realizable": "parts:Realizable",
        "learned": "parts:Learned",
    },
)
"""What ``model.closure`` may be."""
