"""From a scenario of the chain to the job that runs it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...models.potentials.pair import BOHR, Prior
from .. import scenario as scenarios
from ..chain.closure import ClosedShock, Teaching
from ..chain.confirmation import REPLICAS, Confirmation
from ..chain.goal import Window
from ..chain.job import Chain, Upstream
from ..chain.labelling import FromPublished, Plan, TwoKinds
from ..chain.particles import ParticleShock
from ..chain.properties import Atoms
from ..chain.shock import GAMMA, ShockTube
from ..errors import InputError
from ..gas.collisions.published import PUBLISHED, Published
from ..gas.exact import shock_jump
from ..learn.labelers import check_installed
from ..schema.base import locate
from ..schema.chain import ChainScenario, PairLabeler, PublishedLabels
from ..schema.closure import ClosureTrainScenario


def assemble(scenario: ChainScenario, base: Path) -> Chain:
    """Return the job.

    Raises:
        InputError: quantum chemistry is not installed or does not treat the element, or
            temperatures lie beyond what the first labels can vouch for.
    """
    s, known = scenario, PUBLISHED[scenario.atoms.symbol]
    labeler = _labeler(s.labels.labeler, known, "labels.labeler")
    if s.labels.far is not None:
        far = _labeler(s.labels.far.labeler, known, "labels.far.labeler")
        labeler = TwoKinds(labeler, far, s.labels.far.beyond * BOHR)
    shocks = _upstream(s, base)
    temperatures = [
        s.shock.temperature * x for m in s.shock.mach for x in _ends(shocks.tube, m)
    ]
    window = Window(
        Atoms(known.symbol, known.mass, known.bosons),
        min(*temperatures, *s.transport.temperatures),
        max(*temperatures, *s.transport.temperatures),
        s.transport.quantum,
    )
    _check_reach(s, known, window)
    plan = Plan(
        tuple(r * BOHR for r in s.labels.start), s.labels.nearest * BOHR,
        s.labels.farthest * BOHR, s.labels.tolerance, s.labels.most,
        s.labels.finer is not None,
    )  # fmt: skip
    prior = Prior(
        s.atoms.dispersion or known.dispersion,
        s.potential.length * BOHR,
        s.potential.amplitude,
    )
    return Chain(
        labeler, s.labels.finer, plan, prior, window, known, s.transport.temperatures,
        Confirmation(s.transport.confirm, s.transport.pairs // REPLICAS, s.seed),
        shocks, s.shock.of, s.difference,
    )  # fmt: skip


def _labeler(part: PairLabeler, known: Published, key: str) -> Any:
    """Return what answers ``label(separation)``."""
    if isinstance(part, PublishedLabels):
        return FromPublished(known, part.error)
    check_installed(part, key)
    return part


def _upstream(s: ChainScenario, base: Path) -> Upstream:
    shock, some = s.shock, s.shock.particles
    particles: list[ParticleShock] = []
    for mach in some.mach if some is not None else ():
        assert some is not None
        particles.append(
            ParticleShock(
                mach,
                some.per_free_path,
                settling=some.settling,
                steps=some.steps,
                seed=s.seed,
            )
        )
    tube = ShockTube(shock.of, shock.cells, shock.extent, shock.nodes, shock.settling)
    return Upstream(
        shock.temperature, shock.pressure, shock.mach, tuple(particles), tube,
        some.wall if some is not None else 0.0, _closed(shock.closure, base),
    )  # fmt: skip


def _closed(path: Path | None, base: Path) -> ClosedShock | Teaching | None:
    """Return the shocks of a closure that fits a monatomic gas."""
    if path is None:
        return None
    file = locate(path, base)
    try:
        if file.suffix == ".toml":
            return _teaching(file)
        found = ClosedShock(file)
        found.equations(1.0)
    except InputError as error:
        said = str(error).removeprefix("model.closure: ")
        raise InputError(f"shock.closure: {said}") from None
    return found


def _teaching(file: Path) -> Teaching:
    """Return the training that a scenario describes."""
    scenario, _ = scenarios.load(file)
    if isinstance(scenario, ClosureTrainScenario):
        return Teaching(file, scenario)
    raise InputError(f"{file.name} trains no local_closure (closure_3v_train does)")


def _ends(tube: ShockTube, mach: float) -> tuple[float, float]:
    """Coldest and hottest temperature that a shock asks for, over that ahead."""
    found = replace(tube, mach=mach).temperatures
    return float(found.min()), float(found.max())


def _check_reach(s: ChainScenario, known: Published, window: Window) -> None:
    """Refuse gas that is hotter than the nearest separation describes."""
    if s.labels.nearest * BOHR < known.smallest:
        raise InputError(
            f"labels.nearest: {s.labels.nearest:g} bohr; the potential of {known.symbol} "
            f"is published from {known.smallest / BOHR:.3g} bohr on"
        )
    first = min(s.labels.start) - 0.5 * s.potential.length
    r = torch.tensor(max(first * BOHR, known.smallest), dtype=torch.float64)
    highest = float(known.pair(r)) / 45.0
    if window.hottest > highest:
        mach = max(s.shock.mach)
        raise InputError(
            f"labels.start: {min(s.labels.start):g} bohr describes gas up to "
            f"{highest:.4g} K; Mach {mach:g} (or transport.temperatures) asks for "
            f"{window.hottest:.4g} K; start with a smaller separation"
        )
    hot = shock_jump(max(s.shock.mach), GAMMA)[3] * s.shock.temperature
    if hot > 2e4:
        raise InputError(
            f"shock.mach: {max(s.shock.mach):g} heats the gas to {hot:.4g} K, where its "
            "atoms ionise; at most 20000 K"
        )


__all__: list[str] = ["assemble"]
