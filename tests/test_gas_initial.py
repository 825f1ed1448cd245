"""Initial fields from expressions, regions, files and other runs."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import scalebridge as sb
import scalebridge.engine.errors as errors
from scalebridge.engine.expressions import FUNCTIONS, Expression
from scalebridge.engine.gas.boundaries import ALL_PERIODIC
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.initial.base import Point
from scalebridge.engine.gas.initial.beams import Beams
from scalebridge.engine.gas.initial.distribution import Distribution
from scalebridge.engine.gas.initial.painted import Conserved, Fields, Region
from scalebridge.engine.gas.initial.pieces import Jump
from scalebridge.engine.gas.initial.stored import FromFile, FromRun, averages
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.shapes import Ball, Box, HalfSpace, Layer, Polygon, Where
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import find, override, parse, read

GAS = Gas()
GAMMA = 1.4


def _x(n: int = 7) -> torch.Tensor:
    return torch.linspace(-1, 1, n, dtype=torch.float64)


# -- expressions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("1 + 0.2*sin(2*pi*x)", lambda x: 1 + 0.2 * torch.sin(2 * math.pi * x)),
        ("-x**2", lambda x: -(x**2)),
        ("2**-1 * e", lambda x: 0.5 * math.e + 0 * x),
        ("where(x < 0, -x, 2*x)", lambda x: torch.where(x < 0, -x, 2 * x)),
        ("-0.5 < x < 0.5", lambda x: ((x > -0.5) & (x < 0.5)).double()),
        ("x < -0.5 or not x < 0.5", lambda x: ((x < -0.5) | (x >= 0.5)).double()),
        ("min(x, 0) + max(x, 0.5)", lambda x: x.clamp(max=0) + x.clamp(min=0.5)),
        (
            "atan2(x, 2) / hypot(x, 3)",
            lambda x: torch.atan2(x, 0 * x + 2) / (x * x + 9).sqrt(),
        ),
        ("3", lambda x: 3 + 0 * x),
    ],
)
def test_expressions_have_the_value_of_their_mathematics(text, exact):
    x = _x()
    torch.testing.assert_close(Expression(text)({"x": x}), exact(x), rtol=4e-16, atol=4e-16)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "x.__class__", "(lambda: 1)()", "[x][0]", "'a'",
        "1j", "True", "None", "x if x else 1", "{x}", "(x, 1)", "x == 1", "x // 2", "x % 2",
        "x @ x", "x << 1", "~x", "f(x)", "sin", "sin(x, x)", "sin(x=1)", "sin(*x)", "q + 1",
        "x := 1", "x; 1", "", " ", "1e999", "x**65", "x**-65", "9" * 400, "x" * 2001,
        "(" * 300 + "x" + ")" * 300, "-" * 1500 + "x", "f'{x}'", "`x`", "x\x00",
    ],
)  # fmt: skip
def test_what_is_not_arithmetic_is_refused_in_one_short_line(text):
    with pytest.raises(ValueError, match=r".") as caught:
        Expression(text)({"x": _x()})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


_leaf = st.sampled_from(["x", "y", "2", "0.5", "pi"])
_text = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda t: f"({t[0]}{t[1]}{t[2]})"
        ),
        st.tuples(st.sampled_from(["sin", "cos", "tanh"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
    ),
    max_leaves=12,
)


@given(_text)
@settings(max_examples=100, deadline=None)
def test_random_expressions_agree_with_an_independent_evaluation(text):
    x, y = 0.37, -1.21
    table = {
        "x": x,
        "y": y,
        "pi": math.pi,
        "sin": math.sin,
        "cos": math.cos,
        "tanh": math.tanh,
    }
    exact = eval(text, {"__builtins__": {}}, table)  # made above, from these names alone
    values = {
        "x": torch.tensor(x, dtype=torch.float64),
        "y": torch.tensor(y, dtype=torch.float64),
    }
    found = float(Expression(text)(values))
    # up to 12 leaves of at most pi: each of 11 operations rounds a term below pi^12 = 9e5
    assert abs(found - exact) < 11 * 2.3e-16 * math.pi**12
    assert set(FUNCTIONS) >= {"sin", "cos", "tanh"}


def test_a_run_starts_from_the_end_of_another_on_a_finer_grid(tmp_path):
    text = """
