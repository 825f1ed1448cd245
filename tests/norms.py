"""Norms of every shipped scenario, shortened: what the engine computes, in numbers.

``python tests/norms.py record [NAME ...]`` runs the scenarios and keeps their norms in
``tests/norms/recorded.json``; ``python tests/norms.py compare [NAME ...]`` runs them again
and says how far each has moved. On the machine of the record a change of structure moves
nothing beyond ``tolerance``; on another processor, where sums are taken in another order,
the bound is that of the class of arithmetic (``portable``).

An array counts by its root mean square and by ``sum(x_i cos i) / sqrt(n)``, which notices
permutations. Entries that are not finite are counted and left out.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # before numpy and torch make their thread pools
    for _name in ("SCALEBRIDGE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import ase.io
import numpy as np
import safetensors.numpy
import torch
import zarr

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "norms" / "recorded.json"
RENAMED = {"data.zarr/atlas/": "data.zarr/feature_map/"}
"""Parts of keys that were named otherwise when the norms were recorded."""
CLOCKS = ("second", "cpu_s")
"""A figure or an array whose name holds one of these measures time, not physics."""
ROUND_OFF = ("figures/limiter_activity", "figures/negative_fraction")
"""Counts of signs, which in a uniform gas are those of round-off: nothing to compare."""
FLOOR = 1e-5
"""Smaller numbers are compared absolutely: a drift, a momentum or an asymmetry that is zero
but for the round-off of numbers of order one (1e-15) then moves by 1e-10."""

EXACT = 1e-10
"""Bound of a deterministic run of up to 20 steps on one machine."""
TRAINED = 1e-6
"""Bound of five steps of training, of learning or of Monte Carlo on one machine."""

DOUBLE = 1e-8
"""Portable bound of a deterministic run in f64: 1e-16 of every sum, some 1e3 operations
deep, over quantities that cancel to 1e-3 of their parts. Measured: up to 1.2e-10."""
SINGLE = 2e-4
"""The same in f32, with closures whose weights are, and of Adam in f32 whose first steps
divide a gradient by its own size. Measured: up to 1.2e-5."""
SAMPLED = 5e-3
"""Of Monte Carlo and of learning that chooses: a move or a sample near the threshold may
go the other way. Measured: up to 2.9e-4."""
CERTIFIED = 1e-3
"""Of runs that hold gradients against finite differences: at the shortest step (1e-7 of a
parameter and less) these keep few digits. Measured: up to 5e-6."""
BASIS = 0.5
"""Of SOAP's and of a committee's first steps: the gradient of one step has a null space,
whose basis is that of the round-off, and axes of a principal component analysis have no
sign. Measured: up to 0.14. It catches blunders only: ``tolerance`` is what counts."""
NAMES_ONLY = math.inf
"""Of drifts of energy under potentials trained so: they are small differences of what
``BASIS`` lets move. Measured: up to 0.7. Elsewhere only the names of the norms are held."""
CHOSEN = ("data.zarr/decisions/", "data.zarr/feature_map/")
"""What a loop writes of the frames that it chose: where a committee trained so chooses,
another processor may choose other frames, whose numbers are not these (0.9 off)."""


@dataclass(frozen=True)
class Shortened:
    """How a scenario is made short.

    Attributes:
        settings: ``key=value`` as of ``engine run --set``.
        tolerance: largest relative change of a norm on the machine of the record.
        portable: largest relative change on any processor.
        slow: whether it takes more than a few seconds even so.
        needs: modules, or folders beside the checkout (with a slash), without which it
            cannot run.
    """

    settings: tuple[str, ...]
    tolerance: float = EXACT
    portable: float = DOUBLE
    slow: bool = False
    needs: tuple[str, ...] = ()


def _md(*more: str) -> tuple[str, ...]:
    return (
        "run.steps=20", "output.thermo_every=2", "output.trajectory_every=5",
        "output.average_from=10", *more,
    )  # fmt: skip


_AFTER = "start=8,every=4"
# in f32 five natural-gradient steps make percents of the last digit: f64 where they do
_WALKERS = ("sampling.walkers=32", "sampling.burn_in=2", "evaluation.sweeps=10")
_PLANE = ("time.frames=2", "grid.cells=[16,16]")
_SMALL_CLOSURE = (
    "initial.count=4", "grid.cells=[20]", "model.refine=1", "model.nodes=[36]",
    "time.end=0.02", "time.frames=2", "time.compared=[0.01,0.02]",
)  # fmt: skip
_TINY_MODEL = (
    "model.channels=4", "model.axis=2", "model.products=2", "model.fitting=[8]",
)  # fmt: skip


_SMALL_EXPANSION = (
    "model.network.degrees=[5.0,5.0,4.0]", "model.network.members=2",
)  # fmt: skip


def _tiny_loop(batch: int = 4, audit: int = 1) -> tuple[str, ...]:
    sizes = f"batch.size={batch}", f"audit.frames={audit}"
    return "rounds=1", "training.steps=5", *sizes, *_TINY_MODEL


_FIVE = ("steps=5", "report_every=5", "checkpoint_every=5")

_PARTICLES = (
    "model.particles=20", "time.frames=2", "time.blocks=4", "time.sample_every=1",
)  # fmt: skip
_WALLS = ("grid.cells=[10]", "time.end=0.1", "time.average_from=0.02", *_PARTICLES)
_STEEP = (
    "grid.cells=[20]", "grid.lower=[-5.0]", "grid.upper=[5.0]", "time.end=0.8",
    "time.average_from=0.2", *_PARTICLES,
)  # fmt: skip

_CHAIN = (
    "shock.mach=[2.0]", "shock.cells=60", "shock.nodes=40", "shock.extent=12.0",
    "shock.settling=800", "shock.particles.mach=[2.0]", "shock.particles.settling=100",
    "shock.particles.steps=640", "shock.particles.per_free_path=400",
    "transport.temperatures=[500.0]", "transport.quantum=false",
    "transport.confirm=[500.0]", "transport.pairs=512", "shock.particles.wall=0.0",
)  # fmt: skip

_CHANNEL = ("grid.cells=[8]", "model.nodes=[16,10]", "time.end=0.05", "time.frames=2")
_TUBE = ("grid.cells=[50]", "time.frames=2")

SHORT: dict[str, Shortened] = {
    "argon_shock": Shortened(_CHAIN, slow=True, portable=CERTIFIED),
    "helium_shock": Shortened(
        (*_CHAIN, "labels.labeler={kind='published'}"), slow=True, portable=CERTIFIED
    ),
    "helium_vmc_shock": Shortened(
        (
            "labels.labeler={kind='published'}", "labels.far.labeler={kind='published'}",
            "shock.cells=60", "shock.nodes=40", "shock.extent=12.0", "shock.settling=800",
            "transport.temperatures=[1000.0]", "transport.quantum=false",
        ),
        slow=True, portable=CERTIFIED,
    ),
    "argon_table_shock": Shortened(
        ("grid.cells=[48]", "model.nodes=[32]", "compare.0.nodes=[32]", "time.end=0.5",
         "time.frames=2"),
        slow=True,
    ),
    "argon_dsmc_shock": Shortened(_STEEP, portable=SINGLE, slow=True),
    "dsmc_couette": Shortened(_WALLS, portable=SINGLE),
    "dsmc_cylinder": Shortened(
        ("grid.cells=[30,20]", "time.end=0.3", "time.average_from=0.1", *_PARTICLES),
        portable=SINGLE,
    ),
    "dsmc_fourier": Shortened(_WALLS, portable=SINGLE),
    "dsmc_mixture_shock": Shortened(_STEEP, portable=SINGLE),
    "dsmc_thermal_diffusion": Shortened(_WALLS, portable=SINGLE, slow=True),
    "ohwada_shock": Shortened(_STEEP, portable=SINGLE),
    "argon_coupled_shock": Shortened(
        (
            "grid.cells=24", "grid.nodes=24", "time.end=0.5", "time.frames=2",
            "collisions.pairs=16", "collisions.replicas=4", "collisions.noise=0.05",
            "cache.tolerance=0.08", "upstream.mach=1.4", "table.lowest=280.0",
            "table.highest=500.0",
        ),
        slow=True,
    ),
    "argon_nve": Shortened(
        _md(
            "structure.cells=5", f"output.rdf=[{{name='after',r_max=12.0,{_AFTER}}}]",
        ),
    ),
    "closure_2d": Shortened(
        (
            "initial.count=2", "grid.cells=[8,8]", "model.refine=2", "model.nodes=[16,16]",
            "time.end=0.02",
            "time.frames=2", "time.compared=[0.01,0.02]",
        ),
        portable=SINGLE,
    ),
    "closure_3v_train": Shortened(
        (
            "families=[{name='wave',flows=4,until=0.02}]", "cells=20", "velocities=24",
            "steps=5", "batch=8", "validation=0.25", "model.hidden=[8]",
        ),
        TRAINED, SINGLE,
    ),
    "closure_in_the_loop": Shortened(
        (
            "flows=4", "held_out=4", "cells=20", "refinement=1", "velocities=36",
            "until=0.2", "regression=3", "steps=2", "batch=2", "horizons=[1,2]",
        ),
        TRAINED, SINGLE, slow=True,
    ),
    "closure_local_train": Shortened(
        (
            "families=[{name='wave',flows=4,until=0.05},{name='wide',flows=4,until=0.05}]",
            "members=2", "cells=20", "refinement=1", "velocities=36", "steps=5",
            "rolled=3", "polish=2", "batch=8", "validation=0.25",
        ),
        TRAINED, SINGLE,
    ),
    "closure_mix": Shortened(_SMALL_CLOSURE, portable=SINGLE, slow=True),
    "closure_moments": Shortened(
        (
            "families=[{name='wave',flows=8,until=0.05},{name='mix',flows=8,until=0.05}]",
            "latents=[1,3]", "steps=5", "cells=20", "velocities=36", "samples=200",
            "batch=50",
        ),
        TRAINED, SINGLE,
    ),
    "closure_refine": Shortened(
        (
            "families=[{name='wave',flows=4,until=0.2}]", "members=1",
            "begin=['models/closure_local_0.safetensors']", "cells=20", "velocities=36",
            # f32: a step of least squares makes 4e-4 of the last digit
            "refined=1", "validation=0.25", "precision=f64",
        ),
        TRAINED, SINGLE,
    ),
    "closure_shock_train": Shortened(
        (
            "mach=[1.5,2.5]", "moving=[1.7]", "held_out=[2.0]", "cells=40",
            "velocities=48", "samples=50", "steps=5", "members=1",
        ),
        TRAINED, SINGLE,
    ),
    "closure_train": Shortened(
        (
            "families=[{name='wave',flows=4,until=0.05},{name='mix',flows=4,until=0.05}]",
            "members=2", "cells=20", "refinement=1", "velocities=36", "steps=5",
            "rolled=3", "polish=2", "batch=8", "validation=0.25",
        ),
        TRAINED, SINGLE,
    ),
    "closure_transition": Shortened(_SMALL_CLOSURE, portable=SINGLE, slow=True),
    "closure_walls": Shortened(
        ("grid.cells=[20]", "model.nodes=[40]", "time.end=0.02", "time.frames=2"),
        portable=SINGLE,
    ),
    "closure_wave": Shortened(_SMALL_CLOSURE, portable=SINGLE),
    "couette": Shortened(
        (
            "knudsen=[0.1,3.0]", "grid.cells=[16]", "model.nodes=[16,8]",
            "time.end=0.08", "time.frames=2",
        ),
    ),
    "deep_ritz": Shortened(("points=200", "iterations=5"), TRAINED, SINGLE),
    "elt_closure": Shortened(
        (
            "rounds=1", "initial=1", "members=2", "audit.frames=1", "explorer.flows=4",
            "explorer.until=0.01", "explorer.cells=40", "training.steps=5", "batch.size=2",
            "network.hidden=[8]", "network.reach=[0.03]", "labeler.velocities=36",
            "explorer.families=['wave','jump']",
        ),
        TRAINED, SAMPLED,
    ),
    "elt_copper": Shortened(
        (*_tiny_loop(), "initial=1", "explorer.steps=10"), TRAINED, BASIS, slow=True
    ),
    "elt_h4": Shortened(
        (
            *_tiny_loop(2, 0), "initial=1", "explorer.steps=5", "labeler.basis='sto-3g'",
            "execution={kind='serial'}",
        ),
        TRAINED, BASIS,
        needs=("pyscf",),
        slow=True,
    ),
    "elt_lih_vmc": Shortened(
        (
            *_tiny_loop(1, 0), "initial=1", "explorer.steps=5", "labeler.walkers=16",
            "labeler.first_iterations=3", "labeler.iterations=1",
            "start=[{name='bond',temperatures=[1000],structure={kind='molecule',"
            "symbols=['Li','H'],positions=[[0.0,0.0,0.0],[1.6,0.0,0.0]]}}]",
        ),
        TRAINED, BASIS,
        slow=True,
        needs=("pyscf",),
    ),
    "elt_silicon": Shortened(
        (*_tiny_loop(), "initial=1", "explorer.steps=10"), TRAINED, BASIS, slow=True
    ),
    "fourier": Shortened(
        (
            "knudsen=[0.1,3.0]", "grid.cells=[16]", "model.nodes=[24]",
            "time.end=0.08", "time.frames=2",
        ),
    ),
    "isentropic_vortex": Shortened((*_PLANE, "time.end=0.5")),
    "kelvin_helmholtz": Shortened((*_PLANE, "time.end=0.1")),
    "label_water_clusters": Shortened(
        (
            "clusters.frames=[2,2]", "clusters.walks=2", "clusters.warm=2",
            "clusters.stride=2", "labeler.basis='sto-3g'", "labeler.grid=0",
        ),
        needs=("pyscf", "tblite"),
    ),
    "learn_lj_from_rdf": Shortened(
        (
            "cells=2", "replicas=2", "melting=10", "settling=5", "frames=3", "interval=3",
            "rounds=1", "r_max=5.8", "cutoff=5.5",
        ),
        portable=CERTIFIED,
    ),
    "learn_thickness": Shortened(
        (
            "mach=[1.6]", "errors=[0.01]", "cells=48", "nodes=36", "extent=12.0",
            "settling=400", "iterations=1",
        ),
        slow=True,
        portable=CERTIFIED,
    ),
    "learn_viscosity": Shortened(
        (
            "temperatures=[300.0,400.0,600.0]", "viscosities=[22.7,28.6,38.8]",
            "iterations=2",
        ),
        slow=True,
        portable=CERTIFIED,
    ),
    "lid_cavity": Shortened(
        ("grid.cells=[8,8]", "model.nodes=[10,10]", "time.end=0.1", "time.frames=2"),
    ),
    "molybdenum_fit": Shortened(
        (*_SMALL_EXPANSION, "model.network.cutoff=4.6"),
        TRAINED, BASIS,
        needs=("shared/data/mlearn/Mo",), slow=True),
    "molybdenum_train": Shortened(
        (*_FIVE, "model.members=2", *_TINY_MODEL),
        TRAINED, BASIS,
        slow=True,
        needs=("shared/data/mlearn/Mo",),
    ),
    "normal_shock": Shortened(
        ("grid.cells=[48]", "model.nodes=[32]", "time.end=0.5", "time.frames=2"),
    ),
    "relaxation_bkw": Shortened(("model.nodes=32", "time.end=1.0", "time.frames=5")),
    "riemann_2d": Shortened((*_PLANE, "time.end=0.1")),
    "shock_mach5p5": Shortened(
        ("grid.cells=[40]", "model.nodes=[48]", "time.end=0.05", "time.frames=1"),
        slow=True,
    ),
    "shock_sensitivity": Shortened(
        ("cells=24", "nodes=24", "extent=10.0", "settling=100"),
        slow=True,
        portable=CERTIFIED,
    ),
    "shu_osher": Shortened(("grid.cells=[64]", "time.end=0.1", "time.frames=2")),
    "silicon_elastic": Shortened(("structure.repeat=[1,1,1]",), slow=True),
    "silicon_fit": Shortened(
        (*_SMALL_EXPANSION, "model.network.cutoff=5.0"),
        TRAINED, BASIS,
        needs=("shared/data/mlearn/Si",), slow=True),
    "silicon_melt": Shortened(
        _md(
            "structure.repeat=[2,2,2]", f"output.rdf=[{{name='after',{_AFTER},r_max=5.0}}]",
            "ensemble.ramp=[[0.0,300.0],[10.0,300.0],[40.0,3000.0]]",
        ),
        slow=True,
        portable=SINGLE,
    ),
    "silicon_vacancies": Shortened(
        _md(
            "structure.repeat=[2,2,2]", "structure.vacancies=1",
            f"output.rdf=[{{name='hot',{_AFTER},r_max=5.0}}]",
            "ensemble.ramp=[[0.0,300.0],[10.0,300.0],[40.0,1400.0]]",
        ),
        slow=True,
        portable=SINGLE,
    ),
    "silicon_npt": Shortened(_md("structure.repeat=[2,2,2]")),
    "silicon_sw": Shortened(
        _md("structure.repeat=[2,2,2]", f"output.rdf=[{{name='all',{_AFTER},r_max=5.0}}]"),
    ),
    "silicon_train": Shortened(
        (
            *_FIVE, "model.network.members=2",
            *(setting.replace("model.", "model.network.") for setting in _TINY_MODEL),
        ),
        TRAINED, BASIS,
        needs=("shared/data/mlearn/Si",),
        slow=True,
    ),
    "sod": Shortened(
        (
            "knudsen=[1e-3,0.1,10.0]", "grid.cells=[32]", "model.nodes=[24]",
            "time.end=0.03", "time.frames=2",
        ),
    ),
    **{f"toro{n}": Shortened(_TUBE) for n in range(1, 6)},
    "blast": Shortened((*_TUBE, "time.end=0.004", "compare=[]")),
    "sedov_2d": Shortened(("grid.cells=[24,24]", "time.end=0.1", "time.frames=2")),
    "sedov_3d": Shortened(("grid.cells=[12,12,12]", "time.end=0.05", "time.frames=2")),
    "bow_shock": Shortened(("grid.cells=[24,32]", "time.end=0.1", "time.frames=2")),
    "oblique_shock": Shortened(("grid.cells=[24,16]", "time.end=0.1", "time.frames=2")),
    "sphere": Shortened(("grid.cells=[16,8,8]", "time.end=0.1", "time.frames=2")),
    **{
        f"cylinder_{part}": Shortened(
            (f"grid.cells={cells}", "model.nodes=[24,16]", "time.end=0.02", "time.frames=2")
        )
        for part, cells in (("free", "[16,8]"), ("rarefied", "[18,12]"))
    },
    "noh": Shortened(("grid.cells=[24,24]", "time.end=0.6", "time.frames=2")),
    "hydrostatic": Shortened(
        ("grid.cells=[12]", "model.nodes=[24]", "time.end=0.1", "time.frames=2")
    ),
    **{f"poiseuille{part}": Shortened(_CHANNEL) for part in ("", "_slip", "_free")},
    "taylor_green_2d": Shortened(
        ("grid.cells=[12,12]", "time.end=0.1", "time.frames=2"),
    ),
    "taylor_green_3d": Shortened(
        ("grid.cells=[8,8,8]", "time.end=0.1", "time.frames=2"),
        slow=True,
    ),
    "thermal_creep": Shortened(
        ("knudsen=[0.3]", "grid.cells=[8,12]", "time.end=0.1", "time.frames=2"),
    ),
    "double_mach": Shortened(("grid.cells=[48,16]", "time.end=0.02", "time.frames=2")),
    "rayleigh_taylor": Shortened(
        ("grid.cells=[12,24]", "time.end=0.2", "time.frames=2")
    ),
    "sound_wave": Shortened(
        (
            "knudsen=[0.032,0.16]", "grid.cells=[32]", "model.nodes=[24]",
            "time.end=0.03", "time.frames=3",
        ),
    ),
    "symmetry": Shortened(
        (
            "temperatures=[900]", "sizes=[2]", "test=4", "steps=2", "batch=2",
            "conservation={time_steps=[2.0],picoseconds=0.02,replicas=1}",
        ),
        TRAINED, NAMES_ONLY,
    ),
    "vmc_beryllium": Shortened(
        (*_WALKERS, "iterations=5", "precision=f64"),
        TRAINED,
        SAMPLED,
        needs=("pyscf",),
        slow=True,
    ),
    "vmc_h10": Shortened(
        (*_WALKERS, "iterations=5", "precision=f64"),
        TRAINED, SAMPLED,
        needs=("pyscf",), slow=True),
    "vmc_h2_curve": Shortened(
        (
            *_WALKERS, "first_iterations=3", "iterations=2", "precision=f64",
            "points=[{coordinate=1.4,positions=[[0.0,0.0,-0.7],[0.0,0.0,0.7]]},"
            "{coordinate=1.0,positions=[[0.0,0.0,-0.5],[0.0,0.0,0.5]]}]",
        ),
        TRAINED, SAMPLED,
        needs=("pyscf",),
        slow=True,
    ),
    "vmc_electron_gas": Shortened(
        (*_WALKERS, "iterations=5", "precision=f64"), TRAINED, SAMPLED,
    ),
    "vmc_h4_square": Shortened(
        (
            *_WALKERS, "first_iterations=3", "iterations=1", "precision=f64",
        ),
        TRAINED, SAMPLED,
        slow=True,
        needs=("pyscf",),
    ),
    "vmc_heisenberg": Shortened(
        (*_WALKERS, "iterations=5", "system.shape=[12]"), TRAINED, SAMPLED,
    ),
    "vmc_helium": Shortened(
        (*_WALKERS, "iterations=5", "evaluation.density=8"),
        TRAINED, SAMPLED,
        needs=("pyscf",),
    ),
    "vmc_hooke": Shortened((*_WALKERS, "iterations=5"), TRAINED, SAMPLED, slow=True),
    "vmc_ising_chain": Shortened(
        (*_WALKERS, "iterations=5", "system.shape=[12]"), TRAINED, SAMPLED,
    ),
    "vmc_lih": Shortened(
        (*_WALKERS, "iterations=5", "evaluation.density=8"),
        TRAINED, SAMPLED,
        needs=("pyscf",),
    ),
    "vmc_silicon": Shortened(
        (*_WALKERS, "iterations=5"),
        TRAINED,
        SAMPLED,
        needs=("pyscf",),
    ),
    "water_clusters_train": Shortened((*_FIVE, *_TINY_MODEL), TRAINED, BASIS, slow=True),
    "water_nvt": Shortened(
        _md(
            f"output.rdf=[{{name='liquid',r_max=6.2,{_AFTER}}}]",
            f"output.adf=[{{name='liquid',reach=3.5,{_AFTER}}}]",
            "output.displacement={start=0,every=2,samples=8,spacing=2}",
        ),
    ),
    "water_train": Shortened(
        (
            *_FIVE, *_TINY_MODEL, "model.cutoff=3.0", "test=[]",
            "data=['../shared/data/deepmd_water/data/data_0']",
        ),
        TRAINED, BASIS,
        slow=True,
        needs=("shared/data/deepmd_water",),
    ),
}  # fmt: skip


# -- running -----------------------------------------------------------------------------


def run_scenario(name: str, settings: Sequence[str], folder: Path) -> None:
    """Run a shipped scenario into ``folder`` by the command line, without a report.

    Raises:
        RuntimeError: the run ended with an exit status other than 0.
    """
    from click.testing import CliRunner

    from scalebridge.engine.cli import main

    chosen = [part for setting in settings for part in ("--set", setting)]
    command = [
        "run",
        name,
        *chosen,
        "--out",
        str(folder),
        "--no-report",
        "--quiet",
        "--no-strict",
    ]
    answer = CliRunner().invoke(main, command)
    if answer.exit_code != 0:
        raise RuntimeError(f"{name}: {answer.output.strip()}") from answer.exception


def missing(name: str) -> str:
    """Return what a scenario needs and is not here, or an empty string."""
    for need in SHORT[name].needs:
        found = (
            (ROOT.parent / need).exists()
            if "/" in need
            else importlib.util.find_spec(need) is not None
        )
        if not found:
            return f"{need} is not here"
    return ""


def measure(name: str) -> dict[str, float]:
    """Run a scenario, shortened, and return its norms by name."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "run"
            run_scenario(name, SHORT[name].settings, folder)
            return norms_of(folder)
    finally:
        torch.set_num_threads(threads)


