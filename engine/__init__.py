"""Simulators, the learning loop and the command line."""

import contextlib
import ctypes
import os

# Threads of torch that wait by spinning take the cores from the kernels' own threads
# (thirty times slower on a busy machine); read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_memory() -> None:
    """Let the C library keep what arrays leave, up to 256 MiB, for those that come.

    glibc gives it back, and the system clears every page of the next array, which takes
    longer than what torch computes in it: half the time of steps that make temporaries of
    some MiB. Other C libraries stay as they are.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of <malloc.h>
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 64 << 20)
        library.mallopt(trim_threshold, 256 << 20)


_keep_memory()