version = 1
kind = "gas"
[grid]
cells = [16]
lower = [0.0]
upper = [1.0]
[model]
kind = "euler"
[time]
end = 0.1
frames = 2
[initial]
"""
    first = (
        'kind = "fields"\ndensity = "1 + 0.1*sin(2*pi*x)"\nvelocity = [0.5]\npressure = 1'
    )
    (tmp_path / "a.toml").write_text(text + first)
    sb.run(tmp_path / "a.toml", out=tmp_path / "a")
    second = text.replace("[16]", "[32]") + 'kind = "run"\npath = "a"'
    (tmp_path / "b.toml").write_text(second)
    sb.run(tmp_path / "b.toml", out=tmp_path / "b")
    end, start = (
        np.asarray(zarr.open_array(str(tmp_path / name / "data.zarr/fields/density")))[
            frame
        ]
        for name, frame in (("a", (-1, 0)), ("b", (0, 0)))
    )
    assert np.abs(start.reshape(16, 2).mean(1) - end).max() < 1e-14
    sb.write_report(tmp_path / "a")  # what is drawn from a run does not make it another
    sb.resume(tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "data.zarr/fields/density/c")
    with pytest.raises(errors.DamagedFileError, match="density"):  # not zeros
        sb.check(tmp_path / "b.toml")


@pytest.mark.parametrize(("axes", "dimension"), [(1, 1), (1, 3), (2, 3), (2, 2)])
def test_a_kinetic_run_can_start_out_of_equilibrium(axes, dimension):
    """The moments of Grad's distribution are those that it is made of."""
    gas = Gas.power_law(dimension, 1.0, 1.0)
    world = KineticWorld(
        Grid((6,) * axes, (0.0,) * axes, (1.0,) * axes), (ALL_PERIODIC,) * axes,
        Velocities((28,) * axes, (-7.0,) * axes, (7.0,) * axes), gas, torch.tensor([0.1]),
    )  # fmt: skip
    shape = (1, *world.grid.shape)
    rho = 1.0 + 0.1 * torch.rand(shape, dtype=torch.float64)
    u = 0.1 * torch.rand(*shape, axes, dtype=torch.float64)
    heat = 0.02 * torch.rand(*shape, axes, dtype=torch.float64)
    stress = 0.02 * torch.rand(*shape, axes, axes, dtype=torch.float64)
    stress = stress + stress.mT
    if axes == dimension:  # no direction is left that could hold a trace
        trace = stress.diagonal(dim1=-2, dim2=-1).mean(-1)
        stress = stress - trace[..., None, None] * torch.eye(axes)
    state = world.near_equilibrium(rho, u, 1.1 * rho, stress, heat)
    seen = world.observe(state)
    for name, wanted in (("density", rho), ("velocity", u), ("temperature", 1.1 * rho)):
        torch.testing.assert_close(seen[name], wanted, rtol=1e-12, atol=1e-12)
    for name, wanted in (("stress", stress), ("heat_flux", heat)):
        torch.testing.assert_close(seen[name], wanted, rtol=0, atol=2e-4)


def test_a_kinetic_run_goes_on_with_stress_and_heat_on_a_finer_grid(tmp_path):
    text = """
version = 1
kind = "gas"
knudsen = [0.3]
resolution = "trusted"
[grid]
cells = [16]
lower = [0.0]
upper = [1.0]
[model]
kind = "kinetic"
nodes = [20]
lower = [-5.0]
upper = [5.0]
[time]
end = 0.1
frames = 1
[initial]
"""
    first = 'kind = "fields"\ndensity = "1 + 0.3*sin(2*pi*x)"\ntemperature = 1'
    (tmp_path / "a.toml").write_text(text + first)
    sb.run(tmp_path / "a.toml", out=tmp_path / "a")
    second = text.replace("[16]", "[32]") + 'kind = "run"\npath = "a"'
    (tmp_path / "b.toml").write_text(second)
    sb.run(tmp_path / "b.toml", out=tmp_path / "b")
    for name in ("density", "stress", "heat_flux"):
        end, start = (
            np.asarray(zarr.open_array(str(tmp_path / run / f"data.zarr/fields/{name}")))[
                frame, 0
            ].reshape(n, -1)
            for run, frame, n in (("a", -1, 16), ("b", 0, 32))
        )
        size = np.abs(end - end.mean(0)).max()
        assert size > 0.01
        assert np.abs(start.reshape(16, 2, -1).mean(1) - end).max() < 0.02 * size


