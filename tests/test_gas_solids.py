"""Solids in the flow: where they are, what they refuse, what they take from the gas."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scalebridge.engine import commands
from scalebridge.engine.errors import InputError
from scalebridge.engine.gas import shapes
from scalebridge.engine.gas.boundaries import ALL_PERIODIC, Inflow, Open, Sides, Wall
from scalebridge.engine.gas.equations.fluid import FluidWorld
from scalebridge.engine.gas.equations.state_equation import IdealGas
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.initial.base import Start
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.solids import Body, Solid, body_of
from scalebridge.engine.gas.triangles import Stl, read
from scalebridge.engine.jobs import assemble
from scalebridge.engine.scenario import parse

BALL = shapes.Ball((0.03, 0.01), 0.5)
WALLS = (Sides(Wall(), Wall()),) * 2
PERIODIC = (ALL_PERIODIC,) * 2


def square(cells: int = 24, reach: float = 1.5) -> Grid:
    return Grid((cells,) * 2, (-reach,) * 2, (reach,) * 2)


def still(grid: Grid) -> Start:
    one = torch.ones(grid.shape, dtype=torch.float64)
    return Start(one, torch.zeros(*grid.shape, 3, dtype=torch.float64), one)


def body(grid: Grid, shape: Any, wall: Wall | None = None, sides: Any = WALLS) -> Body:
    solids = [Solid("one", shape, wall or Wall())]
    found = body_of(solids, grid, sides, still(grid))
    assert found is not None
    return found


def kinetic(grid: Grid, sides: Any, solid: Body | None, nodes: int = 12, **more: Any):
    speeds = Velocities((nodes,) * grid.dim, (-5.5,) * grid.dim, (5.5,) * grid.dim)
    gas, knudsen = Gas.power_law(3, 0.5, 1.0), torch.tensor([0.5])
    return KineticWorld(grid, sides, speeds, gas, knudsen, body=solid, **more)


def fluid(grid: Grid, sides: Any, solid: Body | None, step: float, knudsen: Any = None):
    gas = Gas.power_law(3, 0.5, 1.0)
    return FluidWorld(
        grid, sides, gas, 1, step, "muscl", knudsen, IdealGas(gas.gamma), body=solid
    )


def wavy(grid: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = grid.points()
    rho = 1.0 + 0.2 * torch.sin(math.pi * x / 1.5) * torch.cos(math.pi * y / 1.5)
    u = torch.stack([0.2 * torch.cos(math.pi * y / 1.5), 0.1 * torch.sin(x)], -1)
    return rho[None], u[None], (1.0 + 0.1 * torch.cos(math.pi * x / 1.5))[None]


# -- where they are ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box_of_triangles(tmp_path_factory: Any) -> Path:
    """A box from (-2, -3, -1) to (3, 1, 2) as a text STL file."""
    path = tmp_path_factory.mktemp("stl") / "box.stl"
    return _boxes(path, ((-2, 3), (-3, 1), (-1, 2)))


def _boxes(path: Path, *boxes: Any) -> Path:
    """Write boxes, each by its ends along x, y and z, as a text STL file."""
    faces = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4),
             (1, 5, 7, 3))  # fmt: skip
    triangles = [(a, b, c) for a, b, c, _ in faces] + [(a, c, d) for a, _, c, d in faces]
    lines = ["solid boxes"]
    for ends in boxes:
        corners = [f"vertex {x} {y} {z}" for x, y, z in product(*ends)]
        for each in triangles:
            lines.append("facet normal 0 0 0 outer loop")
            lines += [corners[n] for n in each]
    path.write_text("\n".join(lines))
    return path


def test_a_surface_is_met_on_its_triangles_not_on_their_planes(tmp_path: Path) -> None:
    """The second box has a face in whose plane the first one's are, too."""
    first, second = ((4, 6), (-1, 3), (0, 1)), ((0, 1), (-3, 2), (0, 1))
    shape = Stl(_boxes(tmp_path / "two.stl", first, second))
    at = [torch.tensor([each], dtype=torch.float64) for each in (1.0, -1.0, 0.3)]
    assert shape.outward(tuple(at)).tolist() == [[1.0, 0.0, 0.0]]


