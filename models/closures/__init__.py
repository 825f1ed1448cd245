"""Learned moment closures."""

from ..parts import Family

CLOSURES = Family(
    "closure",
    __name__,
    {"face_closure": "face:FaceForm", "recurrence_closure": "recurrence:RecurrenceForm"},
)
"""Forms of closures; each has ``build()``."""

__all__ = ["CLOSURES"]
