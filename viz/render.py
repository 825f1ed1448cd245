"""Whether 3D rendering works: asked of a child process, since VTK without GL aborts."""

import importlib.util
import os
import subprocess
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from ..engine.doctor import RENDER_REMEDY

if TYPE_CHECKING:
    import pyvista

_PROBE = """
import numpy
import vtkmodules.vtkRenderingOpenGL2
from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow
window = vtkRenderWindow()
window.SetOffScreenRendering(1)
window.SetSize(16, 16)
renderer = vtkRenderer()
renderer.SetBackground(0, 1, 0)
window.AddRenderer(renderer)
window.Render()
print("drawn", window.GetClassName())
"""


def missing_package() -> str:
    """Return one line if PyVista is not installed; this takes no time."""
    if importlib.util.find_spec("pyvista") is None:
        return "3D pictures need PyVista: pip install scalebridge[viz]"
    return ""


@lru_cache(maxsize=1)
def start_probe() -> "subprocess.Popen[str] | None":
    """Start the probe; call early, since it takes about a second."""
    if missing_package() or "SCALEBRIDGE_RENDER" in os.environ:
        return None
    return subprocess.Popen(
        [sys.executable, "-c", _PROBE],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@lru_cache(maxsize=1)
def missing() -> str:
    """Return one line on what 3D pictures need and is missing; empty if nothing is.

    The environment variable ``SCALEBRIDGE_RENDER`` (``0`` or ``1``) replaces the probe.
    """
    if missing_package():
        return missing_package()
    if "SCALEBRIDGE_RENDER" in os.environ:
        off = os.environ["SCALEBRIDGE_RENDER"] == "0"
        return "3D pictures are switched off by SCALEBRIDGE_RENDER=0" if off else ""
    probe = start_probe()
    assert probe is not None
    try:
        answer, _ = probe.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        probe.kill()
        answer = ""
    if probe.returncode == 0 and "drawn" in answer:
        return ""
    return f"3D pictures need OpenGL, software will do: {RENDER_REMEDY}"


def load() -> str:
    """Import what 3D pictures of atoms need, for a second; return :func:`missing`."""
    start_probe()
    if not missing_package():
        import ase.neighborlist  # noqa: F401
        import pyvista.plotting  # noqa: F401
    return missing()


def plotter(size: tuple[int, int] = (800, 600)) -> "pyvista.Plotter":
    """Return a plotter without a window; :func:`missing` must be empty."""
    import pyvista as pv
    from vtkmodules.vtkCommonCore import vtkLogger

    # Without an X server VTK prints warnings before it falls back to EGL.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    made = pv.Plotter(off_screen=True, window_size=list(size))
    made.renderer.SetBackground(1.0, 1.0, 1.0)
    return made
