"""Set-ups of flows: generated ones, wrong ones, adequate ones, and what becomes of them.

What ``engine check`` takes, ``engine run`` must begin: a trial checks a set-up as the
command line does and then runs it. Generated set-ups are mostly sensible, so that most of
them get as far as the run, with values at and beyond the edges mixed in.
"""

import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from scalebridge.engine.errors import EngineError, GuardError, InputError
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

Data = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What became of a set-up.

    Attributes:
        end: ``refused`` by check, ``refused_late`` by run, ``guarded`` (run stopped by a
            guard), ``ran``, or ``crashed`` (an error without a line for the user).
        said: the error, or the checks that failed.
    """

    end: Literal["refused", "refused_late", "guarded", "ran", "crashed"]
    said: str = ""


def attempt(data: Data) -> Trial:
    """Check a set-up, then run it."""
    place = "check"
    try:
        with tempfile.TemporaryDirectory(prefix="setup_") as path:
            job = assemble(parse(deepcopy(data), "case.toml"), Path(path))
            place = "run"
            with RunFolder.create(Path(path) / "run", "", {}) as folder:
                outcome = job.run(folder, console_reporter(quiet=True))
    except InputError as error:
        return Trial("refused" if place == "check" else "refused_late", str(error))
    except GuardError as error:
        return Trial("guarded", str(error))
    except EngineError as error:
        return Trial("crashed", f"{place}: {type(error).__name__}: {error}")
    except Exception as error:  # what no user should see is what is looked for
        return Trial("crashed", f"{place}: {type(error).__name__}: {error}")
    return Trial("ran", ", ".join(c.name for c in outcome.checks if not c.passed))


def generate(count: int, number: int = 0) -> Iterator[tuple[Data, Trial]]:
    """Return generated set-ups with what became of each.

    Args:
        count: how many.
        number: seed.
    """
    found: list[tuple[Data, Trial]] = []

    @seed(number)
    @settings(
        max_examples=count, deadline=None, phases=[Phase.generate],
        database=InMemoryExampleDatabase(), suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(setups())
    def tried(data: Data) -> None:
        found.append((data, attempt(data)))

    tried()
    return iter(found[:count])


# -- generated ---------------------------------------------------------------------------

AXES = "xyz"


def rarely(usual: st.SearchStrategy, odd: st.SearchStrategy) -> st.SearchStrategy:
    """Draw from ``odd`` one time in forty."""
    return st.integers(0, 39).flatmap(lambda n: odd if n == 17 else usual)


def expressions(dim: int, low: float, moving: bool = False) -> st.SearchStrategy:
    """Texts that are positive over ``[0, 1]^dim``, and rarely something else."""
    names = list(AXES[:dim]) + (["t"] if moving else [])
    x, scale = st.sampled_from(names), st.sampled_from([0.05, 0.2])
    sound = st.one_of(
        st.builds("{2} + {1}*sin(2*pi*{0})".format, x, scale, st.just(low)),
        st.builds("{2} + {1}*where({0} > 0.4, 1, 0)".format, x, scale, st.just(low)),
        st.builds("max({2}, {1}*{0}**2)".format, x, scale, st.just(low)),
    )
    odd = st.sampled_from(
        ["1 + z", "1 + t", "x - 0.5", "1/0", "sqrt(-x)", "0*x", "1e400", "log(x - 0.5)",
         "q", "1 +", "1/(x - x)", "1 - 200*t", "where(t > 0, -1, 1)"]
    )  # fmt: skip
    return rarely(sound, odd)


def quantity(dim: int, moving: bool = False) -> st.SearchStrategy:
    """A positive number or expression."""
    numbers = rarely(
        st.sampled_from([0.5, 1.0, 1.2]), st.sampled_from([1e-8, 1e3, 0.0, -1.0, 40.0])
    )
    return st.one_of(numbers, expressions(dim, 1.0, moving))


def velocity(dim: int, moving: bool = False) -> st.SearchStrategy:
    """Components of a velocity: mostly as many as the grid has axes."""
    speeds = st.one_of(
        st.sampled_from([0.0, 0.1, -0.2]),
        rarely(st.just(0.0), st.sampled_from([3.0, 30.0, "1/0", "x", "z", "y - 0.5"])),
        st.just("0.1*t") if moving else st.just("0.05*sin(2*pi*x)"),
    )
    many = rarely(st.just(dim), st.integers(1, 4))
    return many.flatmap(lambda n: st.lists(speeds, min_size=n, max_size=n))


@st.composite
def points(draw: Any, dim: int) -> Data:
    """A state in equilibrium, as jumps and quadrants have it."""
    heat = draw(st.sampled_from(["temperature", "pressure"]))
    values = rarely(st.sampled_from([0.8, 1.0, 1.5]), st.sampled_from([1e-9, 50.0, 0.0]))
    speed = rarely(st.just(0.0), st.sampled_from([0.3, -2.0, 20.0]))
    count = draw(rarely(st.just(dim), st.integers(1, 3)))
    found = {"density": draw(values), heat: draw(values)}
    if draw(st.booleans()):
        found["velocity"] = [draw(speed) for _ in range(count)]
    return found


@st.composite
def shapes(draw: Any, dim: int) -> Data | str:
    """A region of space."""
    many = draw(rarely(st.just(dim), st.integers(1, 3)))
    kind = draw(st.sampled_from(["half_space", "layer", "box", "ball", "polygon", "where"]))
    if kind == "half_space":
        normal = draw(rarely(st.just([1.0] * many), st.just([0.0] * many)))
        return {"kind": kind, "point": [0.5] * many, "normal": normal}
    if kind == "layer":
        ends = draw(st.sampled_from([{"low": 0.3}, {"low": 0.2, "high": 0.6}, {}]))
        return {"kind": kind, "axis": draw(st.sampled_from(AXES[:many])), **ends}
    if kind == "box":
        high = draw(rarely(st.just(0.7), st.sampled_from([0.1, 0.21, 9.0])))
        return {"kind": kind, "lower": [0.2] * many, "upper": [high] * many}
    if kind == "ball":
        radius = draw(rarely(st.just(0.4), st.sampled_from([0.0, 1e-3, 50.0])))
        return {"kind": kind, "center": [0.5] * many, "radius": radius}
    if kind == "polygon":
        return {"kind": kind, "corners": [[0.1, 0.1], [0.9, 0.2], [0.5, 0.9]]}
    return {"kind": kind, "condition": draw(conditions(AXES[:dim]))}


def conditions(axes: str) -> st.SearchStrategy:
    """Conditions that hold in part of a face or box; a point has no part."""
    if not axes:
        return st.sampled_from(["1", "x > 0.5", "y > 0"])
    names = st.sampled_from(axes)
    good = st.builds("{0} > 0.2 and {1} < 0.7".format, names, names)
    return rarely(good, st.sampled_from(["z > 2", "x >", "x > 5", "t > 0", "1", "x/0 > 1"]))


@st.composite
def boundary(draw: Any, dim: int, axis: int) -> Data | str:
    """What is at one end of an axis."""
    kind = draw(
        st.sampled_from(
            ["wall", "wall", "open", "inflow", "symmetry", "pressure_inlet",
             "pressure_outlet", "mass_flow_inlet", "mass_flow_outlet"]
        )
    )  # fmt: skip
    heat = quantity(dim, moving=True)
    if kind == "wall":
        side: Data = {"kind": kind}
        if draw(st.booleans()):
            side["temperature"] = draw(heat)
        if draw(st.booleans()):
            side["velocity"] = draw(velocity(dim, moving=True))
            if draw(rarely(st.just(True), st.just(False))) and axis < len(side["velocity"]):
                side["velocity"][axis] = 0.0
        if draw(st.booleans()):
            share = rarely(st.sampled_from([0.0, 0.8, 1.0]), st.sampled_from([-0.1, 1.1]))
            side["accommodation"] = draw(share)
        return side
    if kind == "inflow":
        return {
            "kind": kind, "density": draw(heat), "temperature": draw(heat),
            "velocity": draw(velocity(dim, moving=True)),
        }  # fmt: skip
    needs = {
        "pressure_inlet": ("pressure", "temperature"), "pressure_outlet": ("pressure",),
        "mass_flow_inlet": ("mass_flow", "temperature"), "mass_flow_outlet": ("mass_flow",),
    }  # fmt: skip
    if kind not in needs:
        return kind
    return {"kind": kind, **{name: draw(heat) for name in needs[kind]}}


@st.composite
def boundaries(draw: Any, dim: int) -> Data:
    """Both ends of every axis."""
    found: Data = {}
    for axis in range(draw(rarely(st.just(dim), st.integers(1, 3)))):
        if draw(st.booleans()):
            continue
        ends: Data = {end: draw(boundary(dim, axis)) for end in ("low", "high")}
        if draw(rarely(st.just(False), st.just(True))):
            ends["low"] = "periodic"
        if draw(st.integers(0, 3)) == 0:
            along = AXES[:dim].replace(AXES[axis], "")
            where = draw(rarely(conditions(along), shapes(dim)))
            side = draw(boundary(dim, axis))
            ends["high_parts"] = [{"where": where, "boundary": side}]
        found[AXES[axis]] = ends
    return found


@st.composite
def initials(draw: Any, dim: int) -> Data:
    """The state at the start."""
    special = {
        1: ["shock", "shu_osher", "sound"],
        2: ["quadrants", "vortex", "shear_layer"],
    }
    every = ["quadrants", "shock", "vortex"]
    usual = ["fields"] * 4 + ["uniform", "jump"] + special.get(dim, [])
    kind = draw(rarely(st.sampled_from(usual), st.sampled_from(every)))
    if kind == "uniform":
        found = {"kind": kind, "low": draw(points(dim))}
        return found | ({"high": draw(points(dim))} if draw(st.booleans()) else {})
    if kind == "jump":
        return {
            "kind": kind, "left": draw(points(dim)), "right": draw(points(dim)),
            "position": draw(rarely(st.just(0.5), st.sampled_from([-3.0, 0.0, 1.0]))),
        }  # fmt: skip
    if kind == "quadrants":
        states = [draw(points(dim)) for _ in range(4)]
        center = draw(rarely(st.just([0.5, 0.5]), st.just([7.0, 0.5])))
        return {"kind": kind, "states": states, "center": center}
    if kind == "shock":
        return {"kind": kind, "mach": draw(rarely(st.just(2.0), st.just(15.0)))}
    if kind == "vortex":
        return {"kind": kind, "strength": draw(rarely(st.just(2.0), st.just(7.9)))}
    if kind != "fields":
        return {"kind": kind}
    heat = draw(st.sampled_from(["temperature", "pressure"]))
    found = {"kind": kind, "density": draw(quantity(dim)), heat: draw(quantity(dim))}
    if draw(st.booleans()):
        found["velocity"] = draw(velocity(dim))
    if draw(st.integers(0, 2)) == 0:
        region: Data = {"shape": draw(shapes(dim)), "density": draw(quantity(dim))}
        if draw(st.booleans()):
            region[draw(st.sampled_from(["temperature", "pressure"]))] = draw(quantity(dim))
        found["regions"] = [region]
    return found


@st.composite
def models(draw: Any, dim: int, degrees: int) -> Data:
    """A model of the flow."""
    kinds = ["kinetic", "kinetic", "euler", "nsf", "hermite", "grad13"]
    kind = draw(st.sampled_from(kinds[: 6 if degrees == 3 else 5]))
    cfl = draw(st.sampled_from([{}, {}, {"cfl": 0.2}]))
    if kind == "kinetic":
        most = max(dim, min(degrees, 2 if dim < 2 else 3))
        axes = draw(rarely(st.integers(dim, most), st.integers(1, 3)))
        nodes = draw(st.sampled_from([8, 9, 12]) if axes < 3 else st.just(8))
        limit = draw(rarely(st.just(5.0), st.sampled_from([2.0, -5.0, 900.0])))
        middle = draw(rarely(st.just(0.0), st.just(4.0)))
        return {
            "kind": kind, "nodes": [nodes] * axes, "lower": [middle - limit] * axes,
            "upper": [middle + limit] * axes, **cfl,
            "collision": draw(st.sampled_from(["bgk", "es", "shakhov"])),
        }  # fmt: skip
    if kind in ("euler", "nsf"):
        found = {"kind": kind, "scheme": draw(st.sampled_from(["first", "muscl", "weno5"]))}
        if kind == "euler" and draw(st.booleans()):
            own = st.just((degrees + 2) / degrees)
            found["gamma"] = draw(rarely(own, st.sampled_from([1.4, 1.01, 3.0])))
        if kind == "euler" and draw(rarely(st.just(False), st.just(True))):
            found["refine"] = 2
        return found | cfl
    if kind == "grad13":
        return {"kind": kind, **cfl}
    found = {"kind": kind, **cfl}
    if draw(st.booleans()):
        found["order"] = draw(rarely(st.sampled_from([3, 4]), st.sampled_from([2, 5, 17])))
    if draw(st.booleans()):
        found["upwind"] = draw(st.sampled_from(["roe", "rusanov"]))
    if draw(st.booleans()):
        found["limiter"] = draw(st.sampled_from(["van_leer", "koren"]))
    if draw(st.integers(0, 3)) == 0:
        found["closure"] = draw(st.sampled_from(["hyperbolic", "grad"]))
    return found


@st.composite
def forces(draw: Any, dim: int) -> Data:
    """A force and a heat source."""
    number = st.one_of(st.sampled_from([0.0, -0.5, 0.3, "0.1*sin(2*pi*x)"]))
    odd = st.sampled_from([1e5, "1/x", "z", "1/(x-x)", "t", -1e3])
    many = draw(rarely(st.just(dim), st.integers(1, 3)))
    found: Data = {"acceleration": [draw(rarely(number, odd)) for _ in range(many)]}
    if draw(st.booleans()):
        found["heat"] = draw(rarely(st.sampled_from([0.0, 0.2, "0.1*x"]), odd))
    if draw(st.integers(0, 3)) == 0:
        found["rest"] = {"density": draw(quantity(dim)), "temperature": 1.0}
    return found


@st.composite
def setups(draw: Any) -> Data:
    """A scenario file of a flow, as a table."""
    dim = draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
    degrees = draw(rarely(st.just(3), st.integers(1, 3)) if dim > 1 else st.integers(1, 3))
    cells = [draw(st.integers(4, 6 if dim > 1 else 12)) for _ in range(dim)]
    length = draw(rarely(st.just(1.0), st.sampled_from([0.0, -1.0, 1e-3, 50.0])))
    end = draw(rarely(st.sampled_from([0.002, 0.01]), st.sampled_from([1e-7, 0.0])))
    time: Data = {"end": end * max(length, 1e-3), "frames": draw(st.integers(1, 2))}
    model = draw(models(dim, degrees))
    often = model["kind"] != "kinetic"
    if draw(rarely(st.just(often), st.just(not often))) and draw(st.booleans()):
        time["cfl"] = draw(rarely(st.just(0.3), st.sampled_from([1.0, 1e-4, 1.5])))
    if draw(st.integers(0, 5)) == 0:
        time["steady"] = draw(st.sampled_from([1e-3, 1e-9, 1e-15]))
    thin = rarely(st.sampled_from([0.01, 0.1, 1.0]), st.sampled_from([1e-6, 1e4, 0.0]))
    data: Data = {
        "version": 1, "kind": "gas",
        "grid": {"cells": cells, "lower": [0.0] * dim, "upper": [length] * dim},
        "gas": {"dimension": degrees}, "model": model,
        "knudsen": draw(st.lists(thin, min_size=1, max_size=2)),
        "initial": draw(initials(dim)), "time": time,
    }  # fmt: skip
    if draw(
        rarely(st.just(degrees > 1 and model.get("collision") != "bgk"), st.booleans())
    ):
        data["gas"]["prandtl"] = draw(st.sampled_from([1.0, 2 / 3, 0.71, 2.5]))
    if data["initial"]["kind"] == "sound":
        data["gas"]["viscosity"] = "constant_time"
    elif draw(st.booleans()):
        law = st.sampled_from(["power_law", "constant_time"])
        data["gas"]["viscosity"] = draw(law)
    if draw(st.booleans()):
        data["boundaries"] = draw(boundaries(dim))
    if draw(st.integers(0, 3)) == 0:
        data["force"] = draw(forces(dim))
    if draw(st.integers(0, 3)) == 0:
        data["compare"] = [draw(models(dim, degrees))]
    if draw(st.integers(0, 5)) == 0:
        names = ["couette", "fourier", "sedov", "noh", "rest", "rayleigh_taylor"]
        fitting = {"jump": "riemann", "shock": "shock", "vortex": "vortex"}
        usual = st.just(fitting.get(data["initial"]["kind"], "none"))
        data["reference"] = draw(rarely(usual, st.sampled_from(names)))
    if draw(st.integers(0, 3)) == 0:
        data["precision"] = "f32"
    return data


# -- wrong -------------------------------------------------------------------------------

WALL = {"kind": "wall"}
AIR = {"density": 1.0, "temperature": 1.0}
TUBE: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.1],
    "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
    "boundaries": {"x": {"low": "open", "high": "open"}},
    "model": {"kind": "euler"},
    "initial": {
        "kind": "jump", "position": 0.5, "left": {"density": 1.0, "pressure": 1.0},
        "right": {"density": 0.125, "pressure": 0.1},
    },
    "time": {"end": 0.01, "frames": 1},
}  # fmt: skip
PLANE: Data = {
    "version": 1, "kind": "gas", "knudsen": [0.1],
    "grid": {"cells": [6, 6], "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
    "boundaries": {a: {"low": dict(WALL), "high": dict(WALL)} for a in "xy"},
    "model": {
        "kind": "kinetic", "nodes": [10, 10], "lower": [-5.0, -5.0], "upper": [5.0, 5.0],
    },
    "initial": {"kind": "fields", "density": 1.0, "temperature": 1.0},
    "time": {"end": 0.01, "frames": 1},
}  # fmt: skip
"""Two set-ups that are right; each wrong one changes a few keys of one of them."""

CHANGES: tuple[tuple[str, Data, Data, str], ...] = (
    ("periodic at one end", TUBE, {"boundaries.x.low": "periodic"}, "boundaries.x"),
    ("a wall that moves into the gas", TUBE,
     {"boundaries.x.low": {**WALL, "velocity": [0.2]}}, "boundaries.x.low.velocity"),
    ("a wall that will move into the gas", TUBE,
     {"boundaries.x.low": {**WALL, "velocity": ["0.2*t"]}}, "boundaries.x.low.velocity"),
    ("a wall along an axis without velocities", TUBE,
     {"boundaries.x.high": {**WALL, "velocity": [0.0, 0.1]}},
     "boundaries.x.high.velocity"),
    ("a stream along an axis without velocities", TUBE,
     {"initial.left": {"density": 1.0, "pressure": 1.0, "velocity": [0.0, 0.3]}},
     "initial.left.velocity"),
    ("a wall of negative temperature", PLANE,
     {"boundaries.x.low": {**WALL, "temperature": -1.0}}, "boundaries.x.low.temperature"),
    ("a wall that is cold somewhere", PLANE,
     {"boundaries.x.low": {**WALL, "temperature": "y - 0.5"}},
     "boundaries.x.low.temperature"),
    ("a wall that will be below zero", PLANE,
     {"boundaries.x.low": {**WALL, "temperature": "1 - 200*t"}},
     "boundaries.x.low.temperature"),
    ("a reservoir that will be empty", TUBE,
     {"boundaries.x.low": {"kind": "inflow", **AIR, "density": "1 - 200*t",
                           "velocity": [0.1]}}, "boundaries.x.low.density"),
    ("a pressure that will be negative", TUBE,
     {"boundaries.x.high": {"kind": "pressure_outlet", "pressure": "1 - 200*t"}},
     "boundaries.x.high.pressure"),
    ("an infinite wall speed", PLANE,
     {"boundaries.y.low": {**WALL, "velocity": ["1/(x - x)", 0.0]}},
     "boundaries.y.low.velocity"),
    ("a wall speed in z on a plane", PLANE,
     {"boundaries.y.low": {**WALL, "velocity": ["z", 0.0]}}, "boundaries.y.low.velocity"),
    ("a reservoir of a place that is not there", TUBE,
     {"boundaries.x.low": {"kind": "inflow", **AIR, "density": "1 + y",
                           "velocity": [0.1]}}, "boundaries.x.low.density"),
    ("a reservoir that streams too fast for the nodes", PLANE,
     {"boundaries.x.low": {"kind": "inflow", **AIR, "velocity": [6.0, 0.0]}},
     "boundaries.x.low"),
    ("a reservoir with half a velocity", PLANE,
     {"boundaries.x.low": {"kind": "inflow", **AIR, "velocity": [0.1]}},
     "boundaries.x.low.velocity"),
    ("more than everything accommodated", PLANE,
     {"boundaries.x.low": {**WALL, "accommodation": 1.5}},
     "boundaries.x.low.accommodation"),
    ("an accommodation given in per cent", PLANE,
     {"boundaries.x.low": {**WALL, "accommodation": 90}},
     "boundaries.x.low.accommodation"),
    ("a boundary of another name", TUBE, {"boundaries.x.low": "outflow"},
     "boundaries.x.low"),
    ("a key that a wall has not", TUBE,
     {"boundaries.x.low": {**WALL, "temprature": 1.0}}, "temprature"),
    ("a boundary of an axis that is not there", TUBE,
     {"boundaries.y": {"low": WALL, "high": WALL}}, "boundaries.y"),
    ("a part of a face without a cell", PLANE,
     {"boundaries.x.low_parts": [{"where": "y > 5", "boundary": "symmetry"}]},
     "boundaries.x.low_parts.0.where"),
    ("a part of a face that is periodic", PLANE,
     {"boundaries.x.low_parts": [{"where": "y > 0.5", "boundary": "periodic"}]},
     "boundaries.x.low_parts.0.boundary"),
    ("a part of a periodic face", PLANE,
     {"boundaries.x": {"low_parts": [{"where": "y > 0.5", "boundary": "symmetry"}]}},
     "boundaries.x"),
    ("a part in another plane", PLANE,
     {"boundaries.x.low_parts": [
         {"where": {"kind": "ball", "center": [0.0], "radius": 0.2},
          "boundary": "symmetry"}]}, "boundaries.x.low_parts.0.where"),
    ("a part that depends on time", PLANE,
     {"boundaries.x.low_parts": [{"where": "t > 0", "boundary": "symmetry"}]},
     "boundaries.x.low_parts.0.where"),
    ("a mass flow of nothing", TUBE,
     {"boundaries.x.low": {"kind": "mass_flow_inlet", "mass_flow": 0.0,
                           "temperature": 1.0}}, "boundaries.x.low.mass_flow"),
    ("too few velocities for the plane", PLANE,
     {"model.nodes": [10], "model.lower": [-5.0], "model.upper": [5.0]}, "model.nodes"),
    ("velocity axes of different number", PLANE, {"model.lower": [-5.0]}, "model"),
    ("velocities the wrong way round", PLANE, {"model.lower": [5.0, 5.0],
     "model.upper": [-5.0, -5.0]}, "model.lower"),
    ("velocities too narrow", PLANE, {"model.lower": [-2.0, -2.0],
     "model.upper": [2.0, 2.0]}, "velocities"),
    ("velocities too narrow for a wall", PLANE,
     {"boundaries.x.low": {**WALL, "temperature": 9.0}}, "boundaries.x.low"),
    ("velocities too few for the cold gas", PLANE, {"initial.temperature": 0.01},
     "initial"),
    ("velocities too few for a cold wall", PLANE,
     {"boundaries.x.low": {**WALL, "temperature": 0.01}}, "boundaries.x.low"),
    ("a Courant number over one half", PLANE, {"model.cfl": 0.8}, "model.cfl"),
    ("Prandtl number of BGK", PLANE, {"gas": {"prandtl": 0.7}}, "gas.prandtl"),
    ("a region without density", PLANE, {"initial.regions": [
        {"shape": {"kind": "ball", "center": [0.5, 0.5], "radius": 0.3},
         "density": "x - 0.5"}]}, "initial.regions.0.density"),
    ("a region where nothing is known", PLANE, {"initial.regions": [
        {"shape": {"kind": "where", "condition": "sqrt(x - 0.5)"}, "density": 2.0}]},
     "initial.regions.0.shape"),
    ("an outline that crosses itself", PLANE, {"solids": [{"name": "a", "shape": {
        "kind": "polygon", "corners": [[0.2, 0.2], [0.8, 0.8], [0.8, 0.2], [0.2, 0.8]]}}]},
     "solids.0.shape"),
    ("a rest without density", TUBE,
     {"force": {"acceleration": [-1.0], "rest": {"density": "-exp(-x)",
                                                 "temperature": 1.0}}},
     "force.rest.density"),
    ("a beam without density", PLANE, {"initial": {"kind": "beams", "beams": [
        {"density": 1.0, "temperature": 1.0}, {"density": "x - 2", "temperature": 1.0}]}},
     "initial.beams.1.density"),
    ("beams across the plane that cancel", PLANE, {"initial": {"kind": "beams", "beams": [
        {"density": 1.0, "temperature": 1.0, "velocity": [0.0, 0.0, u]}
        for u in (1.0, -1.0)]}}, "initial.beams.0.velocity"),
    ("a blast without a charge", PLANE, {"model": {"kind": "euler"},
     "reference": "sedov"}, "reference: sedov"),
    ("a probe named like a file", TUBE, {"probes": [
        {"kind": "point", "name": "a/b", "at": [0.5]}]}, "probes.0.name"),
    ("an unknown model", TUBE, {"model.kind": "navier_stokes"}, "model"),
    ("a scheme of another model", TUBE, {"model": {"kind": "grad13", "scheme": "muscl"}},
     "model"),
    ("thirteen moments of a plane gas", TUBE,
     {"model": {"kind": "grad13"}, "gas": {"dimension": 2}}, "gas.dimension"),
    ("more space than velocity", PLANE,
     {"model": {"kind": "hermite"}, "gas": {"dimension": 1}}, "gas.dimension"),
    ("a model file that is not there", TUBE,
     {"model": {"kind": "hermite", "closure": {"kind": "learned", "members": ["none"]}}},
     "model.closure"),
    ("gamma that contradicts the gas", TUBE,
     {"model.gamma": 1.4, "compare": [{"kind": "nsf"}]}, "model.gamma"),
    ("gamma of one", TUBE, {"model.gamma": 1.0}, "model.gamma"),
    ("a jump outside of the box", TUBE, {"initial.position": 3.0}, "initial.position"),
    ("a region outside of the box", PLANE,
     {"initial.regions": [{"shape": {"kind": "ball", "center": [5.0, 5.0],
                                     "radius": 0.5}, "density": 2.0}]},
     "initial.regions.0.shape"),
    ("quadrants that meet outside of the box", PLANE,
     {"model": {"kind": "euler"}, "initial": {"kind": "quadrants", "center": [2.0, 0.5],
      "states": [{"density": d, "pressure": 1.0} for d in (1.0, 2.0, 1.0, 3.0)]}},
     "initial.center"),
    ("a state without heat", TUBE, {"initial.left": {"density": 1.0}}, "initial.left"),
    ("a state with both", TUBE,
     {"initial.left": {"density": 1.0, "pressure": 1.0, "temperature": 1.0}},
     "initial.left"),
    ("a vacuum", TUBE, {"initial.right": {"density": 0.0, "pressure": 0.1}},
     "initial.right.density"),
    ("a density that is negative somewhere", PLANE, {"initial.density": "1 - 2*x"},
     "initial.density"),
    ("a density of z on a plane", PLANE, {"initial.density": "1 + z"}, "initial.density"),
    ("a start that depends on time", PLANE, {"initial.density": "1 + t"},
     "initial: density"),
    ("code for an expression", PLANE,
     {"initial.density": "__import__('os').getpid()"}, "density"),
    ("four components of velocity", PLANE,
     {"initial.velocity": [0.0, 0.0, 0.0, 0.0]}, "initial.velocity"),
    ("a velocity across the plane", PLANE, {"initial.velocity": [0.0, 0.0, 0.1]},
     "initial.velocity"),
    ("a velocity across the plane in part of it", PLANE,
     {"initial.regions": [{"shape": {"kind": "where", "condition": "x > 0.5"},
                           "velocity": [0.0, 0.0, 0.1]}]}, "initial.regions.0.velocity"),
    ("a start of another dimension", TUBE, {"initial": {"kind": "vortex"}},
     "initial.kind"),
    ("a sound wave of a fluid", TUBE,
     {"initial": {"kind": "sound"}, "gas": {"viscosity": "constant_time"}},
     "initial.kind"),
    ("the end of a run that is not there", TUBE,
     {"initial": {"kind": "run", "path": "runs/none"}}, "initial.path"),
    ("a force across the plane", PLANE, {"force": {"acceleration": [0.0, 0.0, 1.0]}},
     "force.acceleration"),
    ("a force that is infinite", PLANE, {"force": {"acceleration": ["1/(x - x)"]}},
     "force.acceleration"),
    ("a force that no step follows", PLANE, {"force": {"acceleration": [1e5]}},
     "force.acceleration"),
    ("a force that no step of a fluid follows", TUBE, {"force": {"acceleration": [1e9]}},
     "force.acceleration"),
    ("a sink that empties the gas", TUBE, {"force": {"heat": -1e5}}, "force.heat"),
    ("a heat sink of molecules", PLANE, {"force": {"heat": -0.1}}, "force.heat"),
    ("a rest that falls", TUBE,
     {"force": {"acceleration": [-1.0], "rest": {"density": 1.0, "temperature": 1.0}}},
     "force.rest"),
    ("a box without volume", TUBE, {"grid.upper": [0.0]}, "grid.lower"),
    ("corners of another number", TUBE, {"grid.upper": [1.0, 1.0]}, "grid"),
    ("three cells", TUBE, {"grid.cells": [3]}, "grid.cells"),
    ("four dimensions", TUBE, {"grid.cells": [4, 4, 4, 4]}, "grid.cells"),
    ("Knudsen number zero", PLANE, {"knudsen": [0.0]}, "knudsen"),
    ("no Knudsen number", PLANE, {"knudsen": []}, "knudsen"),
    ("no end", TUBE, {"time.end": 0.0}, "time.end"),
    ("a steady state of a shock tube", TUBE,
     {"reference": "riemann", "time.steady": 1e-6}, "time.steady"),
    ("a residual below round-off", TUBE, {"time.steady": 1e-16}, "time.steady"),
    ("a step to follow of molecules", PLANE, {"time.cfl": 0.4}, "time.cfl"),
    ("a shortest step of a fixed one", TUBE, {"time.shortest": 1e-6}, "time"),
    ("a reference of another flow", TUBE, {"reference": "couette"}, "reference"),
    ("a reference without the walls it needs", PLANE, {"reference": "fourier"},
     "reference"),
    ("a number in quotes", TUBE, {"time.end": "0.01"}, "time.end"),
    ("a misspelt section", TUBE, {"boundary": {}}, "boundary"),
    ("memory for an ocean", PLANE,
     {"grid.cells": [512, 512], "model.nodes": [512, 512]}, "GiB"),
)  # fmt: skip
"""What is wrong, with what, the keys, and what the line must name."""


def changed(base: Data, changes: Data) -> Data:
    """Return a set-up with some dotted keys replaced or added."""
    data = deepcopy(base)
    for path, value in changes.items():
        *tables, key = path.split(".")
        place = data
        for table in tables:
            place = place.setdefault(table, {})
        place[key] = deepcopy(value)
    return data


def wrong() -> Iterator[tuple[str, Data, str]]:
    """Yield what is wrong, the set-up, and what its refusal must name."""
    for name, base, changes, named in CHANGES:
        yield name, changed(base, changes), named


# -- adequate ----------------------------------------------------------------------------

STILL = {"kind": "fields", "density": 1.0, "temperature": 1.0}
MOVED = {"kind": "fields", "density": "1 + 0.1*sin(2*pi*x)", "pressure": 1.0}
SOON = {"model.nodes": [20, 20], "time.end": 0.2}
"""Velocities for a gas that walls have begun to move."""
FINE: tuple[tuple[str, Data, Data], ...] = (
    ("a shock tube by Euler", TUBE, {"grid.cells": [64], "reference": "riemann",
     "time.end": 0.1, "knudsen": [1e-4]}),
    ("by WENO", TUBE, {"model.scheme": "weno5"}),
    ("at gamma 1.4 with steps that follow", TUBE, {"model.gamma": 1.4, "time.cfl": 0.4}),
    ("by NSF", TUBE, {"model": {"kind": "nsf"}, "knudsen": [0.01]}),
    ("by moments", TUBE, {"model": {"kind": "hermite", "order": 4}}),
    ("by Grad's thirteen", TUBE, {"model": {"kind": "grad13"}, "initial": MOVED}),
    ("by Shakhov's model", TUBE, {"model": {"kind": "kinetic", "collision": "shakhov",
     "nodes": [48], "lower": [-6.0], "upper": [6.0]}, "gas": {"prandtl": 2 / 3}}),
    ("compared with others", TUBE, {"compare": [{"kind": "nsf"}, {"kind": "grad13"}],
     "initial": MOVED}),
    ("in single precision", TUBE, {"precision": "f32"}),
    ("falling at rest", TUBE, {"boundaries.x": {"low": WALL, "high": WALL},
     "initial": {"kind": "fields", "density": "exp(-x)", "temperature": 1.0},
     "force": {"acceleration": [-1.0], "rest": {"density": "exp(-x)",
                                                "temperature": 1.0}}}),
    ("blown through", TUBE, {"initial": {**STILL, "velocity": [0.3]}, "boundaries.x": {
     "low": {"kind": "mass_flow_inlet", "mass_flow": 0.3, "temperature": 1.0},
     "high": {"kind": "pressure_outlet", "pressure": 1.0}}}),
    ("fed by a pulsing reservoir", TUBE, {"initial": {**STILL, "velocity": [2.0]},
     "boundaries.x.low": {"kind": "inflow", "density": "1 + 0.1*sin(t)",
                          "velocity": [2.0], "temperature": 1.0}}),
    ("a closed box of molecules", PLANE, {}),
    ("with a hot spot on a wall", PLANE, {"boundaries.y.low_parts": [
     {"where": "x > 0.3 and x < 0.7", "boundary": {**WALL, "temperature": 1.2}}]}),
    ("with a lid", PLANE, {**SOON, "boundaries.y.high": {**WALL, "velocity": [0.15, 0.0]}}),
    ("with a wall that warms up", PLANE,
     {**SOON, "boundaries.x.low": {**WALL, "temperature": "1 + t"}}),
    ("pushed", PLANE, {**SOON, "boundaries.x": {},
     "force": {"acceleration": [0.1]}}),
    ("painted", PLANE, {"model": {"kind": "euler"}, "boundaries": {}, "initial.regions": [
     {"shape": {"kind": "ball", "center": [0.5, 0.5], "radius": 0.3}, "density": 2.0}]}),
    ("a steady state looked for", TUBE, {"initial": STILL, "time.steady": 1e-6}),
    ("of several Knudsen numbers", PLANE, {"knudsen": [0.05, 0.5, 5.0]}),
    ("of a plane gas", PLANE, {"gas": {"dimension": 2}}),
    ("of two streams", PLANE, {**SOON, "boundaries": {}, "initial": {
        "kind": "beams", "beams": [{"density": 0.5, "temperature": 0.5,
                                    "velocity": [u, 0.0]} for u in (0.7, -0.7)]}}),
    ("in space", PLANE, {"grid": {"cells": [4, 4, 4], "lower": [0.0] * 3,
     "upper": [1.0] * 3}, "boundaries": {}, "model": {"kind": "nsf"},
     "initial": {**MOVED, "velocity": [0.1, 0.1, 0.1]}}),
)  # fmt: skip
"""Sensible set-ups: neither refused nor warned about."""


def adequate() -> Iterator[tuple[str, Data]]:
    """Yield what it is and the set-up."""
    for name, base, changes in FINE:
        yield name, changed(base, changes)


def kind_of(said: str) -> str:
    """Return a refusal without its numbers, to count what was found."""
    return "".join("#" if c.isdigit() else c for c in said)[:150]


__all__ = [
    "Trial",
    "adequate",
    "attempt",
    "changed",
    "generate",
    "kind_of",
    "setups",
    "wrong",
]
