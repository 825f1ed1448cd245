"""The live page: a run in the browser, on 127.0.0.1, that follows a job while it writes.

Atoms are drawn here and sent as pictures (the mouse turns them); fields and numbers are
matplotlib's. Where the machine has no GL, so are the atoms. Beside the scene stands one
number over time, with the moment that is shown. The page is served before there is
anything to draw with: the browser itself draws the atoms of the newest frame on a canvas
until what draws in 3D is loaded.
"""

import asyncio
import base64
import sys
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.errors import EngineError, InputError
from . import guard, page, render, renderers
from .picture import png
from .record import Record

POLL_SECONDS = 0.5
"""How often the page looks for new frames."""
PLAY_SECONDS = 0.15
"""How long a frame stands while the run is played."""
MOST_SKETCHED = 100_000
"""Atoms that the browser draws by itself; more wait for what draws in 3D."""

_STYLE = """
html, body, #app { height: 100%; margin: 0; font: 15px system-ui, sans-serif; }
.page { display: flex; flex-direction: column; height: 100vh; }
.bar { display: flex; flex-wrap: wrap; gap: 1.1rem; align-items: center;
  padding: .5rem .9rem; border-bottom: 1px solid #ddd; background: #fafaf8; }
.bar input[type=range] { width: 22rem; max-width: 60vw; vertical-align: middle; }
#moment { min-width: 11rem; }
.both { flex: 1; min-height: 0; display: flex; }
.view { flex: 1; min-width: 0; position: relative; background: #fff; text-align: center; }
.side { width: 26rem; max-width: 40vw; padding: .6rem; border-left: 1px solid #ddd; }
.side img { width: 100%; }
.view iframe { width: 100%; height: 100%; border: 0; }
.view img { max-width: 100%; max-height: 100%; }
"""


