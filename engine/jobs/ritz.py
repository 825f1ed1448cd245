"""Jobs of the Deep Ritz method."""

from pathlib import Path

from ...models.wavefunctions.ritz import RitzNet
from .. import runtime
from ..protocols import Job
from ..ritz.results import Finish
from ..ritz.solver import DeepRitz, Mixed, Slit
from ..run import Simulation
from ..schema.ritz import RitzScenario
from ..vmc.parameters import Flat
from .vmc import need_device


def assemble(scenario: RitzScenario, base: Path) -> Job:
    """Return the job of a scenario.

    Raises:
        InputError: no such device here.
    """
    del base
    need_device(scenario)
    equation = Slit() if scenario.problem == "slit" else Mixed(scenario.dim)
    net = RitzNet(scenario.dim, scenario.width, scenario.blocks, scenario.seed)
    flat = Flat(net.to(scenario.device, runtime.dtype_of(scenario.precision)))
    # derivatives of every point by every parameter, and the copies that solve for them
    numbers = 3.0 * scenario.points * flat.size * (1 + scenario.dim)
    runtime.check_memory(numbers, flat.vector.dtype, "points, width, blocks:")
    world = DeepRitz(
        equation,
        flat,
        scenario.points,
        scenario.penalty,
        scenario.rate,
        scenario.decay,
        scenario.damping,
        seed=scenario.seed,
    )
    return Simulation(
        world=world,
        initial=lambda: world.init(runtime.generator(scenario.seed)),
        steps=scenario.iterations,
        time_step=1.0,
        report_every=max(scenario.iterations // 50, 1),
        checkpoint_every=max(scenario.iterations // 4, 1),
        headline=lambda observed: {"I(u)": f"{float(observed['energy']):.5f}"},
        finish=Finish(world),
    )


__all__ = ["assemble"]