# -- shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "measure"),
    [
        (HalfSpace((0.0, 0.0), (1.0, 1.0)), 2.0),
        (Layer("y", low=-0.5), 3.0),
        (Layer("x", low=-0.5, high=0.5), 2.0),
        (Box((-0.5, 0.0), (0.5, 0.5)), 0.5),
        (Ball((0.1, 0.2), 0.7), math.pi * 0.49),
        (Polygon(((0.0, 0.0), (0.9, 0.0), (0.9, 0.9))), 0.405),
        (Polygon(((0.0, 0.0), (0.5, 0.9), (1.0, 0.0), (0.5, 0.3))), 0.3),
        (Where("x**2 + 4*y**2 < 1"), math.pi / 2),
    ],
)
def test_shapes_have_their_area(shape, measure):
    n = 512
    points = Grid((n, n), (-1, -1), (1, 1)).points()
    area = float(shape.inside(points).double().mean()) * 4
    assert (
        abs(area - measure) < 8 / n
    )  # an outline of length 8 at most, half a cell each side


def test_shapes_of_other_dimensions_are_refused():
    line = (_x(),)
    for shape in (Ball((0.0, 0.0), 1.0), Layer("y", 0.0), Box((0.0,) * 3, (1.0,) * 3)):
        with pytest.raises(ValueError, match="1D grid"):
            shape.inside(line)
    for wrong in (
        lambda: Layer("x"),
        lambda: Layer("x", 1.0, 0.0),
        lambda: Box((0.0,), (0.0,)),
        lambda: HalfSpace((0.0,), (0.0,)),
    ):
        with pytest.raises(ValueError, match=r"low|upper|normal"):
            wrong()


# -- fields --------------------------------------------------------------------------------


def test_a_painted_half_space_is_the_jump():
    grid = Grid((20,), (0.0,), (1.0,))
    painted = Fields(
        1.0, (0.75,), pressure=1.0,
        regions=(Region(Layer("x", low=0.3), 0.125, (0.0,), pressure=0.1),),
    ).fields(grid, GAS, GAMMA)  # fmt: skip
    left, right = Point(1.0, (0.75,), pressure=1.0), Point(0.125, pressure=0.1)
    jump = Jump(left, right, 0.3).fields(grid, GAS, GAMMA)
    for name in ("density", "velocity", "temperature"):
        torch.testing.assert_close(getattr(painted, name), getattr(jump, name))


def test_cells_hold_averages_of_conserved_quantities():
    grid = Grid((8, 6), (0.0, 0.0), (1.0, 2.0))
    part = Fields("1 + 0.5*sin(2*pi*x)", ("cos(pi*y)", "0.3"), pressure="2 + x*y")
    start = part.fields(grid, GAS, GAMMA)
    mass = float(start.density.sum()) * grid.volume
    momentum = float((start.density * start.velocity[..., 0]).sum()) * grid.volume
    energy = start.density * (
        0.5 * (start.velocity**2).sum(-1) + start.temperature / (GAMMA - 1)
    )
    assert abs(mass - 2) < 1e-8  # of the integral 2, Gauss points of degree 7
    assert abs(momentum) < 1e-8
    # int rho (cos^2 + .09)/2 + p/.4: rho has mean 1, cos^2 mean 1/2, p mean 2.5, area 2
    assert abs(float(energy.sum()) * grid.volume - 2 * (0.295 + 2.5 / 0.4)) < 1e-7