def _binary(path: Path, out: Path, turned: bool = False, left_out: int = 0) -> Path:
    """Write a text STL file as a binary one."""
    corners = read(path).astype("<f4")[left_out:]
    corners = corners[:, ::-1] if turned else corners
    rows = [b"\0" * 12 + each.tobytes() + b"\0\0" for each in corners]
    out.write_bytes(b"solid".ljust(80) + len(rows).to_bytes(4, "little") + b"".join(rows))
    return out


@pytest.mark.parametrize("turned", [False, True])
def test_triangles_that_close_a_box_are_that_box(box_of_triangles, turned, tmp_path):
    file = _binary(box_of_triangles, tmp_path / "binary.stl", turned)
    files = (box_of_triangles, file)
    box = shapes.Box((-0.1, -0.3, 0.1), (0.4, 0.1, 0.4))
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(3, 4000, generator=generator, dtype=torch.float64) - 0.4
    # centres of cells are often in one plane with an edge: of the file's box, too
    points = torch.cat([points, points.mul(20).round() / 20 + 0.025], 1)
    points[1:, :2000] = points[1:, :2000].mul(10).round() / 10
    kept = ((points - 0.1).abs() > 1e-9).all(0) & ((points - 0.4).abs() > 1e-9).all(0)
    at = tuple(points[:, kept])
    for path in files:
        shape = Stl(path, 0.1, (0.1, 0.0, 0.2))
        off = shape.inside(at) ^ box.inside(at)
        assert not bool(off[(at[1] != -0.3) & (at[0] != -0.1)].any())
        out = shape.outward((torch.tensor([0.41, 0.1]), torch.tensor([-0.1, -0.31]),
                             torch.tensor([0.2, 0.2])))  # fmt: skip
        expected = torch.tensor([[1.0, 0, 0], [0, -1, 0]], dtype=torch.float64)
        torch.testing.assert_close(out, expected)


def test_an_open_surface_is_refused_by_its_key(box_of_triangles, tmp_path):
    _binary(box_of_triangles, tmp_path / "open.stl", left_out=1)
    (tmp_path / "text.stl").write_text("solid of nothing")
    data = {
        "version": 1, "kind": "gas", "model": {"kind": "euler"},
        "grid": {"cells": [8] * 3, "lower": [-4.0] * 3, "upper": [4.0] * 3},
        "initial": {"kind": "fields", "density": 1.0, "temperature": 1.0},
        "solids": [{"name": "a", "shape": {"kind": "stl", "path": "open.stl"}}],
        "time": {"end": 0.1},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"solids\.0\.shape\.path: .*: 3 edges have no"):
        assemble(parse(data, "a.toml"), tmp_path)
    data["solids"][0]["shape"]["path"] = "text.stl"
    with pytest.raises(InputError, match=r"solids\.0\.shape\.path: .*no readable STL"):
        assemble(parse(data, "a.toml"), tmp_path)
    data["solids"][0]["shape"]["path"] = str(box_of_triangles)
    assert assemble(parse(data, "a.toml"), tmp_path)
    data["grid"] = {"cells": [8] * 2, "lower": [-4.0] * 2, "upper": [4.0] * 2}
    with pytest.raises(InputError, match=r"solids\.0\.shape: stl needs a 3D grid"):
        assemble(parse(data, "a.toml"), tmp_path)


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "meet"),
        ([(0, 0), (0.5, 0.5), (1, 1)], "meet"),
        ([(0, 0), (1, 0), (1, 0)], "three different"),
        ([(0, 0), (2, 0), (2, 1), (1, 0), (0, 1)], "meet"),
    ],
)
def test_an_outline_that_meets_itself_is_refused(corners, said):
    with pytest.raises(ValueError, match=f"corners: .*{said}"):
        shapes.Polygon(tuple((float(x), float(y)) for x, y in corners))


@pytest.mark.parametrize(
    "corners",
    [
        [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)],  # closed by hand
        [(0, 0), (0.5, 0), (1, 0), (1, 1)],  # a corner on an edge
        [(0, 0), (4, 0), (4, 3), (3, 3), (3, 1), (1, 1), (1, 3), (0, 3)],  # a U
        [(math.cos(k), math.sin(k)) for k in np.linspace(0, 2 * math.pi, 400)[:-1]],
    ],
)
def test_an_outline_that_does_not_is_taken(corners):
    assert shapes.Polygon(tuple((float(x), float(y)) for x, y in corners))


