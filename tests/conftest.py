"""Shared set-up: one thread pool, shape checks of the learned modules switched on."""

import os
from collections.abc import Iterator

os.environ.setdefault("SCALEBRIDGE_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("PYVISTA_OFF_SCREEN", "true")

from jaxtyping import install_import_hook

install_import_hook("scalebridge.models", "beartype.beartype")

import matplotlib

matplotlib.use("Agg")

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("fixed", derandomize=True, database=None)
hypothesis.settings.load_profile("fixed")  # the same examples on every machine


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every test from one global seed, so that their order does not matter."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _started() -> None:
    from scalebridge.engine import runtime

    runtime.start("cpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices: a second thread only waits, and the order of sums would follow it."""
    from scalebridge.engine import runtime

    with runtime.one_thread():
        yield
