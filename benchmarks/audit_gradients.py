"""Figures of differentiable worlds and gradient certificates, part of ``bench audit``."""

from scalebridge.engine.bench import Recorder


def gradients(quick: bool, record: Recorder) -> None:
    """Record the figures of the gradients."""
