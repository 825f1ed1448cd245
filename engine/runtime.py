"""Device, precision, seeds, and the one place that imports Taichi.

``ti`` is Taichi, or its fork Quadrants when ``SCALEBRIDGE_KERNELS=quadrants``. Kernels may
be *defined* at import; :func:`start` must run before the first *launch*, and every op
calls it. A process initialises Taichi once: a second ``ti.init`` drops compiled kernels
and crashes on old data, so asking for another device later is an error.
"""

import atexit
import contextlib
import functools
import importlib
import io
import math
import operator
import os
import pathlib
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from .errors import EngineError, InputError

HERE = str(pathlib.Path(__file__).parent) + os.sep
"""Where the kernels of this package are."""

_KERNELS = os.environ.get("SCALEBRIDGE_KERNELS", "taichi")


def _import_kernel_language() -> ModuleType:
    os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "False")
    if _KERNELS not in ("taichi", "quadrants"):
        raise InputError(f"SCALEBRIDGE_KERNELS={_KERNELS}: allowed are taichi, quadrants")
    # it calls what Python deprecates; a host that turns warnings into errors lives on
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=_KERNELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(_KERNELS)
    except (ImportError, OSError) as error:
        if "libX11" in str(error):
            raise EngineError(
                "Taichi needs the system library libX11 even without a screen; "
                "install it: apt-get install libx11-6 (Fedora: dnf install libX11)"
            ) from error
        raise


_language = _import_kernel_language()


def _name_places_by_their_line(notes: Any) -> None:
    """Let Taichi say by its line alone where an expression of this package stands.

    It draws every expression that it compiles, over and again in loops that it unrolls, in
    case it fails: with compiled kernels at hand that was a third of the time to the first
    step. The kernels of a host keep their drawings.

    Args:
        notes: the class of the compiler's notes of a kernel.
    """
    drawn = notes.get_pos_info

    def place(context: Any, node: Any) -> str:
        if not context.file.startswith(HERE):
            return drawn(context, node)
        line, name = node.lineno + context.lineno_offset, context.func.func.__name__
        return f'File "{context.file}", line {line}, in {name}:\n'

    notes.get_pos_info = place


def _let_go_of_arguments(notes: Any) -> None:
    """Let Taichi not keep the arrays that a kernel was compiled for.

    It never looks at them again, and the compiler's notes refer to themselves, so that the
    arrays of every first launch stayed in memory until Python searched for such circles.

    Args:
        notes: as of :func:`_name_places_by_their_line`.
    """
    begin = notes.__init__

    def begin_without(context: Any, *given: Any, **named: Any) -> None:
        begin(context, *given, **named)
        if context.is_kernel:
            context.argument_data = None

    notes.__init__ = begin_without


if _KERNELS == "taichi":
    from taichi.lang.ast.ast_transformer_utils import ASTTransformerContext

    _name_places_by_their_line(ASTTransformerContext)
    _let_go_of_arguments(ASTTransformerContext)


def _present() -> Any:
    """Return the program of the kernel language, None before there is one."""
    runtime = _language.lang.impl.get_runtime()
    # the fork raises where nothing is initialised
    return runtime._prog if hasattr(runtime, "_prog") else runtime.prog