def test_a_region_keeps_what_the_background_gives():
    grid = Grid((4,), (0.0,), (1.0,))
    dense = Region(Layer("x", low=0.5), 2.0)
    by_pressure = Fields(1.0, pressure=3.0, regions=(dense,)).fields(grid, GAS, GAMMA)
    by_heat = Fields(1.0, temperature=3.0, regions=(dense,)).fields(grid, GAS, GAMMA)
    p = by_pressure.density * by_pressure.temperature
    torch.testing.assert_close(p, torch.full_like(p, 3.0))
    torch.testing.assert_close(by_heat.temperature, torch.full_like(p, 3.0))


def test_functions_are_accepted_where_a_file_has_text():
    grid = Grid((8,), (0.0,), (1.0,))
    text = Fields("1 + x", temperature=1.0).fields(grid, GAS, GAMMA)
    function = Fields(lambda x: 1 + x, temperature=1.0).fields(grid, GAS, GAMMA)  # type: ignore[arg-type]
    torch.testing.assert_close(text.density, function.density, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda: Fields("1 - 2*x", temperature=1.0), "initial.density: -"),
        (lambda: Fields(1.0, temperature="1/(x - x)"), "initial.temperature: inf"),
        (lambda: Fields(1.0, ("log(0*x)",), temperature=1.0), "initial.velocity: -inf"),
        (lambda: Fields("y", temperature=1.0), "y is not known here"),
        (lambda: Fields(lambda x: x[:3], temperature=1.0), "initial.density: shape"),  # type: ignore[arg-type]
        (
            lambda: Fields(1.0, temperature=1.0, regions=(Region(Layer("y", 0.0), 2.0),)),
            "initial.regions.0.shape: axis: y",
        ),
        (
            lambda: Fields(1.0, temperature=1.0, regions=(Region(Where("x>0"), "-x"),)),
            "initial.regions.0.density: -",
        ),
        (
            lambda: Fields(
                1.0,
                pressure=1.0,
                regions=(
                    Region(Where("x>0"), 2.0),
                    Region(Where("x>.5"), temperature="-x"),
                ),
            ),
            "initial.regions.1.temperature: -",
        ),
        (
            lambda: Fields(
                1.0,
                pressure=1.0,
                regions=(Region(Where("x>0"), velocity=("sqrt(-x)",)),),
            ),
            "initial.regions.0.velocity: nan",
        ),
        (
            lambda: Fields(1.0, pressure="x-2", regions=(Region(Where("x>0"), 2.0),)),
            "initial.pressure: -",
        ),
        (
            lambda: Fields(1.0, pressure=1.0, regions=(Region(Where("log(x-.5)"), 2.0),)),
            "initial.regions.0.shape: condition: 'log(x-.5)' is nan at (0.0",
        ),
    ],
)
def test_fields_that_are_not_a_gas_are_refused(part, said):
    with pytest.raises(errors.InputError, match="initial") as caught:
        part().fields(Grid((8,), (0.0,), (1.0,)), GAS, GAMMA)
    assert said in str(caught.value)


def test_more_components_than_the_gas_has_are_refused():
    part = Fields(1.0, (0.0, 1.0), temperature=1.0)
    with pytest.raises(errors.InputError, match=r"initial\.velocity: .*dimension = 1"):
        part.check(Gas(dimension=1))
    part = Fields(
        1.0, temperature=1.0, regions=(Region(Where("x>0"), velocity=(0.0, 1.0)),)
    )
    with pytest.raises(errors.InputError, match=r"regions\.0\.velocity: .*dimension = 1"):
        part.check(Gas(dimension=1))


# -- beams ---------------------------------------------------------------------------------

STREAMS = (Fields("0.6 + 0.1*sin(2*pi*x)", (1.5,), 0.2), Fields(0.4, (-1.0,), 0.3))


def test_beams_add_up_and_keep_apart_in_a_kinetic_model():
    grid, beams = Grid((8,), (0.0,), (1.0,)), Beams(STREAMS)
    start = beams.fields(grid, GAS, GAMMA)
    rho = [f.fields(grid, GAS, GAMMA).density for f in STREAMS]
    mean = (1.5 * rho[0] - rho[1]) / sum(rho)
    torch.testing.assert_close(start.density, sum(rho))
    torch.testing.assert_close(start.velocity[..., 0], mean)
    spread = rho[0] * (1.5 - mean) ** 2 + rho[1] * (1.0 + mean) ** 2
    heat = (0.2 * rho[0] + 0.3 * rho[1] + spread / GAS.dimension) / sum(rho)
    torch.testing.assert_close(start.temperature, heat)