@pytest.mark.parametrize(
    "shape",
    [
        shapes.Ball((0.1, -0.2, 0.3), 0.7),
        shapes.Cylinder((0.1, 0.2), 0.6, "y"),
        shapes.Cylinder((0.1, 0.2), 0.6, "x", -0.5, 0.4),
        shapes.Box((-0.5, -0.4, -0.3), (0.6, 0.5, 0.4)),
        shapes.Layer("z", -0.2, 0.3),
        shapes.HalfSpace((0.1, 0.0, 0.0), (1.0, 2.0, -1.0)),
        shapes.Polygon(((-0.6, -0.5), (0.7, -0.4), (0.1, 0.8))),
    ],
    ids=lambda shape: shape.kind,
)
def test_normals_lead_out_of_the_shape(shape: Any) -> None:
    """Along a line to the outside the surface is met; the normal leads out, -normal in."""
    generator = torch.Generator().manual_seed(1)
    inner = 0.1 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    inner[:, 0] += 0.15
    ways = torch.nn.functional.normalize(
        torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    starts = shape.inside(tuple(inner.T))
    ends = ~shape.inside(tuple((inner + 3.0 * ways).T))
    kept = starts & ends
    assert int(kept.sum()) > 5
    low, high = torch.zeros(64, 1), torch.full((64, 1), 3.0, dtype=torch.float64)
    for _ in range(50):
        middle = 0.5 * (low + high)
        within = shape.inside(tuple((inner + middle * ways).T))[:, None]
        low, high = torch.where(within, middle, low), torch.where(within, high, middle)
    surface = inner + high * ways
    normal = shape.outward(tuple(surface.T))
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(64, dtype=torch.float64))
    assert not bool(shape.inside(tuple((surface + 1e-6 * normal).T))[kept].any())
    assert bool(shape.inside(tuple((surface - 1e-6 * normal).T))[kept].all())


def test_a_cut_at_an_edge_looks_at_its_cell() -> None:
    """On a line through an edge of a box both faces are as near."""
    box = shapes.Box((-0.5625, -0.5625), (0.5, 0.5))  # from a cell's centre
    assert bool((body(square(), box).cuts.towards > 0).all())