class _Kernel:
    """A kernel that one thread at a time launches, under this engine's settings."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.kernel = _language.kernel(function)
        self._launches = _Launches(self.kernel) if _KERNELS == "taichi" else None
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        if _forked:
            raise EngineError(_FORKED)
        _leave_to_the_end()
        with launching:
            if _present() is _program and _own:
                if self._launches is not None:
                    return self._launches(arguments)
                return self.kernel(*arguments)
            with _our_precision():
                return self.kernel(*arguments)


class _Launches:
    """Launches of one kernel that find again what was found for arguments like these.

    Taichi examines the arguments of every launch in Python, 13 us for an array, which is
    longer than a small kernel runs. Here a launch with arguments of types that were met
    before takes the compiled kernel of that time, and hands over the arrays alone that are
    not those of the last launch: 2 us for one, 0.6 us for the others. Whatever is not plain
    (an array with a gradient or a stride, on another device, beyond the range of an index,
    or of a class of its own; a result; numbers of other types) goes Taichi's way.
    """

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.taichi = kernel, kernel._primal
        self.known: dict[tuple[Any, ...], _Known] = {}
        kinds = [_kind(argument.annotation) for argument in self.taichi.arguments]
        self.count, self.plain = len(kinds), None not in kinds
        self.plain &= not self.taichi.return_type
        # argument and, templates apart, its place among those that are handed over
        given = [i for i, kind in enumerate(kinds) if kind != _TEMPLATE]
        places = [(i, (place,)) for place, i in enumerate(given)]
        numbers = _REAL, _INTEGER, _UNSIGNED
        self.templates = _chosen(kinds, _TEMPLATE)
        self.types = _chosen(kinds, *numbers)
        self.whole = _chosen(kinds, _INTEGER, _UNSIGNED)
        self.reals = [pair for pair in places if kinds[pair[0]] == _REAL]
        self.integers = [pair for pair in places if kinds[pair[0]] == _INTEGER]
        self.unsigned = [pair for pair in places if kinds[pair[0]] == _UNSIGNED]
        arrays = [pair for pair in places if kinds[pair[0]] not in numbers]
        self.plain &= bool(arrays)
        self.chosen = _taken([i for i, _ in arrays])
        self.places = [place for _, place in arrays]
        # dimensions within an element
        self.inner = [kinds[i] for i, _ in arrays]
        self.last: dict[tuple[Any, ...], _Known] = {}

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        if not self.plain or len(arguments) != self.count:
            return self.kernel(*arguments)
        # of whole tuples: beside kernels that fill the caches every line of Python is slow
        arrays = self.chosen(arguments)
        numbers = self.templates(arguments), *map(type, self.types(arguments))
        last = self.last.get(numbers)
        found = None if last is None else self._like_the_last(last, arrays)
        if found is None:
            if (
                {*map(type, arrays)} != _PLAIN
                or {*map(_IS_CPU, arrays)} != {_started == "cpu"}
                or any(map(_REQUIRES_GRAD, arrays))
                or not all(map(_Tensor.is_contiguous, arrays))
            ):
                return self.kernel(*arguments)
            kinds = [*map(_kind_of, arrays, self.inner)]
            # what the compiled kernel depends on
            key = numbers, *kinds
            found = self.known.get(key)
            if found is None:
                self.kernel(*arguments)
                if self._are_plain(arguments):
                    self.known[key] = self._compiled(arguments, kinds)
                return None
            if not all(self._handed_over(found, k, x) for k, x in enumerate(arrays)):
                return self.kernel(*arguments)
            self.last[numbers] = found
        context = found.context
        for i, place in self.reals:
            context.set_arg_float(place, float(arguments[i]))
        whole = self.whole(arguments)
        if whole != found.whole:
            for i, place in self.integers:
                context.set_arg_int(place, arguments[i])
            for i, place in self.unsigned:
                context.set_arg_uint(place, arguments[i])
            found.whole = whole
        _program.launch_kernel(found.kernel, context)
        return None

    def _like_the_last(self, last: "_Known", arrays: tuple[Any, ...]) -> "_Known | None":
        """Hand over the arrays that are not those of the last launch, if of their kinds.

        An array that was handed over may change what it holds, and where, but not its
        shape.
        """
        same = map(operator.is_, map(operator.call, last.objects), arrays)
        still = map(operator.eq, last.addresses, map(_ADDRESS, arrays))
        for k in [
            k for k, both in enumerate(zip(same, still, strict=True)) if not all(both)
        ]:
            x = arrays[k]
            if (
                type(x) is not _Tensor
                or x.is_cpu is not (_started == "cpu")
                or x.requires_grad
                or not x.is_contiguous()
                or _kind_of(x, self.inner[k]) != last.kinds[k]
                or not self._handed_over(last, k, x)
            ):
                return None
        return last

    def _handed_over(self, known: "_Known", k: int, array: torch.Tensor) -> bool:
        """Put an array into the arguments of a compiled kernel, if it is not too large."""
        address, shape, inner = array.data_ptr(), array.shape, self.inner[k]
        if address != known.addresses[k] or shape != known.shapes[k]:
            if shape.numel() > _LARGEST_INDEX:
                return False
            within = shape[:-inner] if inner else shape
            known.context.set_arg_external_array_with_shape(
                self.places[k], address, array.nbytes, within, 0
            )
            known.addresses[k], known.shapes[k] = address, shape
        known.objects[k] = weakref.ref(array)
        return True

    def _compiled(self, arguments: tuple[Any, ...], kinds: list[Any]) -> "_Known":
        """Return what is known of arguments that were just launched with."""
        made = self.taichi.compiled_kernels[self.taichi.ensure_compiled(*arguments)]
        capable = _program.get_device_caps()
        compiled = _program.compile_kernel(_program.config(), capable, made)
        count = len(kinds)
        context = made.make_launch_context()
        shapes = [torch.Size()] * count
        return _Known(compiled, context, kinds, [_nothing] * count, [-1] * count, shapes)

    def _are_plain(self, arguments: tuple[Any, ...]) -> bool:
        """Whether numbers are Python's own, and arrays within the range of an index."""
        sizes = [x.numel() for x in self.chosen(arguments)]
        reals = [type(arguments[i]) in _NUMBERS for i, _ in self.reals]
        whole = [type(n) is int for n in self.whole(arguments)]
        return all(reals) and all(whole) and max(sizes, default=0) <= _LARGEST_INDEX


