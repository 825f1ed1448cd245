"""Launches of kernels: what is found again for arguments of types that were met before."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from scalebridge.engine import runtime
from scalebridge.engine.kernels.types import (
    Array1,
    Array2,
    Int,
    Key,
    Real,
    Template,
    Vectors,
    simd,
    ti,
    turns,
)


@ti.kernel
def k_scaled(x: Array2, factor: Real, column: Int, twice: Template, out: Array1):
    for i in range(x.shape[0]):
        y = x[i, column] * factor
        if ti.static(twice):
            y = y + y
        out[i] = y


@ti.kernel
def k_summed(x: Vectors, out: Vectors):
    for i in range(x.shape[0]):
        out[i] = x[i] + x[i]


@ti.kernel
def k_bits(key: Key, out: Array1):
    for i in range(out.shape[0]):
        out[i] = ti.cast(key >> ti.cast(8 * i, ti.u64), ti.i32) & 255


@pytest.fixture(autouse=True)
def _started():
    runtime.start("cpu")


def scaled(x: torch.Tensor, factor: float, column: int, twice: bool = False):
    out = torch.full((len(x),), -1.0, dtype=x.dtype)
    k_scaled(x, factor, column, twice, out)
    return out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int32])
def test_every_launch_sees_its_own_arguments(dtype: torch.dtype) -> None:
    for n, factor, column, twice in (
        (5, 2.0, 0, False), (5, 3.0, 1, True), (9, 2, 1, False), (5, -1.0, 0, True),
        (0, 1.0, 0, False), (1, 4.0, 2, True),
    ):  # fmt: skip
        x = torch.arange(3 * n).reshape(n, 3).to(dtype)
        expected = x[:, column] * factor * (2 if twice else 1)
        assert torch.equal(scaled(x, factor, column, twice), expected.to(dtype))


def test_arrays_that_changed_since_the_last_launch_are_handed_over() -> None:
    memory = torch.arange(30, dtype=torch.float64)
    # one address with other shapes, another address, contents that changed, and back
    for first, n in ((0, 4), (0, 8), (0, 4), (6, 4), (0, 4), (6, 8)):
        x = memory[first : first + 3 * n].view(n, 3)
        assert torch.equal(scaled(x, 1.0, 2), x[:, 2])
        memory += 1
    out, other = torch.zeros(4).double(), torch.zeros(4).double()
    for taken in (out, other, out):
        taken.zero_()
        k_scaled(memory[:12].view(4, 3), 2.0, 0, False, taken)
        assert torch.equal(taken, 2 * memory[:12:3])
    x = memory[:12].view(4, 3)
    for held in (memory + 1, memory - 1):
        # the same tensor elsewhere
        scaled(x, 1.0, 0)
        x.set_(held[:12].view(4, 3))
        assert torch.equal(scaled(x, 1.0, 0), held[:12:3])
    memory.resize_(6)
    assert torch.equal(scaled(memory.view(2, 3), 1.0, 0), memory[::3])


def test_a_type_that_was_met_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(4, 3, dtype=torch.float64)
    scaled(x, 2.0, 0)
    monkeypatch.setattr(k_scaled._launches, "kernel", None)
    assert torch.equal(scaled(2 * x, 3.0, 1), torch.full((4,), 6.0).double())
    with pytest.raises(TypeError, match="not callable"):
        scaled(x.float().to(torch.int16), 2.0, 0)


def test_what_taichi_refuses_is_refused_every_time() -> None:
    x = torch.ones(4, 3, dtype=torch.float64)
    for _ in range(2):
        scaled(x, 2.0, 0)
        with pytest.raises(ValueError, match="contiguous"):
            scaled(torch.ones(3, 4, dtype=torch.float64).T, 2.0, 0)
        with pytest.raises(ti.TaichiRuntimeTypeError):
            scaled(x, 2.0, 0.5)  # type: ignore[arg-type]
        with pytest.raises(ti.TaichiCompilationError, match="dim"):
            k_scaled(x[:, 0].contiguous(), 2.0, 0, False, x[:, 0].contiguous())
        with pytest.raises(ti.TaichiSyntaxError, match="missing"):
            k_scaled(x, 2.0, 0, False)


def test_numbers_of_numpy_and_arrays_of_other_kinds_are_taken() -> None:
    x, out = np.ones((4, 3)), np.zeros(4)
    for factor in (1.0, np.float64(2.0), np.int64(3)):
        k_scaled(x, factor, np.int32(1), False, out)
        assert (out == float(factor)).all()
    y = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(scaled(y, 2.0, 0), torch.full((4,), 2.0).double())
    z = torch.nn.Parameter(torch.ones(4, 3), requires_grad=False)
    assert torch.equal(scaled(z, 2.0, 0), torch.full((4,), 2.0))


def test_vectors_of_other_lengths_are_other_types() -> None:
    for lanes in (4, 2, 4, 8):
        x = torch.rand(3, lanes, dtype=torch.float64)
        out = torch.zeros_like(x)
        with simd():
            k_summed(x, out)
        assert torch.equal(out, 2 * x)


def test_a_key_of_64_bits_comes_whole() -> None:
    for key in (0, 0x0123456789ABCDEF, (1 << 64) - 1, 5):
        out = torch.zeros(8, dtype=torch.int32)
        k_bits(key, out)
        assert bytes(out.tolist()) == key.to_bytes(8, "little")
    with pytest.raises(ti.TaichiRuntimeTypeError):
        k_bits(0.5, out)


@ti.kernel
def k_first(x: Array1):
    for i in range(x.shape[0]):
        x[i] = 2 * x[i]


@pytest.mark.skipif(ti.__name__ != "taichi", reason="Taichi's own notes")
def test_the_array_of_a_first_launch_is_let_go() -> None:
    """The compiler's notes held it until Python searched for circles."""
    gc.collect()
    gc.disable()
    try:
        x = torch.ones(4, dtype=torch.float64)
        k_first(x)
        assert x.tolist() == [2.0] * 4
        kept = weakref.ref(x)
        del x
        assert kept() is None
    finally:
        gc.enable()


