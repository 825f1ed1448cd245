"""``engine doctor``: what a run needs, whether it is installed, and the remedy."""

import ctypes.util
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from ..models.parts import strays

RENDER_REMEDY = "apt-get install libosmesa6"
"""What gives VTK a renderer on a machine without a screen."""

_OPTIONAL = {
    "pyscf": "label",
    "tblite": "label",
    "pyvista": "viz",
    "imageio": "viz",
    "trame": "live",
    "dpdata": "deepmd",
    "distributed": "cluster",
    "metatomic": "export",
}
_RENDER = (
    "import pyvista as pv; p = pv.Plotter(off_screen=True, window_size=(64, 64)); "
    "p.add_mesh(pv.Sphere()); p.show(screenshot=False); print('ok')"
)


def can_render() -> bool:
    """Whether PyVista can draw here; a child process tries, since VTK without GL aborts."""
    if importlib.util.find_spec("pyvista") is None:
        return False
    probe = subprocess.run(
        [sys.executable, "-c", _RENDER], capture_output=True, text=True, check=False
    )
    return probe.returncode == 0 and "ok" in probe.stdout


def examine() -> list[tuple[str, bool, str]]:
    """Return (name, found, detail or remedy) of everything that a run may need."""
    from .rundir import versions  # brings PyTorch, which a picture does not need

    rows = [(name, True, version) for name, version in versions().items()]
    rows.append(
        (
            "libX11",
            ctypes.util.find_library("X11") is not None,
            "needed by Taichi even without a screen; if missing: apt-get install libx11-6",
        )
    )
    from . import schema  # noqa: F401 - so that all families are known

    for name, near in strays().items():
        meant = f"; {near} is meant?" if near else ""
        rows.append((name, False, f"this entry point names no family of parts{meant}"))
    for package, extra in _OPTIONAL.items():
        found = importlib.util.find_spec(package) is not None
        rows.append((package, found, "" if found else f"pip install scalebridge[{extra}]"))
    rows.append(
        (
            "3D pictures",
            can_render(),
            f"if missing: {RENDER_REMEDY} (plots by matplotlib work without)",
        )
    )
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    rows.append(("disk", free > 1.0, f"{free:.1f} GB free here"))
    rows.append(_device())
    return rows


def _device() -> tuple[str, bool, str]:
    import torch

    if torch.cuda.is_available():
        return ("cuda", True, torch.cuda.get_device_name())
    return ("cuda", True, "no device; runs use the cpu")
