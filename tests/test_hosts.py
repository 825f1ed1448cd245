"""The engine in programs of others: threads, forks, their Taichi, their torch settings.

Each case is a process of its own, because what it changes is the process's.
"""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from processes import python

from scalebridge.engine.errors import InputError
from scalebridge.engine.runtime import _unlock, threads

PRELUDE = """
import numpy as np
from pathlib import Path
from scalebridge import scenarios

def atoms(n):
    from ase.build import bulk
    found = bulk("Si", cubic=True).repeat(n)
    found.rattle(0.05, seed=3)
    return found

def classical(n=1):
    from scalebridge.engine.interop.ase import PotentialCalculator
    from scalebridge.engine.md.classical import StillingerWeber
    found = atoms(n)
    found.calc = PotentialCalculator(StillingerWeber())
    return found.get_potential_energy(), float(np.abs(found.get_forces()).max())

def learned():
    from scalebridge.engine.interop.ase import PotentialCalculator
    from scalebridge.engine.md.learned import load_potential
    found = atoms(1)
    model = Path(scenarios.__file__).parent / "models/silicon"
    found.calc = PotentialCalculator(load_potential(model))
    return found.get_potential_energy(), float(np.abs(found.get_forces()).max())

def steps():
    from scalebridge.engine.interop.host import Host
    host = Host.open("silicon_sw", ["structure.repeat=[2,2,2]"]).step(3)
    host.put("positions", host.array("positions"))
    return float(host.observe()["total_energy"]), float(host.state.positions.sum())

def world():
    import scalebridge as sb
    from scalebridge.engine.md.integrators import Langevin, Schedule
    path = Path(scenarios.__file__).parent / "models/silicon"
    potential = sb.load_potential(path)
    start = sb.from_atoms(atoms(1), potential.species, seed=1)
    bath = Langevin(Schedule.constant(300.0), 100.0)
    world = sb.MolecularDynamics(potential, bath, start, 1.0, temperature=(300.0,))
    state = world.step(world.init())
    return float(world.observe(state)["total_energy"])

def everything():
    return classical(), learned(), steps(), world()
"""


HOST = """
import taichi as host
host.init(arch=host.cpu, default_fp=host.f32, log_level=host.ERROR)
x = host.field(host.f32, shape=8)
@host.kernel
def fill(scale: host.f32):
    for i in x:
        x[i] = i * scale
fill(2.0)
"""


def run(body: str, *flags: str, cache: bool = True, environment: Any = None) -> str:
    """Run a program; return what it printed last."""
    code = PRELUDE + textwrap.dedent(body).replace("HOST\n", HOST)
    environment = {**os.environ, "SCALEBRIDGE_THREADS": "1", **(environment or {})}
    if not cache:
        environment["TI_OFFLINE_CACHE"] = "0"
    with tempfile.TemporaryDirectory() as folder:
        # a file, because kernels are compiled from their source
        program = Path(folder, "host.py")
        program.write_text(code)
        if flags:
            done = subprocess.run(
                [sys.executable, *flags, program], capture_output=True, text=True,
                timeout=300, env=environment, check=False,
            )  # fmt: skip
        else:
            done = python(program, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def right() -> str:
    return run("print(everything())")


@pytest.mark.parametrize("cache", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_first_use_from_several_threads_at_once(cache):
    printed = run(
        """
        import threading
        found = {}
        def work(k):
            found[k] = classical(), learned()
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert sorted(found) == [0, 1, 2, 3]
        assert len(set(found.values())) == 1
        print(found[0] == (classical(), learned()))
        """,
        cache=cache,
    )
    assert printed == "True"


def test_a_fork_after_the_start_is_refused_and_one_before_works():
    printed = run(
        """
        import multiprocessing
        def energy(k):
            return classical()
        fork = multiprocessing.get_context("fork")
        with fork.Pool(1) as pool:
            before = pool.map_async(energy, [0]).get(timeout=120)
        classical()
        try:
            with fork.Pool(1) as pool:
                pool.map_async(energy, [0]).get(timeout=60)
        except Exception as error:
            print(type(error).__name__, error, before[0] == classical())
        """
    )
    assert "EngineError" in printed and "spawn" in printed and printed.endswith("True")


def test_a_host_that_initialised_taichi_keeps_its_kernels(right):
    printed = run(
        """
        HOST
        found = everything()
        fill(3.0)
        assert x[3] == 9.0
        print(found)
        """
    )
    assert printed == right


def test_a_host_that_initialises_taichi_later_changes_no_sum(right):
    printed = run(
        """
        large = classical(8)
        HOST
        fill(3.0)
        found = everything()
        assert classical(8) == large, (classical(8), large)
        fill(3.0)
        assert x[3] == 9.0
        print(found)
        """
    )
    assert printed == right


def test_the_lock_of_a_killed_process_is_taken_away(tmp_path):
    """Kernels are kept in spite of it; one that is held now is waited for, and left."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    lock = folder / "ticache.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    place = {**os.environ, "TI_OFFLINE_CACHE_FILE_PATH": str(folder)}
    done = python("-c", PRELUDE + "classical()", env=place)
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("*.tic")) and not lock.exists()
    lock.touch()
    _unlock(folder, patience=0.1)
    assert lock.exists()


def test_without_a_folder_that_can_be_written_to(right):
    """Kernels are compiled anew then; Taichi alone crashes when the process ends."""
    place = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "TMPDIR": "/proc/none"}
    printed = run("print(classical())", environment=place)
    assert right.startswith(f"({printed}")


@pytest.mark.parametrize("given", ["0", "-1", "two"])
def test_a_number_of_threads_that_is_none(given, monkeypatch):
    monkeypatch.setenv("SCALEBRIDGE_THREADS", given)
    with pytest.raises(InputError, match=f"SCALEBRIDGE_THREADS={given}: allowed are 1"):
        threads()


SETTINGS = (
    "torch.set_default_dtype(torch.float16)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_device('meta')",
    "torch.inference_mode().__enter__()",
    "torch.no_grad().__enter__()",
    "torch.autograd.set_detect_anomaly(True)",
)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("; ".join((SETTINGS[0], *SETTINGS[2:4], SETTINGS[5])), id="together"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in SETTINGS),
    ],
)
def test_settings_of_torch_change_nothing(setting, right):
    printed = run(
        f"""
        import torch
        {setting}
        before = torch.get_default_dtype(), torch.get_default_device()
        found = everything()
        assert before == (torch.get_default_dtype(), torch.get_default_device())
        print(found)
        """
    )
    assert printed == right


def test_inside_a_running_event_loop_with_warnings_as_errors(right):
    body = """
        import asyncio
        async def main():
            return everything()
        print(asyncio.run(main()))
        """
    assert run(body, "-W", "error") == right


@pytest.mark.parametrize(
    "work", ["classical(3)", pytest.param("host.step(1)", marks=pytest.mark.slow)]
)
def test_the_interpreter_ends_while_a_daemon_thread_steps(work):
    body = f"""
    import threading, time
    from scalebridge.engine.interop.host import Host
    host = Host.open("silicon_sw", ["structure.repeat=[2,2,2]"])
    begun = threading.Event()
    def forever():
        while True:
            {work}
            begun.set()
    threading.Thread(target=forever, daemon=True).start()
    assert begun.wait(60)
    print("end")
    """
    for _ in range(2):
        assert run(body).endswith("end")