def test_numbers_that_changed_alone_are_handed_over() -> None:
    x = torch.arange(12, dtype=torch.float64).view(4, 3)
    out = torch.empty(4, dtype=torch.float64)
    for factor, column in ((1.0, 0), (1.0, 1), (2.0, 1), (2.0, 0), (0.0, 0), (-0.0, 0)):
        k_scaled(x, factor, column, False, out)
        assert torch.equal(out, factor * x[:, column])
        assert torch.equal(out.signbit(), (factor * x[:, column]).signbit())
    with pytest.raises(ti.TaichiRuntimeTypeError):
        k_scaled(x, 2.0, 1.0, False, out)  # type: ignore[arg-type]


def test_room_is_like_an_empty_tensor() -> None:
    for like in (torch.ones(1), torch.ones(1).int(), torch.ones(1).double()):
        for shape in ((3,), (40_000, 3), (0, 3), (70_000,)):
            made = runtime.room(like, *shape)
            assert made.shape == shape and made.dtype == like.dtype
            assert made.is_contiguous() and not made.requires_grad
            assert made.data_ptr() % 64 == 0
            made.fill_(1)
            assert int(made.sum()) == made.numel()


@ti.kernel
def k_wrong(x: Array1):
    for i in range(x.shape[0]):
        x[i] = not_there  # noqa: F821


@pytest.mark.skipif(ti.__name__ != "taichi", reason="Taichi's own way to say where")
@pytest.mark.parametrize("ours", [True, False])
def test_what_does_not_compile_is_named_by_its_line(ours, monkeypatch) -> None:
    """A host's kernel with the drawing of Taichi; ours without, which takes time."""
    if ours:
        monkeypatch.setattr(runtime, "HERE", str(Path(__file__).parent))
    with pytest.raises(ti.TaichiCompilationError) as refused:
        k_wrong(torch.zeros(1, dtype=torch.float64))
    said = str(refused.value)
    assert 'Name "not_there" is not defined' in said
    assert f'File "{__file__}", line ' in said and "in k_wrong" in said
    assert ("^^^^^^^^^" in said) is not ours


@ti.kernel
def k_few(out: Array1):
    for item, spare in ti.ndrange(out.shape[0], ti.static(turns())):
        if spare > 0:
            continue
        total = 0.0
        for k in range(100_000):
            total += ti.sin(item + 0.5 * k)
        out[item] = total


SHARES = """
import pathlib, torch
from scalebridge.engine import runtime
runtime.start("cpu")
import test_launches
def seconds():
    tasks = pathlib.Path("/proc/self/task").iterdir()
    return {t.name: int((t / "schedstat").read_text().split()[0]) for t in tasks}
out, shares = torch.zeros(64, dtype=torch.float64), []
test_launches.k_few(out)
for _ in range(5):
    before = seconds()
    test_launches.k_few(out)
    spent = sorted(now - before.get(name, now) for name, now in seconds().items())
    shares.append(spent[-2] / sum(spent))
print(max(shares))
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="times of threads")
def test_a_few_items_of_much_work_are_shared_among_threads() -> None:
    """The language gives a thread no less than 512 iterations."""
    answer = subprocess.run(
        [sys.executable, "-c", SHARES], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent, env=os.environ | {"SCALEBRIDGE_THREADS": "2"},
    )  # fmt: skip
    assert float(answer.stdout) > 0.2
