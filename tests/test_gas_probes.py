"""Probes and derived output: right values, stored, and refused where they cannot be."""

import math
from dataclasses import replace

import pytest
import torch
import zarr

from scalebridge.engine.errors import InputError
from scalebridge.engine.gas.boundaries import (
    Mixed,
    Open,
    Patch,
    Periodic,
    Sides,
    Symmetry,
    Wall,
)
from scalebridge.engine.gas.derived import Medium
from scalebridge.engine.gas.grid import Grid
from scalebridge.engine.gas.kinetic.velocities import Velocities
from scalebridge.engine.gas.kinetic.world import KineticWorld
from scalebridge.engine.gas.material import Gas
from scalebridge.engine.gas.probes import FluxProbe, LineProbe, PointProbe, TotalProbe
from scalebridge.engine.gas.shapes import Where
from scalebridge.engine.jobs import assemble
from scalebridge.engine.run import console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse

GRID = Grid((6, 5), (0.0, -1.0), (2.0, 1.0))
GAS = Gas.power_law(3)
MEDIUM = Medium(GRID, (False, False), GAS, GAS.gamma, torch.ones(1))


def linear():
    x, y = GRID.points()
    u = torch.stack([0.3 + 0 * x, 0.1 + 0 * x], -1)
    sigma = torch.zeros(1, *GRID.shape, 2, 2, dtype=torch.float64)
    sigma[..., 0, 1] = sigma[..., 1, 0] = -0.05
    return {
        "density": (2 + 0.5 * x - 0.2 * y)[None], "temperature": torch.ones_like(x)[None],
        "velocity": u[None], "stress": sigma,
        "heat_flux": torch.full((1, *GRID.shape, 2), 0.01, dtype=torch.float64),
    }  # fmt: skip


def test_a_linear_field_is_found_exactly_up_to_the_ends():
    for at in ((0.0, -1.0), (0.77, 0.31), (2.0, 1.0)):
        found = PointProbe("p", at, ("density", "pressure")).measure(linear(), MEDIUM)
        expected = 2 + 0.5 * at[0] - 0.2 * at[1]
        assert float(found["density"]) == pytest.approx(expected, abs=1e-13)
        assert float(found["pressure"]) == pytest.approx(expected, abs=1e-13)
    line = LineProbe("l", (0.0, 0.5), (2.0, -0.5), 5)
    found = line.measure(linear(), MEDIUM)
    assert found["density"][0].tolist() == pytest.approx([1.9, 2.2, 2.5, 2.8, 3.1])
    assert found["velocity"].shape == (1, 5, 2)
    assert float(line.coordinates()["r"][-1]) == pytest.approx(math.sqrt(5))


def test_totals_and_fluxes_are_integrals():
    whole = TotalProbe("t", quantities=("density", "velocity")).measure(linear(), MEDIUM)
    assert float(whole["density"]) == pytest.approx(10.0)  # mean 2.5 on an area of 4
    assert whole["velocity"][0].tolist() == pytest.approx([1.2, 0.4])
    half = TotalProbe("t", Where("x > 1"), ("density",)).measure(linear(), MEDIUM)
    assert float(half["density"]) == pytest.approx(2 * (2 + 0.75))
    flux = FluxProbe("f", "x", 0.5).measure(linear(), MEDIUM)
    rho = 2.25  # mean over y
    assert float(flux["mass_flux"]) == pytest.approx(2 * 0.3 * rho)
    along, across = flux["momentum_flux"][0].tolist()
    assert along == pytest.approx(2 * (rho + 0.09 * rho))
    assert across == pytest.approx(2 * (0.03 * rho - 0.05))
    energy = 0.3 * (0.5 * rho * 0.1 + 2.5 * rho) - 0.05 * 0.1 + 0.01
    assert float(flux["energy_flux"]) == pytest.approx(2 * energy)