def test_cuts_find_the_surface() -> None:
    """Distances and normals of a circle's cuts are those of the circle."""
    grid = square()
    found = body(grid, BALL)
    cuts, points = found.cuts, torch.stack(grid.points(), -1).flatten(0, 1)
    h = grid.spacing[0]
    at = points[cuts.cell].clone()
    step = cuts.side * cuts.distance * h
    at.scatter_add_(1, cuts.axis[:, None], step[:, None])
    away = at - torch.tensor(BALL.center, dtype=torch.float64)
    torch.testing.assert_close(away.norm(dim=-1), torch.full_like(step, 0.5))
    torch.testing.assert_close(cuts.normal, away / 0.5)
    assert bool((cuts.towards > 0).all())
    # the projected area of a closed surface is zero along every axis
    assert float((cuts.side * cuts.area)[cuts.axis == 0].sum()) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("solids", "said"),
    [
        ([Solid("a", shapes.Ball((9.0, 0.0), 0.5), Wall())], "no cell of the grid"),
        ([Solid("a", shapes.Ball((0.0, 0.0), 9.0), Wall())], "no cell of gas is left"),
        ([Solid("a", shapes.Ball((0.0, 0.0), 1.4), Wall())], "cell(s) of gas along"),
        ([Solid("a", shapes.Where("x > 0"), Wall())], "does not know its surface"),
        ([Solid("a", shapes.Cylinder((0.0, 0.0), 0.5, "x"), Wall())], "along z"),
        ([Solid("a", shapes.Ball((0.0,), 0.5), Wall())], "center: 1 components"),
        ([Solid("a", BALL, Wall(velocity=(1.0,)))], "goes through the surface"),
        ([Solid("a", BALL, Wall(temperature="x - 9"))], "must be positive"),
        ([Solid("a", BALL, Wall(temperature="1 + t"))], "wall.temperature"),
        ([Solid("a", BALL, Wall()), Solid("a", BALL, Wall())], "is the name of"),
        ([Solid("a", BALL, Wall()), Solid("b", BALL, Wall(2.0))], "another wall"),
        (
            [Solid("a", shapes.Polygon(((-1, -0.97), (1, 0.99), (-1, -0.93))), Wall())],
            "thinner than a cell",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(solids: list[Solid], said: str) -> None:
    """One line, which names the solid."""
    grid = square()
    with pytest.raises(InputError, match=r"solids") as refused:
        body_of(solids, grid, WALLS, still(grid))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_an_inlet_behind_a_solid_is_refused() -> None:
    """An end of the box that takes part in nothing; a wall may be covered."""
    grid = square()
    plug = [Solid("a", shapes.Box((-9.0, -9.0), (-1.2, 9.0)), Wall())]
    sides = (Sides(Inflow(1.0, (1.0, 0.0), 1.0), Open()), WALLS[1])
    with pytest.raises(InputError, match=r"whole of boundaries\.x\.low"):
        body_of(plug, grid, sides, still(grid))
    assert body_of(plug, grid, WALLS, still(grid)) is not None


def test_a_solid_through_a_periodic_end_is_refused() -> None:
    """Half of it would stand in the air of its image; one that goes through may stay."""
    grid = square()
    cut = [Solid("a", shapes.Ball((1.4, 0.0), 0.5), Wall())]
    with pytest.raises(InputError, match="periodic end of x"):
        body_of(cut, grid, PERIODIC, still(grid))
    through = [Solid("a", shapes.Layer("y", -0.5, 0.4), Wall())]
    assert body_of(through, grid, PERIODIC, still(grid)) is not None


# -- what they take from the gas -----------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.0])
def test_a_solid_on_faces_is_the_wall_at_the_end(alpha: float) -> None:
    """The kinetic model beside a box on faces of the grid is that in a shorter box."""
    wall = Wall(temperature=1.3, accommodation=alpha)
    short, long = Grid((12,), (0.0,), (1.0,)), Grid((18,), (0.0,), (1.5,))
    solid = body(long, shapes.Box((1.0,), (9.0,)), wall, (Sides(Wall(), Wall()),))
    found = []
    for grid, sides, given in (
        (short, (Sides(Wall(), wall),), None),
        (long, (Sides(Wall(), Wall()),), solid),
    ):
        world = kinetic(grid, sides, given)
        x = grid.centers(0)[None]
        rho, u = 1.0 + 0.2 * torch.sin(5 * x), 0.1 * torch.cos(3 * x)[..., None]
        state = world.advance(world.equilibrium(rho, u, 1.0 + 0.1 * x), 20)
        found.append(world.observe(state)["temperature"][0, :12])
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_gas_in_equilibrium_with_a_cylinder_stays(alpha: float) -> None:
    """A uniform gas beside a wall of its temperature does nothing, and presses evenly."""
    grid = square()
    solid = body(grid, BALL, Wall(accommodation=alpha))
    world = kinetic(grid, WALLS, solid)
    one = torch.ones(1, *grid.shape, dtype=torch.float64)
    state = world.equilibrium(one, torch.zeros(*one.shape, 2, dtype=torch.float64), one)
    seen = world.observe(world.advance(state, 3))
    bound = 1e-12 if alpha == 1.0 else 5e-3  # nodes, mirrored, lie between nodes
    assert float((seen["density"] - 1.0).abs().amax()) < bound
    assert float(seen["solid_loads"].abs().amax()) < bound


@pytest.mark.parametrize("model", ["kinetic", "kinetic specular", "euler", "nsf"])
def test_a_closed_box_keeps_what_it_must(model: str) -> None:
    """Mass to round-off around an oblique surface; energy where no wall takes heat."""
    grid = square()
    alpha = 0.0 if model in ("kinetic specular", "euler") else 1.0
    sides = (Sides(Wall(accommodation=alpha), Wall(accommodation=alpha)),) * 2
    warm = 1.0 if alpha == 0.0 else 1.5
    solid = body(grid, BALL, Wall(temperature=warm, accommodation=alpha), sides)
    if model.startswith("kinetic"):
        world: Any = kinetic(grid, sides, solid)
    else:
        world = fluid(grid, sides, solid, 0.01, torch.tensor([0.05]) if alpha else None)
    state = world.equilibrium(*wavy(grid))
    before = world.observe(state)
    for _ in range(10):
        state = world.step(state)
    after = world.observe(state)
    assert float((after["mass"] / before["mass"] - 1.0).abs()) < 1e-13
    gained = float(after["energy"] / before["energy"] - 1.0)
    assert (
        gained > 1e-4
        if warm > 1.0
        else abs(gained) < (1e-13 if model == "euler" else 0.002)
    )
    heat = float(after["solid_loads"][0, 0, 3])
    assert heat < -1e-2 if warm > 1.0 else model != "euler" or abs(heat) < 1e-13


@pytest.mark.parametrize("model", ["kinetic", "euler", "nsf"])
def test_the_gas_loses_what_the_solid_gets(model: str) -> None:
    """Over a short step the momentum and the energy change by force and heat."""
    grid = square()
    wall = Wall() if model == "euler" else Wall(temperature=1.4)
    solid = body(grid, BALL, wall, PERIODIC)
    if model == "kinetic":
        world: Any = kinetic(grid, PERIODIC, solid).with_time_step(1e-4)
    else:
        knudsen = torch.tensor([0.05]) if model == "nsf" else None
        world = fluid(grid, PERIODIC, solid, 1e-4, knudsen)
    first = world.equilibrium(*wavy(grid))
    last = world.step(first)
    a, b = world.observe(first), world.observe(last)
    loads = 0.5 * (a["solid_loads"] + b["solid_loads"])[0, 0]
    for got, name in ((loads[:2], "momentum"), (loads[3], "energy")):
        lost = (a[name] - b[name])[0] / 1e-4
        torch.testing.assert_close(lost, got.to(lost), rtol=2e-3, atol=1e-4)


def test_a_stream_along_a_wall_that_the_box_cuts_off_stays_uniform() -> None:
    """Steps of the grid that do not end on the surface must not turn the flow."""
    grid, slope = Grid((24, 16), (0.0, 0.0), (1.5, 1.0)), math.radians(15.0)
    u = (3.0 * math.cos(slope), 3.0 * math.sin(slope))
    feed = Inflow(1.0, u, 1.0)
    sides = (Sides(feed, Open()), Sides(feed, Open()))
    shape = shapes.HalfSpace((0.0, -0.1), (math.sin(slope), -math.cos(slope)))
    solid = body(grid, shape, sides=sides)
    assert not bool(solid.inside.any())
    assert bool(body(square(), BALL, sides=sides).inside.all())
    world = fluid(grid, sides, solid, 0.004)
    one = torch.ones(1, *grid.shape, dtype=torch.float64)
    state = world.equilibrium(
        one, one[..., None] * torch.tensor(u, dtype=torch.float64), one
    )
    for _ in range(20):
        state = world.step(state)
    rho = world.observe(state)["density"][0][~solid.mask]
    torch.testing.assert_close(rho, torch.ones_like(rho), rtol=0, atol=1e-12)


def test_a_turning_cylinder_drags_the_gas_along() -> None:
    """Its surface slides: the gas turns the same way, and takes energy from it."""
    grid = square()
    turning = Wall(velocity=("-0.6*(y - 0.01)", "0.6*(x - 0.03)"))
    solid = body(grid, BALL, turning)
    for world in (kinetic(grid, WALLS, solid), fluid(grid, WALLS, solid, 0.005,
                  torch.tensor([0.1]))):  # fmt: skip
        one = torch.ones(1, *grid.shape, dtype=torch.float64)
        state: Any = world.equilibrium(one, torch.zeros(*one.shape, 2).double(), one)
        for _ in range(20):
            state = world.step(state)
        seen = world.observe(state)
        x, y = grid.points()
        turn = (x * seen["velocity"][0, ..., 1] - y * seen["velocity"][0, ..., 0]).sum()
        assert float(turn) > 0.1
        assert float(seen["solid_loads"][0, 0, 3]) < 0.0


def test_steady_vortex_about_a_cylinder() -> None:
    """An isentropic vortex does not feel a slip wall on one of its circles."""

    def error(cells: int) -> float:
        grid = Grid((cells, cells), (-4.0, -4.0), (4.0, 4.0))
        x, y = grid.points()
        swirl = 5.0 / (2 * math.pi) * torch.exp(0.5 * (1.0 - x * x - y * y))
        t = 1.0 - swirl.square() / 5.0  # (gamma - 1) / (2 gamma) = 1/5 for D = 3
        rho = t**1.5
        u = torch.stack([-y * swirl, x * swirl], -1)
        solid = body(grid, shapes.Ball((0.0, 0.0), 1.0), Wall(accommodation=0.0), PERIODIC)
        world = fluid(grid, PERIODIC, solid, 0.4 / cells)
        state = world.equilibrium(rho[None], u[None], t[None])
        for _ in range(cells // 2):
            state = world.step(state)
        off = (world.observe(state)["velocity"][0] - u).abs().sum(-1)
        return float(off[~solid.mask].sum()) * grid.volume

    coarse, fine = error(32), error(64)
    assert math.log2(coarse / fine) > 1.3


# -- as a scenario -------------------------------------------------------------------------

FILE = """
version = 1
kind = "gas"
title = "solid"
[grid]
cells = [16, 16]
lower = [-1.5, -1.5]
upper = [1.5, 1.5]
[boundaries.x]
low = { kind = "inflow", density = 1.0, velocity = [0.5, 0.0], temperature = 1.0 }
high = { kind = "open" }
[boundaries.y]
low = { kind = "symmetry" }
high = { kind = "symmetry" }
[[solids]]
name = "disc"
shape = { kind = "ball", center = [0.0, 0.0], radius = 0.45 }
[model]
kind = "MODEL"
[initial]
kind = "uniform"
low = { density = 1.0, velocity = [0.5, 0.0], temperature = 1.0 }
[time]
end = 0.1
frames = 2
"""


def test_a_scenario_reports_force_and_heat(tmp_path: Any) -> None:
    """Figures at the end, and over time in the store."""
    import zarr

    path = tmp_path / "case.toml"
    path.write_text(FILE.replace("MODEL", "nsf"))
    outcome = commands.run(path, (), tmp_path / "run")
    assert outcome.figures["solid_disc_force_x"].value > 0.0
    assert math.isfinite(outcome.figures["solid_disc_heat"].value)
    store: Any = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")
    assert store["solids/solid_disc_force_x"].shape == (3, 1)
    assert int(store["geometry/solid"][...].sum()) > 10


def test_models_without_solids_refuse_them(tmp_path: Any) -> None:
    """By name, before anything runs."""
    path = tmp_path / "case.toml"
    path.write_text(FILE.replace("MODEL", "hermite"))
    with pytest.raises(InputError, match=r"solids.*hermite has no solids"):
        commands.check(path)


def test_euler_refuses_what_a_slip_wall_ignores() -> None:
    """A temperature or a speed of a solid means nothing to a gas without friction."""
    grid = square()
    with pytest.raises(InputError, match=r"solids\.0\.wall\.temperature"):
        fluid(grid, WALLS, body(grid, BALL, Wall(temperature=2.0)), 0.01)
    assert replace(Wall(), accommodation=0.0).accommodation == 0.0


@pytest.mark.parametrize("model", [pytest.param("kinetic", marks=pytest.mark.slow), "nsf"])
def test_inflow_around_a_solid_in_three_dimensions(model: str) -> None:
    """A sphere in a stream is pushed along it, and not across."""
    grid = Grid((10, 10, 10), (-1.0,) * 3, (1.0,) * 3)
    stream = Inflow(1.0, (0.5, 0.0, 0.0), 1.0)
    sides = (Sides(stream, Open()), ALL_PERIODIC, ALL_PERIODIC)
    solid = body(grid, shapes.Ball((0.0, 0.0, 0.0), 0.45), Wall(), sides)
    one = torch.ones(1, *grid.shape, dtype=torch.float64)
    u = torch.zeros(*one.shape, 3, dtype=torch.float64)
    u[..., 0] = 0.5
    world: Any = (
        kinetic(grid, sides, solid, 8)
        if model == "kinetic"
        else fluid(grid, sides, solid, 0.01, torch.tensor([0.1]))
    )
    state = world.equilibrium(one, u, one)
    for _ in range(4):
        state = world.step(state)
    force = world.observe(state)["solid_loads"][0, 0]
    assert float(force[0]) > 0.1
    assert float(force[1:3].abs().amax()) < 1e-9