def norms_of(folder: Path) -> dict[str, float]:
    """Return the norms of a run folder by name."""
    found = dict(_summary_norms(folder))
    arrays = (*_stored_arrays(folder), *_saved_tensors(folder), *_structures(folder))
    for name, array in arrays:
        if not any(clock in name for clock in CLOCKS):
            found.update(array_norms(name, array))
    return dict(sorted(found.items()))


def _summary_norms(folder: Path) -> Iterator[tuple[str, float]]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for name, figure in summary["figures"].items():
        if not any(clock in name for clock in CLOCKS):
            yield f"figures/{name}", float(figure["value"])
            if "error" in figure:
                yield f"figures/{name}/error", float(figure["error"])
    checks = [check["name"] for check in summary["checks"]]
    yield "verdicts", float(len(checks))
    for name in checks:
        yield f"verdicts/{name}", 1.0


def _stored_arrays(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    if not (folder / "data.zarr").exists():
        return
    store = zarr.open_group(folder / "data.zarr", mode="r")
    for path, member in store.members(max_depth=None):
        # the axes of the fields are those of the profile
        if isinstance(member, zarr.Array) and path not in (
            "fields/x",
            "fields/y",
            "fields/z",
        ):
            yield f"data.zarr/{path}", np.asarray(member[...])


def _saved_tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of saved modules, and of the last state without its writers."""
    modules = [*folder.glob("*.safetensors"), *folder.glob("models/*.safetensors")]
    for path in sorted(modules):
        for tensor, values in safetensors.numpy.load_file(path).items():
            yield f"weights/{path.stem}/{tensor}", values
    for path in sorted(folder.glob("checkpoints/*.safetensors"))[-1:]:
        for tensor, values in safetensors.numpy.load_file(path).items():
            if tensor.startswith("state/"):
                yield f"checkpoint/{tensor}", values


def _structures(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what labelled sets hold: positions, energies and forces of all frames."""
    for path in sorted(folder.glob("*.extxyz")):
        frames = ase.io.read(path, ":")
        labelled = [frame for frame in frames if frame.calc is not None]
        yield f"structures/{path.stem}/positions", _joined(f.positions for f in frames)
        yield f"structures/{path.stem}/forces", _joined(f.get_forces() for f in labelled)
        energies = np.array([f.get_potential_energy() for f in labelled])
        yield f"structures/{path.stem}/energies", energies


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(part.ravel() for part in parts)])


