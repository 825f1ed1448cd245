"""All audits of a potential, in order."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..md.data import LabelledFrame
from . import (
    committee,
    conservation,
    invariance,
    labels,
    periodic,
    repeat,
    short_range,
    smoothness,
)
from .findings import Finding, Report, tried
from .samples import Subject

Audit = Callable[[Subject], Finding | list[Finding]]

CHEAP: tuple[Audit, ...] = (
    invariance.translation,
    invariance.rotation,
    invariance.reflection,
    invariance.angular_orders,
    invariance.permutation,
    invariance.extensivity,
    invariance.balance,
    smoothness.at_cutoff,
    smoothness.at_swaps,
    smoothness.on_lines,
    conservation.force_is_gradient,
    conservation.loop_work,
    conservation.virial,
    short_range.holes,
    periodic.lattice_vectors,
    periodic.repetition,
    periodic.faces,
    repeat.repeatability,
    labels.equation_of_state,
)
"""Audits without dynamics and labels."""


@dataclass(frozen=True)
class PotentialAudit:
    """All audits of a potential.

    Attributes:
        frames: labelled configurations, for the calibration of a committee.
        picoseconds: length of the constant-energy runs.
        temperature: of their start, kelvin.
    """

    frames: Sequence[LabelledFrame] = ()
    picoseconds: float = 1.0
    temperature: float = 300.0

    def __call__(self, name: str, subject: Subject) -> Report:
        """Run all audits of a potential and report."""
        begun, findings = time.monotonic(), []
        for audit in CHEAP:
            findings += tried(audit, subject)
        drift = conservation.energy_drift
        findings += tried(drift, subject, self.picoseconds, self.temperature)
        for labelled in (labels.against_labels, committee.calibration):
            findings += tried(labelled, subject, self.frames)
        return Report(name, "potential", findings, time.monotonic() - begun)


__all__ = ["CHEAP", "PotentialAudit"]