@pytest.mark.parametrize("low", [Wall(1.3, (0.4, 0.0)), Open()])
def test_fluxes_at_the_ends_are_what_a_kinetic_gas_loses(low):
    """To the first order of a short step, half a Maxwell wall and half a symmetry above."""
    high = Mixed(Symmetry(), (Patch(Where("x > 1"), Wall(0.8, (0.3, 0.0), 0.5)),))
    world = KineticWorld(
        GRID, (Sides(Periodic(), Periodic()), Sides(low, high)),
        Velocities.symmetric(2, 16, 6.0), Gas.power_law(3),
        torch.tensor([0.3], dtype=torch.float64),
    )  # fmt: skip
    state = world.advance(world.init(torch.Generator()), 3)
    dt = 1e-6
    short = world.with_time_step(dt)
    before, after = (short.observe(s) for s in (state, short.step(state)))
    ends = before["end_fluxes"]
    assert not bool(ends[:, 0].any())
    rates = {"mass": ends[..., 0], "momentum": ends[..., 1:-1], "energy": ends[..., -1]}
    for name, flux in rates.items():
        lost = flux[:, 1, 0] - flux[:, 1, 1]
        change = (after[name] - before[name]) / dt
        assert torch.allclose(change, lost, rtol=0, atol=1e-4), name
    found = FluxProbe("f", "y", 1.0).measure(before, MEDIUM)
    assert torch.equal(found["momentum_flux"], rates["momentum"][:, 1, 1])
    assert float(found["momentum_flux"][0, 0].abs()) > 1e-3
    # an end that rounding has moved is that end
    near = FluxProbe("f", "y", 1.0 - 1e-13).measure(before, MEDIUM)
    assert torch.equal(near["momentum_flux"], found["momentum_flux"])


def test_nothing_passes_an_end_where_a_solid_stands(tmp_path):
    """A block over half of the inflow: what comes in is what passes the other half."""
    scenario = {
        "version": 1, "kind": "gas", "knudsen": [0.1],
        "grid": {"cells": [8, 8], "lower": [0.0, 0.0], "upper": [1.0, 2.0]},
        "boundaries": {
            "x": {"low": {"kind": "inflow", "density": 1.0, "velocity": [0.5, 0.0],
                          "temperature": 1.0}, "high": {"kind": "open"}},
            "y": {"low": {"kind": "symmetry"}, "high": {"kind": "symmetry"}},
        },
        "solids": [{"name": "block", "shape": {"kind": "box", "lower": [-1.0, 1.0],
                                               "upper": [0.5, 3.0]}}],
        "gas": {"dimension": 2},
        "model": {"kind": "kinetic", "nodes": [16, 16], "lower": [-6.0, -6.0],
                  "upper": [6.0, 6.0]},
        "initial": {"kind": "uniform", "low": {"density": 1.0, "velocity": [0.5, 0.0],
                                               "temperature": 1.0}},
        "time": {"end": 0.01, "frames": 1},
    }  # fmt: skip
    run = assemble(parse(scenario), tmp_path).main
    inflow = run.world.observe(run.start())["end_fluxes"][0, 0, 0]
    # rho u, rho u^2 + p of the uniform gas on a width of 1
    assert inflow[:2].tolist() == pytest.approx([0.5, 1.25], rel=1e-6)