@dataclass
class _Known:
    """A compiled kernel, its arguments, and what of them was handed over last.

    Attributes:
        kernel: compiled.
        context: its arguments.
        kinds: of the arrays.
        objects: the arrays, if they are still alive.
        addresses: where they are.
        shapes: of them.
        whole: whole numbers.
    """

    kernel: Any
    context: Any
    kinds: list[Any]
    objects: list[Any]
    addresses: list[int]
    shapes: list[torch.Size]
    whole: tuple[int, ...] | None = None


def _chosen(kinds: list[Any], *some: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return the function that takes the arguments of some kinds."""
    return _taken([i for i, kind in enumerate(kinds) if kind in some])


def _taken(chosen: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return the function that takes the arguments at some places."""
    if len(chosen) < 2:
        return lambda arguments: tuple(arguments[i] for i in chosen)
    return operator.itemgetter(*chosen)


_TEMPLATE, _REAL, _INTEGER, _UNSIGNED = "template", "real", "integer", "unsigned"
_NUMBERS, _Tensor = (float, int), torch.Tensor
_PLAIN, _ADDRESS = {_Tensor}, _Tensor.data_ptr
_IS_CPU, _REQUIRES_GRAD = (
    getattr(_Tensor, name).__get__ for name in ("is_cpu", "requires_grad")
)


def _nothing() -> None:
    """The array of no launch yet."""


def _kind_of(array: torch.Tensor, inner: int) -> tuple[Any, ...]:
    """What a compiled kernel depends on: type, dimensions, shape of an element."""
    shape = array.shape
    return array.dtype, len(shape), shape[-inner:] if inner else None


_LARGEST_INDEX = (1 << 31) - 1


def _kind(annotation: Any) -> Any:
    """How an argument is handed over: for an array, its dimensions within an element."""
    types = _language.types
    if annotation is _language.f64 or annotation is _language.f32:
        return _REAL
    if annotation is _language.i32:
        return _INTEGER
    if annotation is _language.u64:
        return _UNSIGNED
    if isinstance(annotation, _language.template):
        return _TEMPLATE
    if isinstance(annotation, types.ndarray_type.NdarrayType):
        return getattr(annotation.dtype, "ndim", 0)
    return None


ti = ModuleType(_language.__name__)
"""The kernel language; its kernels are guarded, all else is what it was."""
ti.__dict__.update(_language.__dict__, kernel=_Kernel)

launching = threading.RLock()
"""Held while a kernel is compiled or runs, and while the compiler is set up for one."""
_started: str | None = None
_program: Any = None
_own = True
"""Whether this engine initialised the kernel language, not its host."""
_forked = False
_FORKED = (
    "this process was forked after the engine had started, where its threads are gone; "
    'start workers with multiprocessing.get_context("spawn")'
)


_ending: int | None = None
"""The thread on which the interpreter ends, once it does."""
_launched: set[int] = set()
_stopped: set[int] = set()
"""Threads that have launched kernels, and those of them that wait for the end."""


def _leave_to_the_end() -> None:
    """Note a thread that launches a kernel; while the interpreter ends, stop it for good.

    Python ends a daemon thread where it next takes the interpreter's lock; inside C++ that
    aborts the process.
    """
    thread = threading.get_ident()
    if _ending not in (None, thread):
        _stopped.add(thread)
        threading.Event().wait()
    _launched.add(thread)


def _end(patience: float = 2.0) -> None:
    """Wait until every thread that launches kernels has stopped."""
    global _ending
    _ending = threading.get_ident()
    until = time.monotonic() + patience
    while time.monotonic() < until:
        alive = {thread.ident for thread in threading.enumerate()} - {_ending}
        if not (alive & _launched) - _stopped:
            break
        time.sleep(0.01)
    if launching.acquire(timeout=5 * patience):  # a kernel that still runs
        launching.release()


def _finish() -> None:
    """Let the program go, which then keeps the kernels that it has compiled.

    Python takes modules apart in an order in which it may live on, and nothing is kept.
    """
    if _own and _program is not None and not _forked and launching.acquire(blocking=False):
        runtime = _language.lang.impl.get_runtime()
        if _present() is _program:
            runtime.clear()
        launching.release()


atexit.register(_finish)  # so early that it comes after what others do at the end


def _note_fork() -> None:
    global _forked
    _forked = _started is not None


os.register_at_fork(after_in_child=_note_fork)


@contextlib.contextmanager
def _our_precision() -> Iterator[None]:
    """Compile with this engine's literals where the host program initialised Taichi.

    A program of the host may have f32 for the type of literals and sums.

    Raises:
        EngineError: the host's program runs on another kind of device, or was reset.
    """
    runtime = _language.lang.impl.get_runtime()
    if _present() is None:
        raise EngineError("the host program has reset the kernel language; start anew")
    config = runtime.prog.config()
    kind = "cuda" if config.arch == _language.cuda else "cpu"
    if _started not in (None, kind) or (kind == "cpu" and config.arch not in _CPUS):
        raise EngineError(
            f"the host program has initialised Taichi for {config.arch.name}; this engine "
            f"runs on {_started}: initialise it for the same device"
        )
    ours = {"default_fp": _language.f64, "default_ip": _language.i32, "fast_math": True}
    names = [name for name in ours if hasattr(config, name)]
    before = {name: getattr(config, name) for name in names}
    literals = runtime.default_fp, runtime.default_ip
    for name in names:
        setattr(config, name, ours[name])
    runtime.default_fp, runtime.default_ip = ours["default_fp"], ours["default_ip"]
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
        runtime.default_fp, runtime.default_ip = literals


_CPUS = tuple(getattr(_language, name, None) for name in ("x64", "arm64"))


def threads() -> int:
    """Number of CPU threads for torch and for the kernels (``SCALEBRIDGE_THREADS``).

    Raises:
        InputError: the variable is no number above zero.
    """
    given = os.environ.get("SCALEBRIDGE_THREADS")
    if not given:
        known = getattr(os, "sched_getaffinity", None)
        return len(known(0)) if known else os.cpu_count() or 1
    if not given.isdecimal() or not 0 < int(given) <= _MOST_THREADS:
        raise InputError(f"SCALEBRIDGE_THREADS={given}: allowed are 1 to {_MOST_THREADS}")
    return int(given)


_MOST_THREADS = 4096


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: of tiny arrays a second one only costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unfollowed(*tensors: Tensor) -> bool:
    """Tell whether nothing follows what is made of tensors: no gradient, no transform.

    A kernel sees numbers alone: neither tangents nor the batches of ``torch.func``.
    """
    recorded = torch.is_grad_enabled()
    return not any(
        (recorded and x.requires_grad)
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
        or forward_ad.unpack_dual(x).tangent is not None
        for x in tensors
    )


T = TypeVar("T")


@functools.cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Return the threads of a process: a fork has none of its parent's."""
    del process
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def spread(function: Callable[..., T], *parts: Sequence[Tensor]) -> list[T]:
    """Apply a function to each part, on so many threads as torch has, each with one.

    Threads that share every operation wait for each other at every one; these meet once.
    Like ``map``, it takes one item of every sequence at a time. Gradients are recorded
    where they are recorded outside.
    """
    count, mode = torch.get_num_threads(), torch.is_grad_enabled()
    if count == 1 or len(parts[0]) == 1 or parts[0][0].is_cuda:
        with one_thread():
            return list(map(function, *parts))

    def apply(*some: Tensor) -> T:
        with torch.set_grad_enabled(mode):
            return function(*some)

    return list(_pool(os.getpid(), count).map(apply, *parts))


def shares(x: Tensor, most: int, least: int) -> tuple[Tensor, ...]:
    """Split along the first axis for :func:`spread`.

    Args:
        x: ``[n, ...]``.
        most: items of a part at most.
        least: items from which on a part is worth a thread of its own.
    """
    threads = 1 if x.is_cuda else min(torch.get_num_threads(), len(x) // least)
    return x.split(max(1, min(most, -(-len(x) // max(1, threads)))))


_WORTH_WAKING = 1 << 20
"""Numbers of an array from which on torch's operations gain by a second thread.

torch takes one from 32,768 on, which suits threads that spin. Ours sleep, and wake in the
time in which one thread passes over half a million: 65 us against 8 for 65,000 numbers."""


def few_threads(numbers: int) -> contextlib.AbstractContextManager[None]:
    """Let torch use one thread where arrays are too small to wake others for."""
    return one_thread() if numbers < _WORTH_WAKING else contextlib.nullcontext()


def start(device: torch.device | str = "cpu") -> None:
    """Initialise the kernel language for ``device``; later calls are free.

    Raises:
        InputError: no CUDA device, or the process already runs on another kind of device.
    """
    global _started, _program, _own
    if _forked:
        raise EngineError(_FORKED)
    kind = torch.device(device).type
    if _started == kind:
        return
    with launching:
        if _started == kind:
            return
        if _started is not None:
            raise InputError(
                f"device: this process already runs on {_started}; start another for {kind}"
            )
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError("device: cuda is not available here; allowed: cpu")
        torch.set_num_threads(threads())
        atexit.register(_end)
        _own = _present() is None
        if _own:
            _initialise(kind)
        _started, _program = kind, _present()


def on_cpu() -> bool:
    """Whether kernels run on the CPU, or would if there were any yet."""
    return _started in (None, "cpu")


def _initialise(kind: str) -> None:
    known = _tasks()
    # it announces itself otherwise
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _language.init(
            arch=_language.cuda if kind == "cuda" else _language.cpu,
            default_fp=_language.f64,
            cpu_max_num_threads=threads(),
            log_level=_language.ERROR,
            random_seed=0,
            **_kernel_cache(),
        )
        # the rest of its start must run on this thread; left to the first launch, that
        # may be on another
        _language.lang.impl.get_runtime().materialize()
    _spread(_tasks() - known)


def _tasks() -> set[int]:
    """Return the threads of this process, as far as the system tells."""
    with contextlib.suppress(OSError):
        return {int(name) for name in os.listdir("/proc/self/task")}
    return set()


def _spread(tasks: set[int]) -> None:
    """Give each of the kernels' threads a processor of its own where they take them all.

    They sleep between kernels. Left to the system they often wake on one processor, and a
    kernel has ended before one of them is moved: of two threads one then did all the work.
    """
    if not hasattr(os, "sched_setaffinity"):  # the system does not offer it
        return
    processors = sorted(os.sched_getaffinity(0))
    if threads() != len(processors) or len(processors) == 1:
        return
    for place, task in enumerate(sorted(tasks)):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(task, {processors[place % len(processors)]})


_LOCK, _LOCK_SECONDS = "ticache.lock", 60.0
"""The file by which Taichi locks its folder of compiled kernels, and how old it may be."""


def _kernel_cache() -> dict[str, Any]:
    """Return the settings by which compiled kernels are kept for later processes.

    The folder is this engine's own (``TI_OFFLINE_CACHE_FILE_PATH`` names another). Taichi
    never gives up the lock of a process that was killed, and then compiles every kernel
    again in every later process, so :func:`_unlock` does.
    """
    folder = os.environ.get("TI_OFFLINE_CACHE_FILE_PATH")
    settings: dict[str, Any] = {"offline_cache": True}
    if folder is None:
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~/.cache").expanduser()
        version = ".".join(map(str, _language.__version__))
        folder = os.path.join(root, "scalebridge", f"{_KERNELS}-{version}")
        settings["offline_cache_file_path"] = folder
        settings["offline_cache_max_size_of_files"] = 1 << 29
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:  # Taichi crashes at the end where it cannot write to its folder
        return {"offline_cache": False, "offline_cache_file_path": tempfile.gettempdir()}
    _unlock(pathlib.Path(folder))
    return settings


def _unlock(folder: pathlib.Path, patience: float = 2.0) -> None:
    """Wait until nobody writes to the folder; take away a lock that was left behind."""
    end = time.monotonic() + patience
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            # raises when the lock is gone
            if time.time() - (folder / _LOCK).stat().st_mtime > _LOCK_SECONDS:
                (folder / _LOCK).unlink()
            time.sleep(0.02)


@contextlib.contextmanager
def own_defaults() -> Iterator[None]:
    """Compute with torch's own defaults inside a host that has changed them.

    Default device and dtype are put back afterwards; inference mode is left, because
    forces need derivatives, and so is the search for anomalies, which derivatives of many
    vectors at once do not know.
    """
    before = torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    device = torch.device("cpu") if elsewhere else contextlib.nullcontext()
    anomalies = torch.autograd.set_detect_anomaly(False)
    with torch.inference_mode(False), anomalies, device:
        if before == torch.float32:
            yield
            return
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def available_memory() -> float:
    """Return the bytes that this process may still take, of the machine and its group."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file, key, unit in (
        ("/proc/meminfo", "MemAvailable:", 1024),
        ("/sys/fs/cgroup/memory.max", "", 1),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "", 1),
    ):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = pathlib.Path(file).read_text(encoding="ascii").splitlines()
            line = next(line for line in lines if line.startswith(key))
            found.append(float(line.removeprefix(key).split()[0]) * unit)
    return min(found)


def check_memory(numbers: float, dtype: torch.dtype, what: str) -> None:
    """Refuse what cannot fit into the memory of the host; call it before allocating.

    Args:
        numbers: how many are held at once.
        dtype: of each.
        what: names them in the message.

    Raises:
        InputError: they take more than there is.
    """
    needed, present = numbers * dtype.itemsize, available_memory()
    if needed > present:
        raise InputError(
            f"{what} need {needed / 2**30:.3g} GiB of memory; {present / 2**30:.3g} present"
        )


_SMALL = 1 << 16
"""Bytes of arrays for which it does not matter whose memory they are."""


def room(like: torch.Tensor, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return an array that is yet to be written, on the device of ``like``.

    It begins at a multiple of 64 bytes. The C library (glibc before 2.38) gives such memory
    never from what an array of the same size has left, so that a run whose arrays are made
    anew in every step took half as much again, and time for new pages. Therefore a large
    one is a part of 64 bytes more, as they come.
    """
    dtype = dtype or like.dtype
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALL or not like.is_cpu:
        return torch.empty(shape, dtype=dtype, device=like.device)
    memory = torch.from_numpy(np.empty(size + 64, np.uint8))
    return memory.narrow(0, -memory.data_ptr() % 64, size).view(dtype).view(shape)


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
