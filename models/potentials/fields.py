"""Fields that several forms share, with their bounds."""

import dataclasses
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen

Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
Channels = Annotated[int, Interval(ge=1, le=256)]
Members = Annotated[int, Interval(ge=1, le=32)]
Degree = Annotated[int, Interval(ge=1, le=3)]
Widths = Annotated[tuple[Annotated[int, Interval(ge=1, le=4096)], ...], MinLen(1)]
Counts = Annotated[tuple[Annotated[int, Interval(ge=0, le=512)], ...], MinLen(1)]


def with_species(form: Any, species: tuple[str, ...]) -> Any:
    """Return a form, and the forms inside it, with ``species`` where it names none.

    Raises:
        ValueError: its numbers do not belong to that many species.
    """
    changes = {}
    for item in dataclasses.fields(form):
        value = getattr(form, item.name)
        if item.name == "species" and not value:
            changes["species"] = species
        elif dataclasses.is_dataclass(value):
            changes[item.name] = with_species(value, species)
    return dataclasses.replace(form, **changes) if changes else form


__all__ = [
    "Channels",
    "Counts",
    "Degree",
    "Members",
    "Positive",
    "Weight",
    "Widths",
    "with_species",
]