def array_norms(name: str, array: np.ndarray) -> dict[str, float]:
    """Return size, root mean square and position-sensitive sum of an array's numbers.

    Of a single number the sum, which is the number, is enough.
    """
    if array.dtype.kind not in "fiubc":
        return {f"{name}/size": float(array.size)}
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag])
    x = array.astype(np.float64).ravel()
    finite = np.isfinite(x)
    lost = len(x) - int(finite.sum())
    x, n = np.where(finite, x, 0.0), max(len(x), 1)
    norms = {
        f"{name}/size": float(len(x)),
        f"{name}/rms": math.sqrt(float(x @ x) / n),
        f"{name}/sum": float(x @ np.cos(np.arange(len(x)))) / math.sqrt(n),
    }
    if len(x) == 1:
        del norms[f"{name}/rms"]
    return norms | ({f"{name}/nan": float(lost)} if lost else {})


# -- comparing ---------------------------------------------------------------------------


def changes(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """Return the relative change of every norm that both hold.

    It is ``|a - b| / max(|a|, |b|, floor)``. The floor is ``FLOOR``; for the
    position-sensitive sum of an array it is also the array's root mean square, of which the
    round-off of the sum is a part however far its terms cancel.
    """
    found = {}
    for key in (old.keys() & new.keys()) - set(ROUND_OFF):
        a, b = old[key], new[key]
        stem, _, kind = key.rpartition("/")
        floor = max(FLOOR, old.get(f"{stem}/rms", 0)) if kind == "sum" else FLOOR
        if a == b or (math.isnan(a) and math.isnan(b)):
            found[key] = 0.0
        else:
            change = abs(a - b) / max(abs(a), abs(b), floor)
            found[key] = change if math.isfinite(change) else math.inf
    return found


def recorded() -> dict[str, dict[str, float]]:
    """Return the recorded norms by scenario."""
    if not RECORD.exists():
        return {}
    norms = json.loads(RECORD.read_text(encoding="utf-8"))["norms"]
    return {
        name: {_today(key): value for key, value in values.items()}
        for name, values in norms.items()
    }


def _today(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


@functools.cache
def header() -> dict[str, str]:
    """Return where and of what the norms were recorded."""
    return json.loads(RECORD.read_text(encoding="utf-8"))["about"]


@functools.cache
def about() -> dict[str, str]:
    """Return what this machine, this installation and this commit are."""
    from scalebridge.engine.rundir import versions

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = {k: v for k, v in versions().items() if k != "scalebridge"}
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    parts = (line.partition(":") for line in lines)
    cpu = {key.strip(): value.strip() for key, _, value in parts}
    kind = [cpu.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    return {
        "machine": " ".join([platform.machine(), *kind]),
        "threads": os.environ.get("SCALEBRIDGE_THREADS", ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "versions": " ".join(f"{k}={v}" for k, v in found.items()),
    }


def bound(name: str, key: str) -> float:
    """Return the bound on a norm of a scenario here.

    It is ``tolerance`` where processor, packages and threads are those of the record, so
    that every sum is taken in the same order, and ``portable`` elsewhere.
    """
    here, there = about(), header()
    same = all(here[key] == there[key] for key in ("machine", "threads", "versions"))
    same = same and not any(map(os.environ.get, ("MKL_CBWR", "ATEN_CPU_CAPABILITY")))
    if same:
        return SHORT[name].tolerance
    chosen = SHORT[name].portable == BASIS and key.startswith(CHOSEN)
    return NAMES_ONLY if chosen else SHORT[name].portable


def record(names: Sequence[str]) -> int:
    """Run scenarios and keep their norms; return the exit status.

    Scenarios that are not named keep their norms, so record a part only on the machine of
    the rest: the record has one header.
    """
    kept, failed = recorded(), 0
    for name in names:
        begun = time.process_time()
        try:
            kept[name] = measure(name)
        except RuntimeError as error:
            failed += 1
            print(error, flush=True)
            continue
        seconds = time.process_time() - begun
        print(f"{name:24s} {seconds:6.2f} s {len(kept[name]):5d} norms", flush=True)
    RECORD.parent.mkdir(exist_ok=True)
    blocks = ",\n".join(
        f"{json.dumps(name)}:{{\n"
        + ",\n".join(f"{json.dumps(k)}:{_written(v)}" for k, v in kept[name].items())
        + "}"
        for name in sorted(kept)
    )
    text = f'{{"about": {json.dumps(about(), indent=1)},\n"norms": {{\n{blocks}\n}}}}\n'
    RECORD.write_text(text, encoding="utf-8")
    return min(failed, 1)


def _written(value: float | str) -> str:
    """Return JSON with no more digits than a bound looks at."""
    short = float(f"{value:.13g}") if isinstance(value, float) else value
    return json.dumps(short).removesuffix(".0")


def compare(names: Sequence[str]) -> int:
    """Run scenarios and print how far their norms moved; return the exit status."""
    old, status = recorded(), 0
    for name in names:
        begun, new = time.process_time(), measure(name)
        moved = changes(old.get(name, {}), new)
        worst = max(moved, key=lambda key: moved[key], default="")
        change, bound = moved.get(worst, math.inf), SHORT[name].tolerance
        status |= change > bound
        seconds = time.process_time() - begun
        mark = f"{'ok' if change <= bound else 'MOVED':5s} {seconds:6.2f} s"
        print(f"{name:24s} {change:9.2e} of {bound:.0e} {mark}  {worst}")
        if change > bound:
            _tell(moved, bound)
        for word, keys in (
            ("missing", old.get(name, {}).keys() - new.keys()),
            ("new", new.keys() - old.get(name, {}).keys()),
        ):
            status |= word == "missing" and bool(keys)
            if keys:
                print(f"  {word}: {', '.join(sorted(keys))}")
        sys.stdout.flush()
    return int(status)


def _tell(moved: Mapping[str, float], bound: float) -> None:
    above = sorted((k for k in moved if moved[k] > bound), key=lambda key: -moved[key])
    print(f"  {len(above)} of {len(moved)} above: ", end="")
    print(", ".join(f"{key} {moved[key]:.1e}" for key in above[:6]))


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("names", nargs="*", help="scenarios; all by default")
    chosen = parser.parse_args()
    names = []
    for name in chosen.names or SHORT:
        if reason := missing(name):
            print(f"{name:24s} skipped: {reason}")
        else:
            names.append(name)
    return (record if chosen.what == "record" else compare)(names)


if __name__ == "__main__":
    sys.exit(main())