@pytest.mark.parametrize("model", ["kinetic", "hermite"])
def test_models_beyond_equilibrium_start_with_the_stress_of_beams(model, tmp_path):
    beams = [{"density": 0.5, "velocity": [u], "temperature": 0.5} for u in (1.0, -1.0)]
    kinds = {
        "kinetic": {"nodes": [48], "lower": [-6.0], "upper": [6.0]},
        "hermite": {"order": 4},
    }
    data = {
        "version": 1, "kind": "gas", "knudsen": [1.0, 0.1],
        "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
        "model": {"kind": model, **kinds[model]},
        "initial": {"kind": "beams", "beams": beams},
        "time": {"end": 0.01},
    }  # fmt: skip
    main = assemble(parse(data, "beams.toml"), tmp_path).main
    seen = main.world.observe(main.start())
    # <v_x^2> is 1.5, the mean of the three directions 5/6
    stress = seen["stress"][..., 0, 0]
    assert stress.shape == (2, 8)
    torch.testing.assert_close(stress, torch.full_like(stress, 1.5 - 5 / 6))


def test_beams_are_refused_by_the_key_of_the_one_that_is_wrong(tmp_path):
    grid = Grid((8,), (0.0,), (1.0,))
    wrong = Fields(1.0, temperature=1.0, regions=(Region(Where("x>0"), "-x"),))
    with pytest.raises(
        errors.InputError, match=r"initial\.beams\.1\.regions\.0\.density: -"
    ):
        Beams((STREAMS[0], wrong)).mixture(grid)
    nowhere = Fields(1.0, temperature=1.0, regions=(Region(Where("x>2"), 2.0),))
    with pytest.raises(
        errors.InputError, match=r"initial\.beams\.0\.regions\.0\.shape: no"
    ):
        Beams((nowhere,)).mixture(grid)
    with pytest.raises(errors.InputError, match=r"initial\.beams\.0\.velocity: 2 comp"):
        Beams((Fields(1.0, (0.0, 1.0), temperature=1.0),)).check(Gas(dimension=1))


# -- files ---------------------------------------------------------------------------------


def _stored(path: Path, n: int, **changed) -> FromFile:
    grid = Grid((n,), (0.0,), (1.0,))
    wave = Fields("1 + 0.2*sin(2*pi*x)", ("0.1*cos(2*pi*x)",), pressure=1.0)
    start = wave.fields(grid, GAS, GAMMA)
    arrays = {
        "x": grid.centers(0), "density": start.density,
        "velocity": start.velocity[..., 0], "temperature": start.temperature,
    }  # fmt: skip
    arrays = {k: v.numpy() for k, v in arrays.items()} | changed
    np.savez(path, allow_pickle=True, **{k: v for k, v in arrays.items() if v is not None})
    return FromFile(path)


def test_stored_fields_are_copied_on_their_grid_and_interpolated_on_another(tmp_path):
    part = _stored(tmp_path / "a.npz", 32)
    same = part.fields(Grid((32,), (0.0,), (1.0,)), GAS, GAMMA)
    with np.load(tmp_path / "a.npz") as kept:
        assert np.array_equal(same.density.numpy(), kept["density"])
    exact = Fields("1 + 0.2*sin(2*pi*x)", ("0.1*cos(2*pi*x)",), pressure=1.0)
    errors_ = []
    for n in (32, 64):
        fine = Grid((96,), (0.25,), (0.75,))
        found = _stored(tmp_path / "b.npz", n).fields(fine, GAS, GAMMA)
        gap = found.density - exact.fields(fine, GAS, GAMMA).density
        errors_.append(float(gap.abs().max()))
    # With f'' = .2 (2 pi)^2 at most: a line differs from f by h^2 f'' / 12 in a cell, and a
    # slope that is zero where an extremum is half a cell away by h f'' / 2 over h / 2.
    assert errors_[0] < (1 / 12 + 1 / 4) * 0.2 * (2 * math.pi / 32) ** 2
    assert errors_[0] > 3.5 * errors_[1]  # second order


