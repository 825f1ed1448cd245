"""Arrays of a run name their dimensions and units: xarray opens them as they are."""

import pytest

from scalebridge.engine import commands

xarray = pytest.importorskip("xarray")


def opened(path, group):
    return xarray.open_zarr(path / "data.zarr", group=group, consolidated=False)


def test_a_run_of_molecular_dynamics_opens(tmp_path):
    sets = ["run.steps=20", "structure.repeat=[2, 2, 2]", "output.trajectory_every=10"]
    sets += ["output.average_from=0", "output.rdf.0.start=0", "output.rdf.0.every=10"]
    sets += ["output.rdf.0.r_max=5.0"]
    out = commands.run("silicon_sw", sets, tmp_path / "run").folder
    frames = opened(out, "trajectory")
    assert frames["positions"].dims == ("frame", "atom", "axis")
    assert frames["cell"].dims == ("frame", "system", "vector", "axis")
    assert frames["positions"].attrs["unit"] == "angstrom"
    assert frames.sizes["atom"] == 64
    assert opened(out, "thermo")["temperature"].dims == ("frame", "system")
    assert xarray.open_datatree(out / "data.zarr", engine="zarr", consolidated=False)


def test_a_run_of_a_gas_opens_with_its_coordinates(tmp_path):
    sets = ["knudsen=[1e-3, 1.0]", "grid.cells=[16]", "time.end=0.01", "time.frames=1"]
    out = commands.run(
        "sod", [*sets, "model.nodes=[16]", "compare=[]"], tmp_path / "run"
    ).folder
    fields = opened(out, "fields")
    assert fields["density"].dims == ("frame", "system", "x")
    assert fields["velocity"].dims == ("frame", "system", "x", "component")
    profile = opened(out, "profile")
    assert profile["density_exact"].dims == ("x",)
    assert "x" in profile.coords
