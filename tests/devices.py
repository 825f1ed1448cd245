"""A CUDA device for tests on machines that have none.

Worlds run here on *shadow* tensors: they report ``device="cuda:0"``, and their numbers are
kept in an ordinary tensor on the CPU. Every operation of torch is checked as a device would
check it and then carried out; every launch of a kernel is checked and then runs on the
numbers. What a device would refuse raises :class:`DeviceError` where it happens:

- an operation or a kernel that is given tensors of two devices;
- a kernel that is given a tensor that is not contiguous;
- a random generator of the CPU for numbers on the device;
- ``numpy()`` of a tensor on the device.

Where the host would wait for the device (``float(x)``, ``if x.any()``, ``x[mask]``, copies
to the CPU) the wait is counted, with the line of the engine that asks. Copies from host to
device are counted apart.

``FakeTensorMode`` has the same rules for devices (a test compares them) but no numbers: it
ends at the first ``float(x)`` of a world, and without a CUDA build of torch it aborts the
process at the first derivative.

Not seen: operations that CUDA does not implement, memory, streams, and the arithmetic of a
GPU. Branches on ``is_cuda`` are taken as on a device.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from scalebridge.engine import runtime
from scalebridge.engine.kernels.noise import k_normals

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")

aten = torch.ops.aten
_COPIES = {"copy_", "_to_copy"}
_INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
_WAITS = {
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique_dim",
}
_MASKS = (torch.bool, torch.uint8)
_PLAIN = {  # lazy marks on tensors that are resolved before operations arrive here
    aten._efficientzerotensor.default: aten.zeros.default,
    aten._conj.default: aten.conj_physical.default,
    aten._neg_view.default: aten.neg.default,
}


class DeviceError(RuntimeError):
    """What a CUDA device would refuse."""


@dataclass
class Tally:
    """What happened between host and device.

    Attributes:
        waits: line of the engine -> how often the host waited for the device there.
        uploads: line -> copies from host to device.
        launches: kernel -> how often it was launched.
        operations: operations of torch on the device.
    """

    waits: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    operations: int = 0

    def clear(self) -> None:
        """Begin again."""
        for part in (self.waits, self.uploads, self.launches):
            part.clear()
        self.operations = 0


_tally = Tally()
_granted: set[int] = set()
"""Seeds of generators that stand for those of the device."""


def _generator(seed: int, stream: int = 0, device: Any = "cpu") -> torch.Generator:
    """Stand for ``runtime.generator``: a device's draws the numbers of another seed."""
    if torch.device(device).type == "cpu":
        return _made(seed, stream)
    found = _made(seed + 1_000_003, stream)
    _granted.add(found.initial_seed())
    return found


_made = runtime.generator


