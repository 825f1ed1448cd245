"""Labels on a local Dask cluster of which a worker is killed: none may be lost."""

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from scalebridge.engine.interop.cluster import local_dask
from scalebridge.engine.learn import execution
from scalebridge.engine.learn.label_store import LabelStore, identity

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))


def labels_lost(count: int = 40, seconds: float = 0.1) -> tuple[int, int]:
    """Return how many labels were asked for, and how many are wrong or missing."""
    import learn_toy as toy

    points = [toy.Point(0.01 * (k + 1)) for k in range(count)]
    teacher = toy.Teacher(seconds)
    with tempfile.TemporaryDirectory() as place, local_dask(2) as address:
        store = LabelStore(Path(place), identity(teacher), toy.POINTS, toy.VALUES)
        killer = threading.Thread(target=_kill_one_worker, args=(store, count // 4))
        killer.start()
        with execution.opened(execution.Dask(address)) as line:
            execution.label_all(line, store, teacher, points, attempts=5)
        killer.join()
        entries = [store.get(store.key(point)) for point in points]
        lost = sum(
            entry is None or entry.label != toy.truth(point.x)
            for point, entry in zip(points, entries, strict=True)
        )
        return count, lost + store.repeated()


def _kill_one_worker(store: LabelStore, after: int) -> None:
    """Kill the process that wrote to the store last, once ``after`` labels are there."""
    log = store.folder / "log.txt"
    end = time.monotonic() + 120
    while time.monotonic() < end:
        lines = log.read_text().splitlines() if log.exists() else []
        if sum(" done " in line for line in lines) >= after:
            process = int(lines[-1].split()[1])
            if process != os.getpid():
                os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.01)


if __name__ == "__main__":
    print("asked {}, lost {}".format(*labels_lost()))
