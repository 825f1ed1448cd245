"""What a page is made of: pictures as PNG, and pages in frames."""

import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        title: heading.
        png: the image.
        caption: what one sees, a sentence or two.
    """

    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Undrawn:
    """Something that could not be drawn, and why: the report says so."""

    title: str
    reason: str


def to_png(figure: "Figure") -> bytes:
    """Return a figure as PNG; the page grows where a text would be cut off."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.06)
    return buffer.getvalue()


def pixels(figure: "Figure") -> np.ndarray:
    """Return a drawn figure as ``[height, width, 3]`` uint8."""
    canvas = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def png(image: np.ndarray) -> bytes:
    """Return a picture as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "png")
    return buffer.getvalue()


def framed(page: str, css: str) -> str:
    """Return a page in a frame of its own, for a notebook."""
    return (
        f"<iframe style='{css}; border: 1px solid #ddd' "
        f"srcdoc='{html.escape(page, quote=True)}'></iframe>"
    )
