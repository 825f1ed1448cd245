"""Device, precision, seeds, and the one place that imports Taichi.

``ti`` is Taichi, or its fork Quadrants when ``SCALEBRIDGE_KERNELS=quadrants``. Kernels may
be *defined* at import; :func:`start` must run before the first *launch*, and every op
calls it. A process initialises Taichi once: a second ``ti.init`` drops compiled kernels
and crashes on old data, so asking for another device later is an error.
"""

import contextlib
import importlib
import io
import os
import threading
from types import ModuleType

import torch

from .errors import EngineError, InputError

_KERNELS = os.environ.get("SCALEBRIDGE_KERNELS", "taichi")


def _import_kernel_language() -> ModuleType:
    os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "False")
    if _KERNELS not in ("taichi", "quadrants"):
        raise InputError(f"SCALEBRIDGE_KERNELS={_KERNELS}: allowed are taichi, quadrants")
    try:
        return importlib.import_module(_KERNELS)
    except (ImportError, OSError) as error:
        if "libX11" in str(error):
            raise EngineError(
                "Taichi needs the system library libX11 even without a screen; "
                "install it: apt-get install libx11-6 (Fedora: dnf install libX11)"
            ) from error
        raise


ti = _import_kernel_language()

_lock = threading.Lock()
_started: str | None = None


def threads() -> int:
    """Number of CPU threads for torch and for the kernels (``SCALEBRIDGE_THREADS``)."""
    return int(os.environ.get("SCALEBRIDGE_THREADS") or len(os.sched_getaffinity(0)))


def start(device: torch.device | str = "cpu") -> None:
    """Initialise the kernel language for ``device``; later calls are free.

    Raises:
        InputError: no CUDA device, or the process already runs on another kind of device.
    """
    global _started
    kind = torch.device(device).type
    if _started == kind:
        return
    with _lock:
        if _started == kind:
            return
        if _started is not None:
            raise InputError(
                f"device: this process already runs on {_started}; start another for {kind}"
            )
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError("device: cuda is not available here; allowed: cpu")
        torch.set_num_threads(threads())
        with contextlib.redirect_stdout(io.StringIO()):  # it announces itself otherwise
            ti.init(
                arch=ti.cuda if kind == "cuda" else ti.cpu,
                default_fp=ti.f64,
                cpu_max_num_threads=threads(),
                offline_cache=True,
                log_level=ti.ERROR,
                random_seed=0,
            )
        _started = kind


def check_memory(numbers: float, dtype: torch.dtype, what: str) -> None:
    """Refuse what cannot fit into the memory of the host.

    Args:
        numbers: how many are held at once.
        dtype: of each.
        what: names them in the message.

    Raises:
        InputError: they take more than the machine has.
    """
    needed, page = numbers * dtype.itemsize, os.sysconf("SC_PAGE_SIZE")
    present = page * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise InputError(
            f"{what} need {needed / 2**30:.3g} GiB of memory; {present / 2**30:.3g} present"
        )


def dtype_of(precision: str) -> torch.dtype:
    """Return the torch dtype of ``"f32"`` or ``"f64"``."""
    return {"f32": torch.float32, "f64": torch.float64}[precision]


def generator(
    seed: int, stream: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator on ``device`` for one ``stream`` of a seed.

    Streams are independent; another kind of device draws other numbers.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9) % (1 << 63)
    return torch.Generator(device).manual_seed(mixed)
