"""SPARTA beside this engine: hard spheres in a periodic box and past a cylinder.

SPARTA (Plimpton, Moore, Borner, Stagg, Koehler, Torczynski, Gallis, Phys. Fluids 31, 086101
(2019)) is built from its source as ``spa_serial`` with ``-O3 -march=native`` and stands in
``SCALEBRIDGE_PEERS/sparta``. It computes in SI units; hard spheres of argon's mass at 300 K
are given the density at which their viscosity is ``Kn rho sqrt(R T) L`` of the stream, with
L of one metre, so that its numbers over those units are those of the engine.
"""

import math
import os
import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(os.environ.get("SCALEBRIDGE_PEERS", Path(__file__).parent / "peers"))
PROGRAM = PEERS / "sparta" / "spa_serial"

MASS, DIAMETER, HOT = 6.6335e-26, 4.0e-10, 300.0
SPEED = math.sqrt(1.380649e-23 * HOT / MASS)
VISCOSITY = 1.016034 * 5 / 16 * math.sqrt(MASS * 1.380649e-23 * HOT / math.pi) / DIAMETER**2
"""Chapman and Enskog's for hard spheres, all orders."""


def there() -> bool:
    """Return whether the program is installed."""
    return PROGRAM.is_file()


def density(knudsen: float) -> float:
    """Return the number of molecules per cubic metre, L = 1 m."""
    return VISCOSITY / (knudsen * MASS * SPEED)


GAS = f"""species gas.species Ar
mixture gas Ar vstream {{velocity}} 0 0 temp {HOT}
collide vss gas gas.vss
collide_modify {{near}}
"""


def _run(deck: str, **files: str) -> str:
    """Run an input; return its log."""
    files |= {
        "gas_species": f"Ar 39.948 {MASS} 0 0.0 0 0.0 0.0 0.0 0.0\n",
        "gas_vss": f"Ar {DIAMETER} 0.5 273.15 1.0\n",
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name.replace("_", ".")).write_text(text)
        (Path(folder) / "in.deck").write_text(deck)
        ran = subprocess.run(
            [str(PROGRAM), "-in", "in.deck"], cwd=folder, capture_output=True, text=True
        )
        log = (Path(folder) / "log.sparta").read_text()
    if ran.returncode or "ERROR" in log:
        raise RuntimeError(f"SPARTA: {(ran.stdout + ran.stderr + log)[-500:]}")
    return log


def box(cells: int, per_cell: int, step: float, steps: int) -> float:
    """Return nanoseconds of CPU time per particle and step of a periodic box, one core.

    Cells are 1 wide, Kn and the density 1; ``step`` is in widths over sqrt(R T). The time
    of a run that only starts is taken off.
    """
    n = density(1.0)
    deck = f"""seed 12345
dimension 2
global nrho {n} fnum {n / per_cell} particle/reorder 50
timestep {step / SPEED}
boundary p p p
create_box 0 {cells} 0 1 -0.5 0.5
create_grid {cells} 1 1
{GAS.format(velocity=0, near="nearcp no 10")}create_particles gas n {cells * per_cell}
stats 1000
run """
    spent = []
    for made in (10, 10 + steps):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(deck + f"{made}\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1e9 * (spent[1] - spent[0]) / steps / (cells * per_cell)


@dataclass(frozen=True)
class Drag:
    """Force along the stream and heat of a whole cylinder of diameter 1, for depth 1.

    In units rho (R T) L and rho (R T)^1.5 L of the stream.
    """

    force: float
    heat: float
    seconds: float


def cylinder(
    speed: float, knudsen: float, cells: int, per_cell: int, warm: float, time: float
) -> Drag:
    """Return what a cylinder feels in a box ``[-1.5, 1.5] x [-2, 2]``.

    The wall is diffuse, of the temperature of the stream, which enters at three sides;
    ``cells`` to a diameter, ``time`` in L / sqrt(R T) after ``warm``. Steps are a third of
    a cell of the stream.
    """
    n = density(knudsen)
    step = 1.0 / (3 * cells * speed)
    points = 720
    at = [2 * math.pi * (k + 0.5) / points for k in range(points)]
    circle = f"circle\n\n{points} points\n{points} lines\n\nPoints\n\n"
    circle += "".join(
        f"{k + 1} {0.5 * math.cos(a):.15g} {0.5 * math.sin(a):.15g}\n"
        for k, a in enumerate(at)
    )
    circle += "\nLines\n\n"
    circle += "".join(f"{k + 1} {(k + 1) % points + 1} {k + 1}\n" for k in range(points))
    sampled = max(1, round(time / step))
    log = _run(
        f"""seed 12345
dimension 2
global nrho {n} fnum {n / cells**2 / per_cell} gridcut 0.05 particle/reorder 50
timestep {step / SPEED}
boundary o o p
create_box -1.5 1.5 -2 2 -0.5 0.5
create_grid {3 * cells} {4 * cells} 1
{GAS.format(velocity=speed * SPEED, near="nearcp yes 10")}read_surf circle.surf
surf_collide 1 diffuse {HOT} 1.0
surf_modify all collide 1
fix in emit/face gas xlo yhi ylo
create_particles gas n 0
stats 1000
stats_style step cpu np
run {round(warm / step)}
compute s surf all gas fx etot norm flow
fix f ave/surf all 1 {sampled} {sampled} c_s[*] ave one
compute all reduce sum f_f[1] f_f[2]
stats_style step cpu np c_all[1] c_all[2]
stats {sampled}
run {sampled}
""",
        circle_surf=circle,
    )
    force, heat = re.findall(r"^ *\d+ +\S+ +\d+ +(\S+) +(\S+) *$", log, re.M)[-1]
    seconds = sum(float(s) for s in re.findall(r"Loop time of (\S+) on", log))
    unit = n * MASS * SPEED**2
    return Drag(float(force) / unit, float(heat) / unit / SPEED, seconds)