def test_cells_of_a_solid_are_no_gas():
    """A solid's numbers, planted absurd, enter nothing; at a surface gas is first order."""
    solid = torch.zeros(GRID.shape, dtype=torch.bool)
    solid[2:4, 1:4] = True
    medium = replace(MEDIUM, solid=solid)
    seen = {k: v.clone() for k, v in linear().items()}
    for k in range(3):
        list(seen.values())[k][:, solid] = 1e9 if k else math.nan
    inside, beside = (1.0, 0.0), (0.6, 0.0)
    with pytest.raises(InputError, match=r"p\.at: .* is in a cell of a solid"):
        PointProbe("p", inside).check(medium, "p")
    PointProbe("p", beside).check(medium, "p")
    found = PointProbe("p", beside, ("density",)).measure(seen, medium)
    assert float(found["density"]) == pytest.approx(2.25)  # of the cell itself
    line = LineProbe("l", (0.0, 0.0), (2.0, 0.0), 9, ("density",))
    line.check(medium, "l")
    values = line.measure(seen, medium)["density"][0]
    assert values.isnan().tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert float(values[~values.isnan()].max()) < 4.0
    with pytest.raises(InputError, match="l: every point"):
        LineProbe("l", (0.9, 0.0), (1.1, 0.0)).check(medium, "l")
    gas = linear()["density"][0][~solid].sum() * GRID.volume
    total = TotalProbe("t", None, ("density",))
    assert float(total.measure(seen, medium)["density"]) == pytest.approx(float(gas))
    with pytest.raises(InputError, match=r"t\.region"):
        TotalProbe("t", Where("(x - 1)**2 + y**2 < 0.1")).check(medium, "t")
    flux = FluxProbe("f", "x", 1.0).measure(seen, medium)["mass_flux"]
    rows = [2.5 - 0.2 * y for y in (-0.8, 0.8)]  # of x = 1 the two rows that are gas
    assert float(flux) == pytest.approx(0.3 * sum(rows) * 0.4)
    solid[2:4] = True
    with pytest.raises(InputError, match="whole plane"):
        FluxProbe("f", "x", 1.0).check(replace(MEDIUM, solid=solid), "f")


BASE = {
    "version": 1, "kind": "gas", "model": {"kind": "nsf"}, "knudsen": [0.1, 0.2],
    "grid": {"cells": [6, 6], "lower": [0.0, 0.0], "upper": [1.0, 1.0]},
    "initial": {"kind": "fields", "density": "1 + 0.1*sin(2*pi*x)", "pressure": 1.0},
    "time": {"end": 0.05, "frames": 2, "samples": 2}, "output": ["pressure", "vorticity"],
    "probes": [
        {"kind": "point", "name": "middle", "at": [0.5, 0.5], "quantities": ["mach"]},
        {"kind": "line", "name": "cut", "start": [0.0, 0.5], "end": [1.0, 0.5]},
        {"kind": "total", "name": "all"},
        {"kind": "flux", "name": "through", "axis": "y", "at": 0.5},
    ],
}  # fmt: skip


def test_a_scenario_records_them(tmp_path):
    job = assemble(parse(BASE), tmp_path)
    with RunFolder.create(tmp_path / "run", "", {}) as folder:
        job.run(folder, console_reporter(quiet=True))
    store = zarr.open_group(tmp_path / "run" / "data.zarr", mode="r")
    assert store["fields/pressure"].shape == (3, 2, 6, 6)
    mass, times = store["probes/all/density"][:], store["probes/all/time"][:]
    assert len(times) == 5
    assert times[-1] == pytest.approx(0.05)
    assert abs(mass - 1.0).max() < 1e-12
    assert store["probes/cut/density"].shape == (5, 2, 101)
    assert store["probes/cut/r"].shape == (101,)
    assert store["probes/middle/mach"].attrs["unit"] == ""
    assert store["probes/through/momentum_flux"].shape[:2] == (5, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": ["presure"]}, "output.0: 'presure' is unknown"),
        ({"output": ["mach", "mach"]}, "output.1: mach stands twice"),
        ({"probes": [{**BASE["probes"][0], "at": [0.5, 2.0]}]}, "probes.0.at"),
        ({"probes": [{**BASE["probes"][0], "at": [0.5]}]}, "probes.0.at: 1 components"),
        ({"probes": [{**BASE["probes"][0], "name": "a/b"}]}, "probes.0.name"),
        ({"probes": [BASE["probes"][2]] * 2}, "probes.1.name: all stands twice"),
        ({"probes": [{**BASE["probes"][3], "axis": "z"}]}, "probes.0.axis"),
        ({"probes": [{**BASE["probes"][3], "at": 1.5}]}, "probes.0.at: 1.5"),
        ({"probes": [{**BASE["probes"][2], "region": "where"}]}, "probes.0.region"),
        ({"probes": []}, "time.samples"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_refused(changes, said, tmp_path):
    with pytest.raises(InputError) as error:
        assemble(parse({**BASE, **changes}), tmp_path)
    assert said in str(error.value)
