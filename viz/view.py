"""``engine view``: a window, a live page, or files: a picture, a movie, a page."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.errors import InputError
from . import atoms, page, render, renderers
from .picture import png
from .record import Record, reading, refuse_targets

FRAMES_PER_SECOND = 25
MAX_MOVIE_FRAMES = 2000


@dataclass(frozen=True)
class Request:
    """What is to be shown of a run, and how.

    Attributes:
        path: the run folder.
        frame: which frame a picture shows; negative ones count from the end.
        colour: of atoms, or the field that is shown; the first choice where empty.
        system: which system of a batch.
        images: periodic images along each lattice vector.
        size: width and height of pictures, pixels.
    """

    path: Path
    frame: int = -1
    colour: str = ""
    system: int = 0
    images: tuple[int, int, int] = (1, 1, 1)
    size: tuple[int, int] = (800, 600)


def view(
    request: Request,
    movie: Path | None = None,
    png: Path | None = None,
    html: Path | None = None,
    browser: bool = False,
    port: int = 0,
) -> list[Path]:
    """Write the files that were asked for; without any, open a window or serve a page.

    Returns:
        The files that were written.

    Raises:
        InputError: no run folder, an unknown colour, or a package is missing.
    """
    refuse_targets(movie, png, html)
    render.start_probe()
    record = Record(request.path)
    with reading(request.path):
        return _viewed(record, request, movie, png, html, browser, port)


def _viewed(
    record: Record,
    request: Request,
    movie: Path | None,
    png: Path | None,
    html: Path | None,
    browser: bool,
    port: int,
) -> list[Path]:
    written: list[Path] = []
    if png or movie or html:
        renderer, choice = _renderer(record, request)
        if png:
            png.write_bytes(_picture(renderer, choice, request))
            written.append(png)
        if movie:
            written.append(write_movie(renderer, choice, movie, request.size))
        if html:
            written.append(write_page(record, html, request))
        if render.missing() and isinstance(renderer, renderers.AtomsRenderer):
            print(render.missing(), "(drawn flat, by matplotlib)", file=sys.stderr)
        return written
    if not browser and _has_screen() and _opens_window(record, request):
        return []
    from .live import LivePage

    LivePage(request.path, request.system, request.colour).serve(port, _has_screen())
    return []


def _renderer(record: Record, request: Request) -> tuple[Any, str]:
    look = atoms.Look(images=request.images)
    renderer = renderers.renderer_of(record, request.system, look)
    choices = list(renderer.choices())
    if request.colour and request.colour not in choices:
        raise InputError(
            f"--colour {request.colour}: not known of this run; "
            f"allowed: {', '.join(choices)}"
        )
    return renderer, request.colour or (choices[0] if choices else "")


def _picture(renderer: Any, choice: str, request: Request) -> bytes:
    frames = renderer.refresh()
    if not -frames <= request.frame < frames:
        raise InputError(f"--frame {request.frame}: there are {frames} frames")
    return png(renderer.image(request.frame % frames, choice, request.size))


def write_movie(
    renderer: renderers.Renderer, choice: str, path: Path, size: tuple[int, int]
) -> Path:
    """Write all frames (at most :data:`MAX_MOVIE_FRAMES`, evenly spread) as a movie.

    Raises:
        InputError: imageio with its ffmpeg is not installed, or the ending is unknown.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise InputError(f"--movie {path}: the ending must be .mp4 or .gif")
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 - what imageio writes mp4 with
    except ImportError as error:
        raise InputError(
            f"--movie needs {error.name}: pip install scalebridge[viz]"
        ) from error
    frames = renderer.refresh()
    count = min(frames, MAX_MOVIE_FRAMES)
    chosen = sorted({round(i) for i in np.linspace(0, frames - 1, count)})
    rate = min(FRAMES_PER_SECOND, max(4, round(count / 8)))
    even = (size[0] // 16 * 16, size[1] // 16 * 16)  # what the video codec wants
    more: dict[str, Any] = {"fps": rate}
    if path.suffix == ".mp4":
        more["macro_block_size"] = 16
    with imageio.get_writer(path, **more) as writer:
        for frame in chosen:
            writer.append_data(renderer.image(frame, choice, even))  # type: ignore[attr-defined]
    return path


def write_page(record: Record, path: Path, request: Request) -> Path:
    """Write the page whose atoms rotate with the mouse.

    Raises:
        InputError: the run holds no atoms.
    """
    trajectory = atoms.Trajectory(record, request.system)
    frames = page.spread(len(trajectory), len(trajectory[0].positions))
    look = atoms.Look(request.colour or "species", images=request.images)
    shown: Sequence[atoms.Snapshot] = [trajectory[frame] for frame in frames]
    path.write_text(page.scene(shown, record.title, look), encoding="utf-8")
    return path


def _has_screen() -> bool:
    return bool(
        sys.platform != "linux"
        or os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
    )


def _opens_window(record: Record, request: Request) -> bool:
    """Show atoms in a window with a slider; False where a page is the better choice."""
    if render.missing() or atoms.trajectory_name(record) is None:
        return False
    import pyvista as pv

    trajectory = atoms.Trajectory(record, request.system)
    plotter = pv.Plotter(window_size=list(request.size), title=record.title)
    look = atoms.Look(request.colour or "species", images=request.images)
    scene = atoms.Scene(plotter, look)
    scene.show(trajectory[request.frame])
    last = len(trajectory) - 1

    def turn_to(value: float) -> None:
        trajectory.refresh()
        scene.show(trajectory[min(round(value), len(trajectory) - 1)])

    plotter.add_slider_widget(  # type: ignore[call-arg]
        turn_to,  # type: ignore[arg-type]
        (0, max(last, 1)),
        value=last,
        title="frame",
        fmt="%.0f",
        color="black",
    )
    plotter.show()
    return True