def _line() -> str:
    """Innermost line of the engine or the models that is being executed."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        for package in ("/engine/", "/models/"):
            if package in name and "/site-packages/" not in name:
                return f"{package[1:]}{name.rsplit(package, 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "test"


class Shadow(Tensor):
    """A tensor that says it is on a CUDA device; its numbers are in ``inner`` on the CPU.

    To the C++ side of torch it is a ``meta`` tensor: autograd then needs no CUDA build, and
    what torch makes for itself on the way arrives here with the device ``meta``.
    """

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Shadow":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _operate(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self.inner = _inner(value)

    def numpy(self, *, force: bool = False) -> Any:
        raise DeviceError("can't convert a tensor on cuda:0 to numpy; use .cpu() first")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        _tally.waits[_line()] += 1
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict) -> Tensor:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    def __repr__(self) -> str:
        return f"Shadow({self.inner!r})"


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, Shadow) else x


def _inside(x: Any) -> Any:
    """Replace shadows by their numbers, in sequences too."""
    if isinstance(x, Shadow):
        return x.inner
    return type(x)(map(_inside, x)) if isinstance(x, list | tuple) else x


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def _on_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _operate(func: Any, args: tuple, kwargs: dict) -> Any:
    """Check one operation, do it on the CPU, say that its results are on the device."""
    func = _PLAIN.get(func, func)
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    there = here = any(isinstance(x, Shadow) for x in tensors)
    device = kwargs.get("device")
    if device is not None:
        there = _on_cuda(device)
    if not (here or there):
        return func(*args, **kwargs)
    _tally.operations += 1
    _check(func, args, tensors, there, kwargs)
    given = {key: _inside(x) for key, x in kwargs.items()}
    if device is not None:
        given["device"] = CPU
    out = func(*map(_inside, args), **given)
    if not there:
        return out
    if torch.Tag.inplace_view in func.tags:  # the sizes of the shadow follow
        with no_dispatch():
            func(*args, **kwargs)
    same = {id(x.inner): x for x in tensors if isinstance(x, Shadow)}

    def shadow(x: Any) -> Any:
        if isinstance(x, Tensor):
            return same[id(x)] if id(x) in same else Shadow(x)
        return type(x)(map(shadow, x)) if isinstance(x, list | tuple) else x

    return shadow(out)


def _check(func: Any, args: tuple, tensors: list, there: bool, kwargs: dict) -> None:
    name = func.overloadpacket.__name__
    generator = kwargs.get("generator")
    own = generator is None or generator.initial_seed() in _granted
    if there and not own and generator.device.type == "cpu":
        raise DeviceError(f"{name}: a generator of the cpu for numbers on {CUDA}")
    if name in _COPIES:
        target = isinstance(args[0], Shadow) if name == "copy_" else there
        source = isinstance(args[1 if name == "copy_" else 0], Shadow)
        if source and not target:
            _tally.waits[_line()] += 1
        if target and not source:
            _tally.uploads[_line()] += 1
        return
    if name in _WAITS:
        _tally.waits[_line()] += 1
    if name in _INDEXING:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in _MASKS for x in indices):
            _tally.waits[_line()] += 1
        if not isinstance(args[0], Shadow) and any(isinstance(x, Shadow) for x in indices):
            raise DeviceError(f"{name}: indices on {CUDA} for a tensor on the cpu")
        if name.startswith("index_put") or name == "_index_put_impl_":
            tensors = [args[0], args[2]]
        else:
            tensors = [args[0]]
    host = [x for x in tensors if not isinstance(x, Shadow)]
    if not host or len(host) == len(tensors):
        return
    numbers_fit = torch.Tag.pointwise in func.tags or name in (
        "index_put", "index_put_", "_index_put_impl_", "masked_fill", "masked_fill_",
        "fill_", "where",
    )  # fmt: skip
    into_host = name.endswith("_") and not isinstance(args[0], Shadow)
    if not numbers_fit or into_host or any(x.dim() for x in host):
        shapes = ", ".join(
            f"{tuple(x.shape)} on {'cuda' if isinstance(x, Shadow) else 'cpu'}"
            for x in tensors
        )
        raise DeviceError(f"{name}: tensors of two devices: {shapes}")


class _Operations(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler at the first operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _operate(func, args, kwargs or {})


_MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)
_ITEMS = (Tensor.__getitem__, Tensor.__setitem__)


class _Functions(TorchFunctionMode):
    """What torch decides before it dispatches: devices without a number, new tensors."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _MAKERS and _on_cuda(kwargs.get("device")):
            rest = {k: v for k, v in kwargs.items() if k != "device"}
            made = func(*args, **rest)
            return made if isinstance(made, Shadow) else made.to(CUDA)
        if func is Tensor.new_tensor and isinstance(args[0], Shadow):
            dtype = kwargs.pop("dtype", args[0].dtype)
            return torch.tensor(*args[1:], dtype=dtype, **kwargs).to(CUDA)
        if func in _ITEMS and isinstance(args[0], Shadow):
            args = (args[0], _index(args[1]), *args[2:])
        if func is Tensor.to:
            args = (args[0], *map(_numbered, args[1:]))
        elif func is Tensor.cuda:
            func, args, kwargs = Tensor.to, (args[0], CUDA), {}
        elif func is Tensor.cpu:
            func, args, kwargs = Tensor.to, (args[0], CPU), {}
        if "device" in kwargs:
            kwargs = {**kwargs, "device": _numbered(kwargs["device"])}
        return func(*args, **kwargs)


def _index(at: Any) -> Any:
    """Copy lists and arrays of indices to the device, as torch does."""
    if isinstance(at, list | np.ndarray):
        return torch.as_tensor(at).to(CUDA)
    return tuple(map(_index, at)) if isinstance(at, tuple) else at


def _numbered(x: Any) -> Any:
    if isinstance(x, torch.device) and x.type == "cuda":
        return CUDA
    return CUDA if isinstance(x, str) and x.startswith("cuda") else x


def _launch(run: Callable) -> Callable:
    """Check the tensors of one launch, then run the kernel on their numbers."""

    def call(kernel: Any, *args: Any) -> Any:
        names = list(inspect.signature(kernel.func).parameters)
        label, tensors = kernel.func.__name__, {}
        for name, x in zip(names, args, strict=True):
            if isinstance(x, Tensor):
                tensors[name] = x
        shadows = {n for n, x in tensors.items() if isinstance(x, Shadow)}
        host = sorted(tensors.keys() - shadows)
        _tally.launches[label] += 1
        if shadows and host:
            raise DeviceError(
                f"kernel {label}: {', '.join(host)} on the cpu, others on cuda"
            )
        for name, x in tensors.items():
            if not x.is_contiguous():
                raise DeviceError(f"kernel {label}: {name} is not contiguous")
        return run(kernel, *map(_inner, args))

    return call


@contextmanager
def shadow_device() -> Iterator[Tally]:
    """Give torch and the kernels a CUDA device; yields the tally, kept up to date."""
    kernel = type(k_normals._kernel._primal)  # the class of all kernels
    global _tally
    before, _tally = _tally, Tally()
    runtime.start("cpu")
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    lift = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            patch.object(torch.cuda, "is_available", lambda: True),
            patch.object(torch.cuda, "synchronize", lambda *_: None),
            patch.object(torch.cuda, "_lazy_init", lambda: None),
            patch.object(kernel, "__call__", _launch(kernel.__call__)),
            patch.object(runtime, "_started", "cuda"),
            patch.object(runtime, "generator", _generator),
            _Functions(),
            _Operations(),
        ):
            yield _tally
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        _tally = before
