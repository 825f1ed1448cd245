"""A gradient certificate in a run folder: as JSON, as a picture, and as checks."""

import json
from typing import Any

import torch

from ..protocols import Check
from ..rundir import RunFolder, write_group, write_text
from .certify import AGREES, Certificate

CAPTION = (
    "Relative difference between automatic derivative and central differences over the "
    "step of the differences: it falls with the square of the step, until rounding takes "
    "over. Where it has no valley, the gradient is wrong."
)


def write_certificate(folder: RunFolder, found: Certificate) -> list[Check]:
    """Write a certificate; return one check per stage: the comparisons that disagree."""
    write_text(folder.path / "certificate.json", json.dumps(found.json(), indent=1) + "\n")
    sweeps = [c for c in found.checks if c.steps and (c.gradient or c.expected)]
    for check in sweeps[:8]:
        steps = torch.tensor(check.steps, dtype=torch.float64)
        scale = max(abs(check.gradient), 1e-300)
        off = (torch.tensor(check.differences, dtype=torch.float64) - check.gradient).abs()
        name = f"{check.stage}_by_{check.parameter}".replace(" ", "_")
        write_group(
            folder,
            "certificate",
            {"step": (steps, ""), name: ((off / scale).clamp(min=1e-16), "")},
            "Gradient certificate",
            CAPTION,
            axes=("step",),
            plot="loglog",
            y_title="relative difference",
        )
        step: Any = folder.store["certificate/step"]
        step.attrs["long_name"] = "relative step of the differences"
    checks = []
    for stage in dict.fromkeys(c.stage for c in found.checks):
        wrong = [c for c in found.checks if c.stage == stage and c.verdict != AGREES]
        note = f"{wrong[0].parameter}: {wrong[0].verdict}" if wrong else ""
        name = f"certificate_{stage}".replace(" ", "_")
        checks.append(
            Check(name, "accuracy", len(wrong), 0, unit="disagreements", note=note)
        )
    return checks


__all__ = ["write_certificate"]
