"""Runs that are wrong for want of resolution, and some that are not: who is warned?

Truth is the same set-up with finer cells, velocities or moments, or all of them. A run is
wrong where its density, velocity or temperature is off by more than ``WRONG`` of the flow,
and adequate below ``RIGHT``: the largest of all frames, L1 over the cells,

    error = max_t sum_q <|q - q_true|> / max_t sum_q <|q_true - <q_true>|>.

A warning is a failed check of any kind, or a refusal. Nothing of the engine's own estimate
is used here but the runs.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import setups
import zarr

from scalebridge.engine.errors import EngineError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

Data = dict[str, Any]
WRONG, RIGHT = 0.05, 0.02


def kinetic(nodes: int | tuple[int, ...], half: float = 6.0, **more: Any) -> Data:
    """Return a model of so many velocities between plus and minus ``half``."""
    shape = [nodes] if isinstance(nodes, int) else list(nodes)
    size = len(shape)
    ends = {"lower": [-half] * size, "upper": [half] * size}
    return {"kind": "kinetic", "nodes": shape, **ends, **more}


WAVE: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.1],
    "grid": {"cells": [32], "lower": [0.0], "upper": [1.0]},
    "gas": {"viscosity": "constant_time"},
    "model": kinetic(32),
    "initial": {"kind": "fields", "density": "1 + 0.02*sin(2*pi*x)", "temperature": 1.0},
    "time": {"end": 0.6, "frames": 12},
}  # fmt: skip
WALL = {"kind": "wall"}
PLATES: Data = {
    "version": 1, "kind": "gas", "knudsen": [1.0],
    "grid": {"cells": [16], "lower": [-0.5], "upper": [0.5]},
    "boundaries": {"x": {"low": {**WALL, "velocity": [0.0, -0.1]},
                         "high": {**WALL, "velocity": [0.0, 0.1]}}},
    "model": kinetic((32, 8), 5.0),
    "initial": {"kind": "fields", "density": 1.0, "temperature": 1.0},
    "time": {"end": 2.0, "frames": 4},
}  # fmt: skip
HEATED: Data = {
    **PLATES, "boundaries": {"x": {"low": {**WALL, "temperature": 0.9},
                                   "high": {**WALL, "temperature": 1.1}}},
    "model": kinetic(32, 5.0),
}  # fmt: skip
SPOT: Data = {
    "version": 1, "kind": "gas", "knudsen": [1.0],
    "grid": {"cells": [16, 16], "lower": [-1.0, -1.0], "upper": [1.0, 1.0]},
    "model": kinetic((18, 18), 5.0),
    "initial": {"kind": "fields", "density": "1 + exp(-16*(x**2 + y**2))",
                "temperature": 1.0},
    "time": {"end": 0.6, "frames": 4},
}  # fmt: skip
STREAMS: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.05],
    "grid": {"cells": [48], "lower": [-1.0], "upper": [1.0]},
    "boundaries": {"x": {"low": "open", "high": "open"}},
    "model": kinetic(40, 10.0),
    "initial": {"kind": "fields", "density": 1.0, "velocity": ["-2*tanh(8*x)"],
                "temperature": 1.0},
    "time": {"end": 0.25, "frames": 5},
}  # fmt: skip
FLUID: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.01],
    "grid": {"cells": [64], "lower": [0.0], "upper": [1.0]},
    "model": {"kind": "nsf"},
    "initial": {"kind": "fields", "density": "1 + 0.1*sin(2*pi*x)", "pressure": 1.0,
                "velocity": [0.5]},
    "time": {"end": 2.0, "frames": 4},
}  # fmt: skip
VORTICES: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.002],
    "grid": {"cells": [32, 32], "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
    "model": {"kind": "nsf"},
    "initial": {"kind": "fields", "density": 1.0, "pressure": 1.0, "velocity": [
        "0.2*sin(2*pi*x)*cos(2*pi*y)", "-0.2*cos(2*pi*x)*sin(2*pi*y)"]},
    "time": {"end": 2.0, "frames": 4},
}  # fmt: skip
TUBE: Data = {
    "version": 1, "kind": "gas",
    "grid": {"cells": [100], "lower": [0.0], "upper": [1.0]},
    "boundaries": {"x": {"low": "open", "high": "open"}},
    "model": {"kind": "euler"},
    "initial": {"kind": "jump", "position": 0.5,
                "left": {"density": 1.0, "pressure": 1.0},
                "right": {"density": 0.125, "pressure": 0.1}},
    "time": {"end": 0.15, "frames": 3},
}  # fmt: skip


def moments(order: int) -> Data:
    """Return moment equations."""
    return {"kind": "hermite", "order": order}


@dataclass(frozen=True)
class Case:
    """A run and the finer one that is its truth."""

    name: str
    base: Data
    changes: Data
    finer: Data


def _n(*cells: int) -> Data:
    return {"grid.cells": list(cells)}


FINE = {"model": kinetic(96), **_n(64)}
"""Of waves."""
FLAT = {"model": kinetic((64, 8), 5.0), **_n(32)}
"""Of flows between plates."""
STRAIGHT = {"model": kinetic(80, 5.0), **_n(32)}

WRONG_ONES = (
    Case("free flight, 16 velocities", WAVE, {"knudsen": [10.0], "model": kinetic(16),
         "time.end": 1.6}, FINE),
    Case("free flight, 24 velocities, long", WAVE, {"knudsen": [100.0],
         "model": kinetic(24), "time.end": 2.4}, FINE),
    Case("free flight, 12 velocities", WAVE, {"knudsen": [3.0], "model": kinetic(12),
         "time.end": 1.2}, FINE),
    Case("Kn 1, 8 velocities", WAVE, {"knudsen": [1.0], "model": kinetic(8, 5.0)}, FINE),
    Case("Kn 1, 10 velocities", WAVE, {"knudsen": [1.0], "model": kinetic(10),
         "time.end": 1.2}, FINE),
    Case("Kn 0.3, 8 velocities", WAVE, {"knudsen": [0.3], "model": kinetic(8)}, FINE),
    Case("cold gas, 16 velocities", WAVE, {"initial.temperature": 0.3,
         "model": kinetic(16), "knudsen": [1.0]}, FINE),
    Case("Kn 0.1, 16 velocities up to 7", WAVE, {"model": kinetic(16, 7.0),
         "time.end": 1.0}, {"model": kinetic(96, 7.0), **_n(64)}),
    Case("Kn 0.1, 12 velocities up to 7", WAVE, {"model": kinetic(12, 7.0),
         "time.end": 1.0}, {"model": kinetic(96, 7.0), **_n(64)}),
    Case("two waves, 16 velocities", WAVE, {"initial.density": "1 + 0.02*sin(4*pi*x)",
         "knudsen": [3.0], "model": kinetic(14), "time.end": 0.8}, FINE),
    Case("plates, Kn 10, 6 velocities", PLATES, {"knudsen": [10.0],
         "model": kinetic((6, 8), 5.0)}, FLAT),
    Case("plates, Kn 3, 8 velocities", PLATES, {"knudsen": [3.0],
         "model": kinetic((8, 8), 5.0)}, FLAT),
    Case("heated plates, Kn 10, 8 velocities", HEATED, {"knudsen": [10.0],
         "model": kinetic(8, 5.0)}, STRAIGHT),
    Case("rays from a spot, 8 x 8 velocities", SPOT, {"knudsen": [10.0],
         "model": kinetic((8, 8), 5.0)}, {"model": kinetic((24, 24), 5.0), **_n(32, 32)}),
    Case("rays from a spot, 6 x 6 velocities", SPOT, {
         "model": kinetic((6, 6), 5.0), "knudsen": [2.0]},
         {"model": kinetic((24, 24), 5.0), **_n(32, 32)}),
    Case("streams, velocities up to 6", STREAMS, {"model": kinetic(24, 6.0)},
         {"model": kinetic(80, 12.0), **_n(96)}),
    Case("fast streams, velocities up to 7.6", STREAMS, {
         "initial.velocity": ["-3.5*tanh(8*x)"], "model": kinetic(30, 7.6)},
         {"model": kinetic(120, 18.0), **_n(96)}),
    Case("kinetic wave, 8 cells", WAVE, {**_n(8), "knudsen": [0.02]}, FINE),
    Case("carried wave, 10 cells", FLUID, _n(10), _n(160)),
    Case("carried wave, WENO5, 6 cells", FLUID, {**_n(8), "model.scheme": "weno5",
         "initial.density": "1 + 0.1*sin(4*pi*x)"}, _n(160)),
    Case("carried wave, first order, 64 cells", FLUID, {"model.scheme": "first"},
         {**_n(160), "model.scheme": "muscl"}),
    Case("vortices, 8 x 8 cells", VORTICES, _n(8, 8), _n(64, 64)),
    Case("shock tube, 8 cells", TUBE, _n(8), _n(400)),
    Case("shock tube, first order, 16 cells", TUBE, {**_n(16), "model.scheme": "first"},
         {**_n(400), "model.scheme": "muscl"}),
    Case("three moments at Kn 0.3", WAVE, {"model": moments(3), "knudsen": [0.3]},
         {"model": kinetic(96), **_n(64)}),
    Case("four moments at Kn 1", WAVE, {"model": moments(4), "knudsen": [1.0]},
         {"model": kinetic(96), **_n(64)}),
    Case("six moments at Kn 3", WAVE, {"model": moments(6), "knudsen": [3.0]},
         {"model": kinetic(96), **_n(64)}),
    Case("moments, 8 cells", WAVE, {"model": moments(4), "knudsen": [0.02], **_n(8)},
         _n(128)),
    Case("a pulsing inlet that steps miss", FLUID, {**_n(16), "boundaries": {"x": {
         "low": {"kind": "inflow", "density": "1 + 0.3*sin(60*t)", "velocity": [2.0],
                 "temperature": 1.0}, "high": "open"}}, "initial": {"kind": "fields",
         "density": 1.0, "temperature": 1.0, "velocity": [2.0]}, "time.end": 0.6}, _n(320)),
)  # fmt: skip

RIGHT_ONES = (
    Case("wave, Kn 0.02", WAVE, {"knudsen": [0.02], "model": kinetic(24)}, FINE),
    Case("wave, Kn 0.1", WAVE, {}, FINE),
    Case("wave, Kn 0.3", WAVE, {"knudsen": [0.3]}, FINE),
    Case("wave, Kn 1", WAVE, {"knudsen": [1.0], "model": kinetic(40)}, FINE),
    Case("free flight, 48 velocities", WAVE, {"knudsen": [100.0], "model": kinetic(48)},
         FINE),
    Case("free flight, 96 velocities, long", WAVE, {"knudsen": [10.0],
         "model": kinetic(96), "time.end": 1.6}, {"model": kinetic(144), **_n(64)}),
    Case("cold gas", WAVE, {"initial.temperature": 0.5, "model": kinetic(48)}, FINE),
    Case("plates, Kn 0.1", PLATES, {"knudsen": [0.1], "model": kinetic((24, 8), 5.0)},
         FLAT),
    Case("plates, Kn 1", PLATES, {}, FLAT),
    Case("plates, Kn 10", PLATES, {"knudsen": [10.0], "model": kinetic((48, 8), 5.0)},
         {"model": kinetic((80, 8), 5.0), **_n(32)}),
    Case("heated plates, Kn 0.1", HEATED, {"knudsen": [0.1]}, STRAIGHT),
    Case("heated plates, Kn 1", HEATED, {"model": kinetic(40, 5.0)}, STRAIGHT),
    Case("a spot, Kn 0.1", SPOT, {"knudsen": [0.1], "model": kinetic((14, 14), 5.0)},
         {"model": kinetic((18, 18), 5.0), **_n(32, 32)}),
    Case("a spot, Kn 1", SPOT, {}, {"model": kinetic((24, 24), 5.0), **_n(32, 32)}),
    Case("streams", STREAMS, {}, {"model": kinetic(80, 12.0), **_n(96)}),
    Case("carried wave", FLUID, {}, _n(160)),
    Case("carried wave, WENO5, 32 cells", FLUID, {**_n(32), "model.scheme": "weno5"},
         _n(160)),
    Case("vortices", VORTICES, {}, _n(64, 64)),
    Case("shock tube", TUBE, {}, _n(800)),
    Case("shock tube, WENO5", TUBE, {"model.scheme": "weno5"}, _n(800)),
    Case("moments, Kn 0.05", WAVE, {"model": moments(5), "knudsen": [0.02]}, _n(128)),
    Case("six moments, Kn 0.02", WAVE, {"model": moments(6), "knudsen": [0.02]},
         {"model": kinetic(64), **_n(64)}),
)  # fmt: skip


def fields(data: Data) -> tuple[list[np.ndarray], str]:
    """Run a set-up; return fields ``[frames, cells..., components]`` and what failed."""
    with tempfile.TemporaryDirectory(prefix="resolution_") as path:
        job = assemble(parse(data, "case.toml"), Path(path))
        with RunFolder.create(Path(path) / "run", "", {}) as folder:
            outcome = job.run(folder, console_reporter(quiet=True))
        store: Any = zarr.open_group(Path(path) / "run" / "data.zarr", mode="r")
        names = ("density", "velocity", "temperature")
        found = [np.asarray(store[f"fields/{name}"])[:, 0] for name in names]
    dim = len(data["grid"]["cells"])
    found = [x if x.ndim > 1 + dim else x[..., None] for x in found]
    failed = [f"{c.name} {c.value:.2g}" for c in outcome.checks if not c.passed]
    return found, ", ".join(failed)


def merged(x: np.ndarray, cells: list[int]) -> np.ndarray:
    """Return means over the cells of a coarser grid."""
    for axis, n in enumerate(cells, 1):
        x = np.moveaxis(x, axis, 0)
        x = x.reshape(n, -1, *x.shape[1:]).mean(1)
        x = np.moveaxis(x, 0, axis)
    return x


def error(own: list[np.ndarray], true: list[np.ndarray], cells: list[int]) -> float:
    """Return the error of a run; components that one of them lacks are left out."""
    shared = [int(np.gcd(n, m)) for n, m in zip(cells, true[0].shape[1:], strict=False)]
    axes = tuple(range(1, 1 + len(cells)))
    signal = distance = 0.0
    for a, b in zip(own, true, strict=True):
        n = min(a.shape[-1], b.shape[-1])
        a, b = merged(a[..., :n], shared), merged(b[..., :n], shared)
        off = b - b.mean(axes, keepdims=True)
        signal = signal + np.linalg.norm(off, axis=-1).mean(axes)
        distance = distance + np.linalg.norm(a - b, axis=-1).mean(axes)
    return float(np.max(distance) / np.max(signal))


def looked_at(case: Case) -> tuple[float, str]:
    """Return the error of a case, and what was said of it."""
    data = setups.changed(case.base, case.changes)
    finer = setups.changed(data, {**case.finer, "resolution": "trusted"})
    try:
        own, said = fields(data)
    except EngineError as refusal:
        return np.inf, f"refused: {refusal}"
    true, _ = fields(finer)
    return error(own, true, data["grid"]["cells"]), said


def every(cases: tuple[Case, ...]) -> Iterator[tuple[str, float, str, float]]:
    """Yield name, error, what was said, and CPU seconds of each case."""
    for case in cases:
        begun = time.process_time()
        off, said = looked_at(case)
        yield case.name, off, said, time.process_time() - begun


def figure(record: Any) -> None:
    """How many wrong runs pass in silence, and how many adequate ones are warned about."""
    if not record.wants("dispersion_unwarned"):
        return
    begun = time.process_time()
    wrong, right = list(every(WRONG_ONES)), list(every(RIGHT_ONES))
    silent = [name for name, off, said, _ in wrong if off > WRONG and not said]
    blamed = [f"{name} ({said})" for name, off, said, _ in right if off < RIGHT and said]
    none = [name for name, off, _, _ in wrong if off <= WRONG]
    none += [name for name, off, _, _ in right if off >= RIGHT]
    count = sum(off > WRONG for _, off, _, _ in wrong)
    note = f"of {count} runs wrong by more than {WRONG:g} of the "
    note += f"flow (silent: {', '.join(silent) or 'none'}) and "
    note += f"{sum(r[1] < RIGHT for r in right)} right to {RIGHT:g} (warned about: "
    note += f"{', '.join(blamed) or 'none'}); neither: {', '.join(none) or 'none'}; "
    note += f"{time.process_time() - begun:.3g} CPU s"
    record("dispersion_unwarned", len(silent) + len(blamed), goal=0, note=note)


if __name__ == "__main__":
    for title, cases in (("wrong", WRONG_ONES), ("right", RIGHT_ONES)):
        for name, off, said, seconds in every(cases):
            print(
                f"{title:6s}{100 * off:8.2f} %  {name:42s}{said}  [{seconds:.1f} s]",
                flush=True,
            )
