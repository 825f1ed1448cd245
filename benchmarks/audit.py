"""The audits held against planted defects, and certificates of gradients."""

import sys
from pathlib import Path

from scalebridge.engine.bench import Recorder

sys.path.append(str(Path(__file__).resolve().parent))

from audit_gradients import gradients


def defects(quick: bool, record: Recorder) -> None:
    """Record how many planted defects the audits catch, and alarms on their good twins."""


def measure(quick: bool, record: Recorder) -> None:
    """Record everything."""
    defects(quick, record)
    gradients(quick, record)
