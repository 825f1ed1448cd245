"""Arrays of a run name their dimensions and units: xarray opens them as they are."""

import pytest
from norms import SHORT, missing

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
    assert set(fields.coords) == {"x", "time", "step"}
    profile = opened(out, "profile")
    assert profile["density_exact"].dims == ("x",)
    assert "x" in profile.coords


KINDS = {
    "sod": {"fields": "x"},
    "riemann_2d": {"fields": "xy"},
    "couette": {"fields": "x"},
    "sound_wave": {"fields": "x"},
    "deep_ritz": {},
    "vmc_hooke": {},
    "vmc_ising_chain": {},
    "silicon_train": {},
    "argon_coupled_shock": {"fields": "x"},
    "closure_wave": {},
    "elt_silicon": {},
    "silicon_elastic": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_group_of_every_kind_opens(name, tmp_path):
    if why := missing(name):
        pytest.skip(why)
    out = commands.run(name, list(SHORT[name].settings), tmp_path / "run").folder
    tree = xarray.open_datatree(out / "data.zarr", engine="zarr", consolidated=False)
    arrays = [array for node in tree.subtree for array in node.variables.values()]
    assert arrays
    for group, axes in KINDS[name].items():
        assert {*axes, "time"} <= set(opened(out, group).coords)
