"""Stepping API: an engine inside somebody else's program, which owns the clock.

    engine = Host.open("silicon_sw")            # a scenario; or Host(world)
    while mine.time < mine.end:
        engine.step(10)
        x = np.from_dlpack(engine.array("positions"))    # a view, no copy
        with engine.editing("positions") as positions:   # a NumPy view, in place
            positions += mine.kick(x)

Several engines live in one process; each gives what it gives alone, because a state holds
everything that evolves.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..errors import DamagedFileError, InputError
from ..md.state import ParticleState
from ..md.world import MolecularDynamics
from ..protocols import Simulator
from ..run import pack, unpack
from ..rundir import read_tensors, write_atomically
from ..runtime import generator, own_defaults


class Host:
    """One engine that a host program steps.

    Args:
        world: what is stepped: molecular dynamics, a gas, or any ``Simulator``.
        state: where to begin; ``world.init`` by default.
        seed: of the initial state.

    Attributes:
        world: the world.
        state: the current state; may be replaced by another of the same world.
    """

    @own_defaults()
    def __init__(
        self, world: Simulator[Any], state: Any | None = None, seed: int = 1
    ) -> None:
        self.world: Any = world
        self.state: Any = world.init(generator(seed)) if state is None else state
        self.steps = 0

    @classmethod
    @own_defaults()
    def open(cls, scenario: str | Path, settings: Sequence[str] = ()) -> "Host":
        """Build the world of a scenario file, or of a shipped scenario by its name.

        Args:
            scenario: path or name.
            settings: ``key=value`` pairs as of ``engine run --set``.

        Raises:
            InputError: a bad scenario, or one that steps no world.
        """
        from .. import scenario as scenarios
        from ..jobs import assemble

        file = scenarios.find(str(scenario))
        checked, base = scenarios.load(file, settings)
        job = assemble(checked, base, file)
        world = getattr(job, "world", None)
        if world is None or not callable(getattr(world, "step", None)):
            raise InputError(f"{scenario}: kind {checked.kind} steps no world")
        if getattr(world, "in_place", False):  # here a state stays what it is
            world = replace(world, in_place=False)
        begin = getattr(job, "start", None)
        return cls(world, begin() if callable(begin) else None, checked.seed)

    @own_defaults()
    def step(self, count: int = 1) -> "Host":
        """Advance by ``count`` steps.

        Raises:
            InputError: not a whole number of steps, 0 or more.
            GuardError: a state that is unphysical; that before it stays.
        """
        if not hasattr(count, "__index__") or count < 0:
            raise InputError(f"count: {count!r}; allowed: whole numbers from 0 on")
        for _ in range(count):
            self.state = self.world.step(self.state)
            self.steps += 1
        return self

    @property
    def time(self) -> float:
        """Time since the beginning, in the world's reported unit."""
        return self.steps * float(getattr(self.world, "time_step", 1.0))

    @own_defaults()
    def observe(self) -> Mapping[str, Tensor]:
        """Return the world's observables of the current state."""
        return self.world.observe(self.state)

    # -- fields ------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors of the state."""
        return tuple(pack(self.state))

    def array(self, name: str) -> Tensor:
        """Return a tensor of the state itself, for ``np.asarray`` or DLPack; read only.

        It stays what it is when the engine steps on, since steps make new tensors. To
        write, use :meth:`put` or :meth:`editing`.

        Raises:
            InputError: the state has no such tensor.
        """
        packed = pack(self.state)
        if name not in packed:
            raise InputError(f"{name}: not in the state; it has {', '.join(packed)}")
        return packed[name]

    @own_defaults()
    def put(self, name: str, values: Any) -> None:
        """Give a tensor of the state new values, in the host's own memory where it fits.

        A contiguous torch, NumPy or DLPack array of the state's dtype and device is taken
        over without a copy; the host must not change it afterwards.

        Args:
            name: as in :attr:`names`.
            values: of the same shape.

        Raises:
            InputError: no array, wrong shape, complex, not finite, or the world refuses it.
        """
        old = self.array(name)
        try:
            new = _as_tensor(values)
        except (TypeError, ValueError, RuntimeError, BufferError) as error:
            raise InputError(f"{name}: {type(values).__name__} is no array") from error
        if new.is_complex() and not old.is_complex():
            raise InputError(f"{name}: complex values were given, it is real")
        new = new.to(old).contiguous()
        if new.shape != old.shape:
            raise InputError(
                f"{name}: shape {list(new.shape)} was given, it has {list(old.shape)}"
            )
        if new.is_floating_point() and not bool(torch.isfinite(new).all()):
            raise InputError(f"{name}: the values are not all finite")
        state = unpack(self.state, {**pack(self.state), name: new})
        self.state = consistent(self.world, state)

    @contextmanager
    def editing(self, name: str) -> Iterator[np.ndarray]:
        """Give a NumPy view of a tensor (on CPU), to be changed in place.

        Tensors that share its memory are given their own copy first; afterwards what
        follows from it (forces) is computed anew.

        Raises:
            InputError: no such tensor, or the values are not finite afterwards.
        """
        values = self.array(name)
        self.state = _disentangled(self.state, name)
        view = values.detach().numpy()
        backup = values.clone()
        yield view
        try:
            self.put(name, values)
        except InputError:
            values.copy_(backup)
            raise

    # -- memory ------------------------------------------------------------------------

    def checkpoint(self, path: Path) -> None:
        """Write the state; a kill at any moment leaves the old file or the new one."""
        tensors = {name: t.detach().cpu().clone() for name, t in pack(self.state).items()}
        tensors["host.steps"] = torch.tensor(self.steps)
        write_atomically(path, lambda part: safetensors.torch.save_file(tensors, part))

    @own_defaults()
    def restore(self, path: Path) -> "Host":
        """Go back to a checkpoint; what follows is bit for bit what followed it.

        Raises:
            InputError: no such file, or of another world.
            DamagedFileError: the file is no checkpoint.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            tensors = read_tensors(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise DamagedFileError(f"{path}: damaged: {error}") from error
        mine = pack(self.state)
        for name, old in mine.items():
            new = tensors.get(name)
            if new is None or new.dtype != old.dtype or new.shape != old.shape:
                raise InputError(f"{path}: {name} does not fit this world")
        self.steps = int(tensors.pop("host.steps", torch.tensor(0)))
        self.state = unpack(self.state, tensors)
        return self


def consistent(world: Any, state: Any) -> Any:
    """Compute what follows from a changed state: energy, forces and virial of particles."""
    if not (isinstance(world, MolecularDynamics) and isinstance(state, ParticleState)):
        return state
    # copies, because neighbour lists are remembered by the identity of their anchor
    anchor, cell = state.positions.clone(), state.cell.clone()
    state = replace(state, anchor=anchor, anchor_cell=cell)
    found = world.potential(state, world.neighbours(state))
    return replace(
        state,
        energy=found.energy.double(),
        forces=found.forces,
        virial=found.virial.double(),
        deviation=found.deviation,
    )


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.clone() if values.is_inference() else values.detach()
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()
    if hasattr(values, "__dlpack__"):
        return torch.from_dlpack(values)
    return torch.as_tensor(values)


def _disentangled(state: Any, name: str) -> Any:
    """Give the other tensors that share memory with ``name`` a copy of their own."""
    packed = pack(state)
    pointer = packed[name].untyped_storage().data_ptr()
    shared = {
        other: tensor.clone()
        for other, tensor in packed.items()
        if other != name and tensor.untyped_storage().data_ptr() == pointer
    }
    return unpack(state, {**packed, **shared}) if shared else state


__all__ = ["Host", "consistent"]