def test_places_in_single_precision_are_those_of_the_grid(tmp_path):
    grid = Grid((7,), (0.0,), (1.0,))
    x = grid.centers(0).numpy()
    exact = _stored(tmp_path / "a.npz", 7).fields(grid, GAS, GAMMA).density
    single = _stored(tmp_path / "b.npz", 7, x=x.astype(np.float32))
    assert torch.equal(single.fields(grid, GAS, GAMMA).density, exact)
    short = _stored(tmp_path / "c.npz", 7, x=0.99 * x)
    with pytest.raises(errors.InputError, match="the grid reaches"):
        short.fields(grid, GAS, GAMMA)


def test_fields_on_another_grid_keep_mass_momentum_and_energy(tmp_path):
    part = _stored(tmp_path / "a.npz", 24)
    totals = []
    for n in (24, 31, 10, 96):
        grid = Grid((n,), (0.0,), (1.0,))
        start = part.fields(grid, GAS, GAMMA)
        packed = Conserved(GAMMA).pack(start.density, start.velocity, start.temperature)
        totals.append(packed.sum(1) * grid.volume)
    for other in totals[1:]:
        torch.testing.assert_close(other, totals[0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"density": None}, "needs density"),
        ({"x": None}, "needs the arrays x"),
        ({"colour": np.ones(8)}, "colour are not used"),
        ({"pressure": np.ones(8)}, "one of temperature and pressure"),
        ({"density": np.ones(9)}, "shape"),
        ({"density": -np.ones(8)}, "must be positive"),
        ({"temperature": np.full(8, np.nan)}, "not finite"),
        ({"x": np.linspace(0, 0.5, 8)}, "the grid reaches"),
        ({"x": np.zeros(8)}, "increasing"),
        ({"velocity": np.ones((8, 4))}, "4 components"),
        ({"density": np.array([{}] * 8, dtype=object)}, "not readable"),
        ({"density": np.ones(8, complex)}, "density holds complex128"),
        ({"density": np.ones(8, bool)}, "density holds bool"),
        (
            {"temperature": None, "pressure": np.ones(8), "density": 0 * np.ones(8)},
            "density 0",
        ),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, changed, said):
    part = _stored(tmp_path / "a.npz", 8, **changed)
    with pytest.raises(errors.InputError) as caught:
        part.fields(Grid((8,), (0.0,), (1.0,)), GAS, GAMMA)
    assert said in str(caught.value) and "a.npz" in str(caught.value)


def _plane_file(folder: Path, name: str) -> Path:
    """Write 4 x 6 cells, of a box of 1 x 2, to a zarr group or a VTK file."""
    x, y = (np.arange(4) + 0.5) / 4, (np.arange(6) + 0.5) / 3
    density = 1.0 + x[:, None] + 0.1 * y
    fields = {"density": density, "pressure": 2 * density}
    velocity = np.stack([density, -density, 0 * density], -1)
    if name.endswith("zarr"):
        group = zarr.open_group(folder / name, mode="w")
        for key, value in {"x": x, "y": y, **fields, "velocity": velocity}.items():
            group[key] = value
        return folder / name
    pyvista = pytest.importorskip("pyvista")
    cells = name.startswith("cells")
    made = pyvista.ImageData(
        dimensions=(5, 7, 1) if cells else (4, 6, 1),
        spacing=(1 / 4, 1 / 3, 1.0),
        origin=(0.0, 0.0, 0.0) if cells else (1 / 8, 1 / 6, 0.0),
    )
    held = made.cell_data if cells else made.point_data
    for key, value in fields.items():
        held[key] = value.ravel(order="F")
    held["velocity"] = velocity.transpose(1, 0, 2).reshape(-1, 3)
    if name.endswith("vtr"):
        made = made.cast_to_rectilinear_grid()
    made.save(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["a.zarr", "cells.vti", "cells.vtr", "points.vtk"])
