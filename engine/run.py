"""The time loop: a world, (trigger, writer) pairs, guards, checkpoints and progress."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from .errors import GuardError, InputError, Interrupted
from .protocols import Outcome, Simulator, Trigger, Writer
from .rundir import Checkpoint, RunFolder, own_axes, translate_os_errors

State = TypeVar("State")
Observed = Mapping[str, Tensor]
Shapes = dict[str, list[int]]
Guard = Callable[[int, Any, Observed], None]
"""Looks at a state and raises :class:`~.errors.GuardError` to stop the run."""


def every(interval: int) -> Trigger:
    """Return the trigger that fires at multiples of ``interval`` (never for 0)."""
    return lambda step: interval > 0 and step % interval == 0


@runtime_checkable
class Resumable(Protocol):
    """A writer with memory: its tensors go into every checkpoint."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what must be restored."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` returned."""
        ...


# -- states as named tensors -------------------------------------------------------------


def pack(state: Any) -> dict[str, Tensor]:
    """Return the tensors of a state by name; those in a dict field as ``field.key``."""
    packed: dict[str, Tensor] = {}
    for item in fields(state):
        value = getattr(state, item.name)
        if isinstance(value, Tensor):
            packed[item.name] = value
        elif isinstance(value, dict):
            packed.update({f"{item.name}.{key}": tensor for key, tensor in value.items()})
    return packed


def unpack(template: State, packed: Mapping[str, Tensor]) -> State:
    """Return ``template`` with the tensors of :func:`pack` in place of its own."""
    changes: dict[str, Any] = {}
    for item in fields(template):  # type: ignore[arg-type]
        value = getattr(template, item.name)
        if isinstance(value, Tensor):
            changes[item.name] = packed[item.name].to(value.device)
        elif isinstance(value, dict):
            changes[item.name] = {
                key: packed[f"{item.name}.{key}"].to(old.device)
                for key, old in value.items()
            }
    return replace(template, **changes)  # type: ignore[type-var]


# -- progress ------------------------------------------------------------------------------


class Reporter:
    """Shows the progress of a job in one line: step, remaining time, observables."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._begun: tuple[float, int] | None = None
        self._shown = -math.inf

    def progress(self, step: int, total: int, values: Mapping[str, str]) -> None:
        """Show ``step`` of ``total`` and the values; cheap to call often."""
        now = time.monotonic()
        if self._begun is None or step < self._begun[1]:
            self._begun = (now, step)
        terminal = self.console.is_terminal
        if self.quiet or (now - self._shown < (0.2 if terminal else 5.0) and step < total):
            return
        self._shown = now
        begun, first = self._begun
        rate = (now - begun) / (step - first) if step > first else math.nan
        left = "" if math.isnan(rate) else f"ETA {_clock(rate * (total - step))}  "
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        line = f"{step}/{total}  {100 * step / max(total, 1):3.0f}%  {left}{text}"
        if terminal:
            end = "\n" if step >= total else "\r"
            self.console.file.write(f"\x1b[2K{line[: self.console.width - 1]}{end}")
            self.console.file.flush()
        else:
            self.console.file.write(line + "\n")

    def say(self, text: str) -> None:
        """Print one permanent line."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False)


def _clock(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return (
        f"{hours}:{minutes:02d}:{whole % 60:02d}"
        if hours
        else f"{minutes}:{whole % 60:02d}"
    )


# -- interruption --------------------------------------------------------------------------


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Give an event that SIGTERM, SIGHUP and Ctrl-C set; a second one stops at once.

    Outside of it the same signals stop a run at once, see :func:`stoppable`.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    with _handled(ask):
        yield asked


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: by ``KeyboardInterrupt``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    with _handled(stop):
        yield


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        numbers.append(signal.SIGHUP)
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


# -- the loop ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Simulation(Generic[State]):
    """A :class:`~.protocols.Job` that steps a world.

    Attributes:
        world: what is stepped.
        initial: makes the state at step 0.
        steps: number of steps.
        time_step: in the world's unit of time, for the time axis of writers.
        writers: what is recorded when; writers with memory are :class:`Resumable`.
        guards: asked at every report, before anything is written.
        report_every: steps between reports (events, progress, guards).
        checkpoint_every: steps between checkpoints; 0 for none but the last.
        headline: turns observations, and those of the first report, into progress text.
        finish: turns the final state into the figures of the run.
        ended: whether the run is over before its last step; a writer with memory knows.
    """

    world: Simulator[State]
    initial: Callable[[], State]
    steps: int
    time_step: float
    writers: Sequence[tuple[Trigger, Writer]] = ()
    guards: Sequence[Guard] = ()
    report_every: int = 100
    checkpoint_every: int = 0
    headline: Callable[[Observed], Mapping[str, str]] = field(default=lambda observed: {})
    finish: Callable[[RunFolder, State, Observed], Outcome] = field(
        default=lambda folder, state, observed: Outcome()
    )
    ended: Callable[[], bool] = field(default=lambda: False)

    def run(self, folder: RunFolder, report: Reporter) -> Outcome:
        """Run to the end, from the newest checkpoint if there is one.

        Raises:
            GuardError: a guard stopped it; last good and bad state are saved.
            InputError: the run was started with other observables than it now has.
            Interrupted: it was asked to stop; a checkpoint was written.
        """
        state, step, shapes = self._begin(folder)
        good = state
        begun = time.monotonic()
        with interruptible() as asked:
            while step < self.steps and not self.ended():
                state, step = self._stepped(folder, step, state), step + 1
                firing = [writer for trigger, writer in self.writers if trigger(step)]
                reporting = step % self.report_every == 0 or step == self.steps
                if firing or reporting:
                    observed = self.world.observe(state)
                    self._guard(folder, step, good, state, observed)
                    good = state
                    for writer in firing:
                        writer.write(step, step * self.time_step, state, observed)
                    if reporting:
                        self._report(folder, report, step, observed, begun)
                over = step == self.steps or self.ended()
                stopping = asked.is_set() and not over
                if stopping or over or self._due(step):
                    self._checkpoint(folder, step, state, shapes)
                if stopping:
                    raise Interrupted(
                        f"stopped at step {step}; engine resume {folder.path}"
                    )
        return self.finish(folder, state, self.world.observe(state))

    def _begin(self, folder: RunFolder) -> tuple[State, int, Shapes]:
        state = self.initial()
        observed = self.world.observe(state)
        shapes = {name: list(value.shape) for name, value in observed.items()}
        checkpoint = folder.load_checkpoint()
        if checkpoint is None:
            self._guard(folder, 0, state, state, observed)
            for trigger, writer in self.writers:
                if trigger(0):
                    writer.write(0, 0.0, state, observed)
            return state, 0, shapes
        _refuse_other_observables(folder, checkpoint.extra.get("observables"), shapes)
        if checkpoint.step > self.steps:
            raise InputError(
                f"{folder.path}: {self.steps} steps are asked for, but its newest "
                f"checkpoint is of step {checkpoint.step}; give at least as many"
            )
        self._restore_writers(checkpoint)
        packed = _below("state", checkpoint.tensors)
        return unpack(state, packed), checkpoint.step, shapes

    def _restore_writers(self, checkpoint: Checkpoint) -> None:
        for number, (_, writer) in enumerate(self.writers):
            if isinstance(writer, Resumable):
                writer.restore(_below(f"writer{number}", checkpoint.tensors))

    def _due(self, step: int) -> bool:
        return self.checkpoint_every > 0 and step % self.checkpoint_every == 0

    def _checkpoint(
        self, folder: RunFolder, step: int, state: State, shapes: Shapes
    ) -> None:
        tensors = {f"state/{name}": tensor for name, tensor in pack(state).items()}
        for number, (_, writer) in enumerate(self.writers):
            if isinstance(writer, Resumable):
                kept = writer.tensors()
                tensors.update({f"writer{number}/{key}": t for key, t in kept.items()})
        folder.save_checkpoint(step, tensors, {"observables": shapes})

    def _stepped(self, folder: RunFolder, step: int, state: State) -> State:
        """Step the world; the state that it refuses is kept, with the one before."""
        try:
            return self.world.step(state)
        except GuardError as error:
            raise _kept(folder, error, state, error.state, step + 1) from error

    def _guard(
        self, folder: RunFolder, step: int, good: State, state: State, observed: Observed
    ) -> None:
        try:
            for guard in self.guards:
                guard(step, state, observed)
        except GuardError as error:
            raise _kept(folder, error, good, state, step) from error

    def _report(
        self,
        folder: RunFolder,
        report: Reporter,
        step: int,
        observed: Observed,
        begun: float,
    ) -> None:
        scalars = {name: v.tolist() for name, v in observed.items() if v.numel() <= 64}
        folder.log(
            step=step, time=step * self.time_step, wall=time.monotonic() - begun, **scalars
        )
        report.progress(step, self.steps, self.headline(observed))


def _kept(
    folder: RunFolder, error: GuardError, good: Any, refused: Any, step: int
) -> GuardError:
    """Save the last good and the refused state; return the error that says so."""
    states = {"last_good": good}
    if is_dataclass(refused):
        states["refused"] = refused
    saved = [folder.save_frame(name, pack(state)).name for name, state in states.items()]
    return GuardError(f"{error}; saved {' and '.join(saved)}", step, refused)


def _refuse_other_observables(folder: RunFolder, begun: Shapes | None, now: Shapes) -> None:
    """Refuse to resume with other observables: averages and arrays would not match."""
    if begun is None or begun == now:
        return
    names = sorted(n for n in begun.keys() | now.keys() if begun.get(n) != now.get(n))
    kinds = {
        name: "is new"
        if name not in begun
        else "is gone"
        if name not in now
        else f"had shape {begun[name]}, has {now[name]}"
        for name in names
    }
    changes = "; ".join(f"{name} {change}" for name, change in kinds.items())
    raise InputError(
        f"{folder.path}: started with other observables ({changes}); resume with the "
        "version that started it, or start a new run"
    )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


class ZarrWriter:
    """Appends chosen tensors to arrays ``group/NAME [frames, ...]`` of the run's store.

    Frames are gathered in memory and written a chunk at a time and at every checkpoint, so
    a killed run loses only what it will compute again; on resume, frames written after
    the checkpoint are cut off.

    Args:
        folder: the run folder.
        group: name of the Zarr group.
        select: from state and observations to the named tensors of one frame.
        units: name -> unit, kept as attributes.
        chunk: frames in a chunk.
        axes: name and shape of a tensor -> names of its dimensions.
    """

    def __init__(
        self,
        folder: RunFolder,
        group: str,
        select: Callable[[Any, Observed], Mapping[str, Tensor]],
        units: Mapping[str, str] | None = None,
        chunk: int = 64,
        axes: Callable[[str, Sequence[int]], Sequence[str]] = own_axes,
    ) -> None:
        self._folder, self._group, self._select = folder, group, select
        self._units, self._chunk, self._axes = dict(units or {}), chunk, axes
        self._waiting: list[dict[str, Tensor]] = []
        self._frames = 0

    def write(self, step: int, time: float, state: Any, observed: Observed) -> None:
        """Record one frame."""
        frame = {
            name: t.detach().to("cpu", copy=True)
            for name, t in self._select(state, observed).items()
        }
        frame["step"] = torch.tensor(step)
        frame["time"] = torch.tensor(time, dtype=torch.float64)
        self._waiting.append(frame)
        self._frames += 1
        if len(self._waiting) >= self._chunk:
            self.flush()

    def flush(self) -> None:
        """Write the waiting frames."""
        if not self._waiting:
            return
        with translate_os_errors(self._folder.path / "data.zarr"):
            group = self._folder.store.require_group(self._group)
            for name in self._waiting[0]:
                block = torch.stack([frame[name] for frame in self._waiting]).numpy()
                if name not in group:
                    array = group.create_array(
                        name,
                        shape=(0, *block.shape[1:]),
                        dtype=block.dtype,
                        chunks=(self._chunk, *(max(n, 1) for n in block.shape[1:])),
                        dimension_names=("frame", *self._axes(name, block.shape[1:])),
                        fill_value=np.nan if block.dtype.kind == "f" else None,
                    )
                    array.attrs["unit"] = self._units.get(name, "")
                    known = [n for n in ("step", "time", "x") if n in self._waiting[0]]
                    if name not in known:  # for xarray, by the CF conventions
                        array.attrs["coordinates"] = " ".join(known)
                group[name].append(block)  # type: ignore[union-attr]
        self._waiting = []

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the number of frames, all of them on disk."""
        self.flush()
        return {"frames": torch.tensor(self._frames)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Count the frames on disk; the run folder has put them back."""
        self._frames = int(tensors["frames"])
        self._waiting = []


def console_reporter(quiet: bool = False) -> Reporter:
    """Return the reporter of the command line."""
    return Reporter(Console(file=sys.stderr), quiet)