class LivePage:
    """A page for one run.

    Args:
        path: the run folder.
        system: which system of a batch of atoms.
        colour: what the atoms are coloured by at first.

    Raises:
        InputError: trame is not installed, or this is no run folder.
    """

    def __init__(self, path: Path | str, system: int = 0, colour: str = "") -> None:
        try:
            from trame.app import get_server
        except ImportError as error:
            raise InputError(
                f"the live page needs trame ({error.name}): pip install scalebridge[live]"
            ) from error
        self.record = Record(path)
        self.renderer = renderers.renderer_of(self.record, system)
        self._token = guard.new_token()
        self.server: Any = get_server(f"scalebridge-{id(self)}", client_type="vue3")
        self._atoms = isinstance(self.renderer, renderers.AtomsRenderer)
        self._ready = self.solid = False
        self._view: Any = None
        self._shown: tuple[int, str, int] | None = None
        alone = isinstance(self.renderer, renderers.NumbersRenderer)
        self._numbers = None if alone else renderers.NumbersRenderer(self.record)
        self._begin(colour)
        self._build()

    def _begin(self, colour: str) -> None:
        frames, choices = self.renderer.refresh(), list(self.renderer.choices())
        chosen = colour or (choices[0] if choices else "")
        if colour and colour not in choices:
            raise InputError(f"colour {colour}: allowed: {', '.join(choices)}")
        state = self.server.state
        numbers = list(self._numbers.choices()) if self._numbers else []
        state.update(
            {
                "playing": False,
                "numbers": numbers,
                "number": numbers[0] if numbers else "",
                "curve": "",
                "frame": frames - 1,
                "last": frames - 1,
                "choice": chosen,
                "choices": choices,
                "follow": True,
                "moment": "",
                "status": "loading what draws" if self._atoms else "",
                "picture": "",
                "sketch": self._sketch(frames - 1),
                "serial": 0,
            }
        )
        state.title = state.trame__title = self.record.title
        state.change("frame")(lambda **_: self._moved())
        state.change("choice")(lambda **_: self.draw())
        state.change("number")(lambda **_: self._draw_curve())

    def _sketch(self, frame: int) -> str:
        """Return a page on which the browser draws one frame; empty where there is none."""
        if not isinstance(self.renderer, renderers.AtomsRenderer) or frame < 0:
            return ""
        snapshot = self.renderer.trajectory[frame]
        drawable = len(snapshot.positions) <= MOST_SKETCHED
        drawable = drawable and bool(np.isfinite(snapshot.positions).all())
        return page.scene([snapshot], self.record.title) if drawable else ""

    def _build(self) -> None:
        from trame.ui.html import DivLayout
        from trame.widgets import client, html

        if self._atoms and not render.missing_package():
            from trame.widgets import vtk

            vtk.initialize(self.server)  # its scripts are part of the page from the start
        with DivLayout(self.server) as layout:
            layout.root.classes = "page"
            client.Style(_STYLE)
            with html.Div(classes="bar"):
                html.B("{{ title }}")  # never as part of the template: it would be run
                html.Button(
                    "{{ playing ? 'pause' : 'play' }}",
                    id="play",
                    click=self._play,
                )
                with html.Label("frame "):
                    html.Input(
                        type="range",
                        id="frame",
                        min=0,
                        max=("last",),
                        v_model=("frame",),
                    )
                html.Span("{{ frame }} of {{ last }}, {{ moment }}", id="moment")
                with (
                    html.Label("show "),
                    html.Select(id="choice", v_model=("choice",)),
                ):
                    html.Option("{{ c }}", v_for="c in choices", key="c", value=("c",))
                with html.Label("follow "):
                    html.Input(type="checkbox", id="follow", v_model=("follow",))
                html.Span("{{ status }}", id="status")
                html.Span("{{ serial }}", id="serial", style="display: none")
            with html.Div(classes="both"):
                with html.Div(classes="view", id="view"):
                    html.Iframe(
                        srcdoc=("sketch",),
                        sandbox="allow-scripts",
                        v_if="sketch",
                        id="sketch",
                    )
                    html.Img(src=("picture",), alt="the run", v_if="picture")
                    client.ServerTemplate(name="scene")
                with html.Div(classes="side", id="side", v_show=("numbers.length",)):
                    with html.Select(id="number", v_model=("number",)):
                        html.Option("{{ n }}", v_for="n in numbers", key="n", value=("n",))
                    html.Img(src=("curve",), alt="a number over time", id="curve")

    async def _prepare(self) -> None:
        """Load what draws atoms: in 3D, or by matplotlib where that does not work."""
        if self._atoms:
            why = await asyncio.to_thread(render.load)
            if why:
                print(why, "(atoms are drawn flat, by matplotlib)", file=sys.stderr)
            else:
                self._add_scene()
        self._ready = True

    def _add_scene(self) -> None:
        from trame.ui.html import DivLayout
        from trame.widgets import vtk

        assert isinstance(self.renderer, renderers.AtomsRenderer)
        self.solid, plotter = True, self.renderer.plotter()
        prepare_interaction(plotter)
        with DivLayout(self.server, template_name="scene") as layout:
            layout.root.style = "height: 100%"
            self._view = vtk.VtkRemoteView(
                plotter.render_window, interactive_ratio=1, still_ratio=1
            )

    def _play(self) -> None:
        """Start or stop; at the last frame begin again."""
        state = self.server.state
        state.playing = not state.playing
        if state.playing:
            state.follow = False
            if int(state.frame) >= int(state.last):
                state.frame = 0

    def _moved(self) -> None:
        """Follow the job only while its newest frame is shown, as a terminal does."""
        state = self.server.state
        if int(state.frame) < int(state.last):
            state.follow = False
        self.draw()

    def draw(self) -> None:
        """Draw the frame and the choice that the page's controls show, once that can be."""
        if not self._ready:
            return
        state = self.server.state
        frames = self.renderer.refresh()
        frame, choice = min(int(state.frame), frames - 1), str(state.choice)
        growing = frames if isinstance(self.renderer, renderers.NumbersRenderer) else 0
        if self._shown == (frame, choice, growing) and not growing:
            return
        self._shown = (frame, choice, growing)
        if self.solid:
            assert isinstance(self.renderer, renderers.AtomsRenderer)
            self.renderer.show(frame, choice)
            self.renderer.plotter().render()
            if self._view is not None:
                self._view.update()
        else:
            state.picture = _embedded(self.renderer.image(frame, choice, (960, 600)))
        state.sketch = ""
        state.moment = self.renderer.moment(frame)
        state.serial += 1
        self._draw_curve()

    def _draw_curve(self) -> None:
        """Draw the number beside the scene."""
        state = self.server.state
        if self._numbers is not None and state.number:
            size, moment = (420, 300), self._time(int(state.frame))
            state.curve = _embedded(self._numbers.curve(str(state.number), size, moment))

    def _time(self, frame: int) -> float | None:
        """Return the time of a frame, in the unit of the numbers."""
        group = self.record.group(self.renderer.group)
        time = group.time() if group is not None else None
        if time is None or not 0 <= frame < len(time.values):
            return None
        return float(time.values[frame])

    def look(self) -> None:
        """Check for new frames, and show the newest one if it is followed."""
        state = self.server.state
        frames = self.renderer.refresh()
        state.last = frames - 1
        state.status = "finished" if self.record.summary else "running"
        if self._numbers is not None:
            state.numbers = list(self._numbers.choices())
            state.number = state.number or (state.numbers[0] if state.numbers else "")
        if not state.choices:
            state.choices = list(self.renderer.choices())
            state.choice = state.choices[0] if state.choices else ""
        if state.follow:
            state.frame = frames - 1
            if isinstance(self.renderer, renderers.NumbersRenderer):
                self.draw()

    async def follow(self) -> None:
        """Draw, then poll for new frames as long as the page is served."""
        with self.server.state:
            await self._prepare()
        while True:
            with self.server.state as state:
                try:
                    self.look()
                    self._advance()
                    if self._shown is None or self._shown[0] != int(state.frame):
                        self.draw()
                except EngineError as error:
                    self.server.state.status = str(error)
                except (OSError, ValueError, KeyError):
                    pass  # the writer is between two files; look again
            playing = self.server.state.playing
            await asyncio.sleep(PLAY_SECONDS if playing else POLL_SECONDS)

    def _advance(self) -> None:
        """Go to the next frame of a run that is played; stop at the last one."""
        state = self.server.state
        if not state.playing:
            return
        if int(state.frame) < int(state.last):
            state.frame = int(state.frame) + 1
        else:
            state.playing = False

    def serve(self, port: int = 0, open_browser: bool = False) -> None:
        """Serve the page on 127.0.0.1 until interrupted; port 0 takes a free one."""

        def bound(server: Any) -> None:
            strangers = guard.middleware(self._token, lambda: self.server.port)
            server.app.middlewares.insert(0, strangers)

        def ready(**_: Any) -> None:
            address = guard.address(self.server.port, self._token)
            print(f"{self.record.path}: {address}  (Ctrl-C ends)", flush=True)
            if open_browser:
                webbrowser.open(address)
            asyncio.get_event_loop().create_task(self.follow())

        self.server.controller.on_server_bind.add(bound)
        self.server.controller.on_server_ready.add(ready)
        self.server.start(
            host="127.0.0.1",
            port=port,
            open_browser=False,
            show_connection_info=False,
            timeout=0,
            exec_mode="main",
            argv=[],
        )


def _embedded(image: np.ndarray) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def prepare_interaction(plotter: Any) -> None:
    """Let the mouse of the page rotate the scene as in a window."""
    from vtkmodules.vtkInteractionStyle import vtkInteractorStyleTrackballCamera
    from vtkmodules.vtkRenderingCore import vtkRenderWindowInteractor

    interactor = vtkRenderWindowInteractor()
    interactor.SetRenderWindow(plotter.render_window)
    interactor.SetInteractorStyle(vtkInteractorStyleTrackballCamera())
    plotter._scalebridge_interactor = interactor