def test_fields_of_other_formats_are_those_that_were_written(name, tmp_path):
    part = FromFile(_plane_file(tmp_path, name))
    start = part.fields(Grid((4, 6), (0.0, 0.0), (1.0, 2.0)), GAS, GAMMA)
    x, y = torch.meshgrid(
        (torch.arange(4.0) + 0.5) / 4, (torch.arange(6.0) + 0.5) / 3, indexing="ij"
    )
    density = (1 + x + 0.1 * y).double()
    torch.testing.assert_close(start.density, density, rtol=1e-6, atol=0)
    torch.testing.assert_close(start.temperature, torch.full_like(density, 2.0))
    torch.testing.assert_close(start.velocity[..., 1], -density, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "not readable"),
        ("a.txt", "neither .npz nor a zarr group nor VTK"),
        ("a.vti", "damaged"),
        ("ball.vtk", "PolyData"),
        ("both.vti", "in its cells and at its points"),
    ],
)
def test_files_of_something_else_are_refused_in_one_line(name, said, tmp_path, capfd):
    path = tmp_path / name
    pyvista = pytest.importorskip("pyvista")
    if name == "folder":
        path.mkdir()
    elif name == "ball.vtk":
        pyvista.Sphere().save(path)
    elif name == "both.vti":
        made = pyvista.ImageData(dimensions=(5, 7, 1))
        made.cell_data["density"], made.point_data["pressure"] = np.ones(24), np.ones(35)
        made.save(path)
    else:
        path.write_text("nothing of the kind")
    with pytest.raises(errors.InputError, match=f"initial.path: .*{name}: .*{said}"):
        FromFile(path).fields(Grid((4, 6), (0.0, 0.0), (1.0, 2.0)), GAS, GAMMA)
    assert capfd.readouterr().err == ""


def test_cells_of_a_finer_grid_stay_positive_beside_a_steep_end():
    values = torch.tensor([[0.01, 1.0, 1.0, 0.01]], dtype=torch.float64)
    faces, wanted = np.linspace(0, 1, 5), np.linspace(0, 1, 41)
    found = averages(values, faces, wanted)
    assert float(found.min()) > 0
    torch.testing.assert_close(found.unflatten(1, (4, 10)).mean(-1), values)


def test_a_run_with_fewer_directions_gives_the_others_the_rest_of_its_stress(tmp_path):
    beams = [{"density": 0.5, "velocity": [u], "temperature": 0.5} for u in (1.0, -1.0)]
    data = {
        "version": 1, "kind": "gas", "knudsen": [1.0],
        "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
        "model": {"kind": "kinetic", "nodes": [32], "lower": [-6.0], "upper": [6.0]},
        "initial": {"kind": "beams", "beams": beams},
        "time": {"end": 0.01, "frames": 1},
    }  # fmt: skip
    with RunFolder.create(tmp_path / "run", "", {"scenario": data}) as folder:
        job = assemble(parse(data, "a.toml"), tmp_path)
        job.run(folder, console_reporter(quiet=True))
    off = FromRun(tmp_path / "run", 0).departure(Grid((8,), (0.0,), (1.0,)), 3, 3)
    assert off is not None
    # <v_x^2> is 1.5, the mean of the three directions 5/6
    along = torch.tensor([2.0, -1.0, -1.0], dtype=torch.float64) / 3
    torch.testing.assert_close(off[0], torch.diag(along).expand(8, 3, 3))


# -- distributions -------------------------------------------------------------------------


def _f_file(path: Path, cells: int, axes: int, **changed) -> Distribution:
    """Write half of the molecules of a wave at u = 0.8, T = 0.5, half at u = -0.8."""
    x = (np.arange(cells) + 0.5) / cells
    v = SPEEDS.axis(0).numpy()
    line = sum(np.exp(-((v - u) ** 2)) for u in (0.8, -0.8)) / np.sqrt(4 * math.pi)
    across = np.exp(-(v**2)) / np.sqrt(math.pi)
    f = np.multiply.outer(1 + 0.2 * np.sin(2 * math.pi * x), line)
    for _ in range(axes - 1):
        f = np.multiply.outer(f, across)
    arrays = {"x": x, "f": f} | {f"v{name}": v for name in "xyz"[:axes]}
    arrays |= {"energy": (3 - axes) * 0.5 * f} if axes < 3 else {}
    arrays |= changed
    np.savez(path, **{k: a for k, a in arrays.items() if a is not None})  # type: ignore[arg-type]
    return Distribution(path)


