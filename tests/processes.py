"""Processes of Python in which the packages of others are imported already.

A fresh interpreter needs seconds for torch, Taichi and SciPy. :func:`python` forks a
server that has imported them, and nothing of this project: the fork has its own
environment, folder and standard streams, and imports the project by itself.
"""

import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

PACKAGES = (
    "ase.build", "ase.io", "click", "h5py", "matplotlib.pyplot", "numpy", "pydantic",
    "rich.console", "safetensors.torch", "scipy.integrate", "scipy.optimize",
    "scipy.special", "taichi", "torch", "zarr",
)  # fmt: skip


def python(
    *words: object,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS``: ``-m MODULE``, ``-c CODE`` or a file, and arguments.

    Args:
        words: of the command line.
        env: its whole environment; this process's by default.
        cwd: its folder; this process's by default.
        timeout: seconds after which it is killed, which is a status of -9.
    """
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("out", "err")]
        asked = {
            "words": [str(word) for word in words],
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()),
            "streams": [str(path) for path in streams],
        }
        server = _server(os.getpid())
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps(asked), file=server.stdin, flush=True)
        child = int(server.stdout.readline())
        killer = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
        killer.start()
        status = int(server.stdout.readline())
        killer.cancel()
        out, err = (path.read_text() for path in streams)
    return subprocess.CompletedProcess(words, status, out, err)


@functools.cache
def _server(parent: int) -> subprocess.Popen[str]:
    """The server of this process, which ends with it."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MPLBACKEND": "Agg", "ENABLE_TAICHI_HEADER_PRINT": "False"},
    )


def serve() -> None:
    """Fork for every line on the standard input; a fork returns as what it became."""
    for name in PACKAGES:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            return _become(asked)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def _become(asked: dict) -> None:
    """Be the process that was asked for, to its end."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(asked["streams"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    first, *rest = asked["words"]
    places = [p for p in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:1] = ["" if first in ("-m", "-c") else str(Path(first).parent), *places]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"]
        main.__dict__.pop("__file__", None)
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve()