SPEEDS = Velocities((32,), (-6.0,), (6.0,))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_distribution_from_a_file_starts_a_kinetic_model(axes, tmp_path):
    _f_file(tmp_path / "f.npz", 16, axes)
    data = {
        "version": 1, "kind": "gas", "knudsen": [1.0, 0.1],
        "grid": {"cells": [8], "lower": [0.0], "upper": [1.0]},
        "model": {"kind": "kinetic", "nodes": [32] * axes, "lower": [-6.0] * axes,
                  "upper": [6.0] * axes},
        "initial": {"kind": "distribution", "path": "f.npz"},
        "time": {"end": 0.01},
    }  # fmt: skip
    main = assemble(parse(data, "f.toml"), tmp_path).main
    seen = main.world.observe(main.start())
    x = torch.arange(8).double() / 8
    mean = 1 + 0.2 * torch.sin(2 * math.pi * (x + 1 / 16)) * math.sin(math.pi / 8) / (
        math.pi / 8
    )
    torch.testing.assert_close(seen["density"][1], mean, rtol=4e-3, atol=0)
    heat = (0.5 + 0.64 + 2 * 0.5) / 3  # along x, and in two directions across
    for found in (seen["temperature"], main.problem.start.temperature):
        torch.testing.assert_close(found, torch.full_like(found, heat))
    stress = seen["stress"][..., 0, 0] / seen["density"]
    torch.testing.assert_close(stress, torch.full_like(stress, 0.5 + 0.64 - heat))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"energy": None}, "needs the array energy"),
        ({"f": None}, "needs the arrays x, vx and f"),
        ({"density": np.ones(8)}, "density are not used"),
        ({"f": -np.ones((8, 32))}, "nowhere negative"),
        ({"f": np.zeros((8, 32))}, "without molecules"),
        ({"f": np.ones((8, 30))}, "f has shape"),
        ({"vx": np.ones((32, 2))}, "vx must be a list of evenly rising nodes"),
        ({"vx": np.linspace(1, 2, 32) ** 2}, "vx must be a list of evenly rising nodes"),
        ({"x": np.arange(8) / 16 + 1 / 32}, "the grid reaches"),
        ({"vx": np.linspace(-5, 5, 32)}, "not those of model.nodes: 32 from -5.8125"),
    ],
)
def test_distributions_that_do_not_fit_are_refused(changed, said, tmp_path):
    part = _f_file(tmp_path / "f.npz", 8, 1, **changed)
    grid = Grid((8,), (0.0,), (1.0,))
    with pytest.raises(errors.InputError, match=r"initial\.path: .*f\.npz: ") as caught:
        part.fields(grid, GAS, GAMMA)
        part.distribution(grid, GAS, torch.ones(1), SPEEDS)
    assert said in str(caught.value)


@pytest.mark.parametrize("nodes", [[32, 24], [32, 20, 18]])
def test_a_sound_wave_is_the_same_with_nodes_across_it(nodes, tmp_path):
    """The moments of the mode, to the quadrature of some twenty nodes over 6 widths."""

    def start(nodes):
        limits = [7.0, 6.0, 6.0][: len(nodes)]
        settings = [
            "knudsen=[0.08]", "grid.cells=[8]", "initial.amplitude=0.01",
            f"model.nodes={nodes}", f"model.upper={limits}",
            f"model.lower={[-x for x in limits]}",
        ]  # fmt: skip
        job = assemble(parse(override(read(find("sound_wave")), settings)), tmp_path)
        return job.main.world.observe(job.main.start())

    one, more = start(nodes[:1]), start(nodes)
    for name in ("density", "temperature"):
        assert torch.allclose(more[name], one[name], rtol=0, atol=1e-7)
    for name in ("velocity", "heat_flux"):
        assert torch.allclose(more[name][..., :1], one[name], rtol=0, atol=1e-7)
        assert more[name][..., 1:].abs().max() < 1e-12
