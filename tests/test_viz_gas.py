"""Pictures and tables of gas and closure runs: names, units, order, nothing hidden."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from viz_runs import create

from scalebridge.engine.jobs import assemble
from scalebridge.engine.protocols import Figure, Outcome, told
from scalebridge.engine.run import ZarrWriter, console_reporter
from scalebridge.engine.rundir import RunFolder
from scalebridge.engine.scenario import parse
from scalebridge.viz import (
    fields,
    figures,
    gas,
    learning,
    names,
    plots,
    renderers,
    style,
    walkers,
)
from scalebridge.viz.derived import with_derived
from scalebridge.viz.picture import to_png
from scalebridge.viz.record import Column, Group, Record, with_grid
from scalebridge.viz.report import write_report
from scalebridge.viz.view import Request, view

GAS = {
    "kind": "gas",
    "title": "Couette",
    "knudsen": [0.1, 10.0],
    "grid": {"cells": [8], "lower": [-0.5], "upper": [0.5]},
    "model": {"kind": "kinetic", "collision": "bgk"},
}
UNITS = {"density": "rho0", "velocity": "sqrt(R T0)", "stress": "rho0 R T0"}


def fields_of(shape, seed=0):
    """Fields of two systems: a shear stress that is constant in space, and little else."""
    rng = np.random.default_rng(seed)
    stress = torch.tensor(1e-4 * rng.normal(size=(2, *shape, 2, 2)))
    stress[..., 0, 1] = stress[..., 1, 0] = torch.tensor([0.01, 0.04]).reshape(
        2, *(1 for _ in shape)
    )
    return {
        "density": torch.tensor(1 + 0.1 * rng.random((2, *shape))),
        "velocity": torch.tensor(rng.normal(size=(2, *shape, 2))),
        "temperature": torch.tensor(1 + 0.1 * rng.random((2, *shape))),
        "stress": stress,
    }


def write_run(folder, shape, beside):
    writer = ZarrWriter(folder, "fields", lambda s, seen: s, UNITS, 1)
    for frame in range(2):
        writer.write(frame, 0.1 * frame, fields_of(shape), {})
    writer.flush()
    for name, refine in beside.items():
        group = folder.store.require_group(f"compare/{name}")
        fine = tuple(n * refine for n in shape)
        for key, values in fields_of(fine, 1).items():
            group.create_array(key, data=values.numpy())
        for axis, count in zip("xyz", fine, strict=False):
            group.create_array(axis, data=(np.arange(count) + 0.5) / count - 0.5)
    profile = folder.store.require_group("profile")
    profile.create_array("knudsen", data=np.array([0.1, 10.0]))
    for name in ("shear", "shear_reference", "shear_free_exact"):
        profile.create_array(name, data=np.array([0.01, 0.04]))
    profile["shear"].attrs.update({"unit": "rho0 R T0", "long_name": "shear stress"})


@pytest.fixture
def couette(tmp_path):
    with create(tmp_path / "run", GAS) as folder:
        write_run(folder, (8,), {"nsf": 1, "euler_weno5_fine": 4, "grad13": 1})
    return Record(tmp_path / "run")


# -- names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("kinetic", "kinetic equation"),
        ("euler_weno5_fine", "Euler, WENO5, finer grid"),
        ("nsf", "Navier-Stokes-Fourier"),
        ("hme21", "hyperbolic moments (HME), 21 moments"),
        ("closure6", "closure, 6 moments"),
        ("grad13", "Grad's 13 moments"),
        ("learned_400", "learned closure, 400 cells"),
        ("my_own", "my own"),
    ],
)
def test_models_have_names_for_people(raw, said):
    assert names.model(raw) == said


def test_every_model_keeps_its_colour_whatever_stands_beside_it():
    families = (
        "kinetic",
        "euler",
        "nsf",
        "hme",
        "grad",
        "learned",
        "realizable",
        "learned_realizable",
    )
    colours = [style.model_colour(names.model(name)) for name in families]
    assert None not in colours
    assert len(set(colours)) == len(families)
    for name, colour in zip(families, colours, strict=True):
        assert style.model_colour(names.model(f"{name}_200")) == colour
    assert style.model_colour("kinetic energy") is None


def test_results_are_taken_apart():
    assert names.result("worst_decade_hme_t03") == names.Named(
        "worst decade, t\u00a0=\u00a00.3", "hyperbolic moments (HME)"
    )
    assert names.result("steepness_learned_realizable_200") == names.Named(
        "steepness", "realizable moments, learned, 200 cells"
    )
    assert names.result("median_learned_t1").what == "median, t\u00a0=\u00a01"
    assert names.result("frequency_error_kn1", [0.1, 2.0]).what.endswith("Kn\u00a02")
    assert names.result("largest_error_ccsd_t").what == "largest error CCSD(T)"
    assert names.result("kinetic_energy") == names.Named("kinetic energy")


def test_checks_say_what_they_looked_at():
    assert names.check("range_learned")[0] == "range, learned closure"
    assert "gradient" in names.check("certificate_horizon_4")[1]
    assert "true" not in names.check("error bars")[1]
    assert "truth" in names.check("error bars are true")[1]
    assert names.check("something new") == ("something new", "")


# -- a gas run ---------------------------------------------------------------------------


def test_the_largest_component_of_the_stress_is_drawn(couette):
    panels = gas.knudsen_panels(couette, couette.groups())
    stress = next(panel for panel in panels if panel.y.startswith("stress"))
    assert stress.y == "stress xy [ρ₀ R T₀]"
    assert np.allclose([curve.y.mean() for curve in stress.curves], [0.01, 0.04])


def test_stress_over_the_knudsen_number_stands_between_its_limits(couette):
    (panel,) = gas.over_knudsen(couette.groups()["profile"])
    assert panel.y == "shear stress [ρ₀ R T₀]"
    assert {c.label for c in panel.curves} == {"computed", "with slip", "free molecules"}


def test_models_beside_each_other_hide_nothing_and_have_units(couette):
    panel = gas.model_panels(couette, couette.groups())[0]
    assert panel.x == "x [L]"
    assert panel.y == "density [ρ₀]"
    labels = [curve.label for curve in panel.curves]
    # what the others are compared with is wide and pale: it hides none of them
    assert {c.label for c in panel.curves if c.beneath} == {"kinetic equation (BGK)"}
    assert not any("_" in label for label in labels)
    with style.styled():
        made = plots.page([panel])
    beneath = [line for line in made.axes[0].lines if line.get_linewidth() > 3]
    assert [line.get_zorder() < 2 for line in beneath] == [True]


def test_what_was_computed_comes_before_what_stands_beside_it(tmp_path):
    grid = {"cells": [8, 6], "lower": [0.0, 0.0], "upper": [1.0, 1.0]}
    with create(tmp_path / "run", {**GAS, "grid": grid}) as folder:
        write_run(folder, (8, 6), {"nsf": 1})
    titles = [title for title, _ in figures.run_pictures(Record(tmp_path / "run"))]
    maps = [title for title in titles if "maps" in title]
    assert maps == ["fields: maps", "compare/nsf: maps"]
    page = write_report(tmp_path / "run").read_text()
    assert "Compared with: Navier-Stokes-Fourier" in page
    assert "was not drawn" not in page


def test_no_text_is_cut_off_at_the_border():
    with style.styled():
        made = style.figure(3.0, 2.0)
        made.set_layout_engine("none")
        made.add_axes((0.0, 0.0, 1.0, 1.0)).set_ylabel("y [L]")
        whole, cut = to_png(made), io.BytesIO()
        made.savefig(cut, format="png")
    size = Image.open(io.BytesIO(whole)).size
    assert all(a > b for a, b in zip(size, Image.open(cut).size, strict=True))
    border = np.asarray(Image.open(io.BytesIO(whole)).convert("L"))
    edge = np.concatenate([border[:3].ravel(), border[:, :3].ravel()])
    assert edge.min() > 250


# -- closures ----------------------------------------------------------------------------


CLOSURE = {
    "kind": "gas", "title": "Waves", "time": {"end": 1.0, "compared": [0.1, 1.0]},
}  # fmt: skip
MODELS = ("kinetic", "euler", "hme", "learned")


@pytest.fixture
def closure(tmp_path):
    rng = np.random.default_rng(2)
    with create(tmp_path / "run", CLOSURE) as folder:
        store = folder.store.require_group("errors")
        x = store.create_array("x", data=np.linspace(-0.5, 0.5, 16))
        x.attrs.update({"unit": "L", "long_name": "position"})
        knudsen = store.create_array("knudsen", data=np.logspace(-3, 1, 4))
        knudsen.attrs["long_name"] = "Knudsen number"
        figures = {}
        for name in MODELS:
            store.create_array(f"profile_{name}", data=1 + rng.random((3, 1, 16, 3)))
            if name == "kinetic":
                continue
            store.create_array(f"errors_{name}", data=rng.random((1, 3, 4)))
            for key in ("worst_decade", "median"):
                for tag in ("t01", "t1"):
                    figure = Figure(
                        rng.random(), "relative", note=f"note of {names.result(key).what}"
                    )
                    figures[f"{key}_{name}_{tag}"] = figure
        outcome = Outcome(figures, told({"range_learned": "ok", "stable_learned": "ok"}))
        folder.write_summary(outcome, exit_status=0)
    return Record(tmp_path / "run")


def test_closures_are_compared_under_their_names(closure):
    group = closure.groups()["errors"]
    panels = gas.closure_panels(group, CLOSURE["time"]["compared"], 1)
    assert [panel.title for panel in panels] == ["t = 0.1", "t = 1"]
    assert panels[0].x == "position [L]"
    assert panels[0].y == "density [ρ₀]"
    assert [c.label for c in panels[0].curves] == [names.model(name) for name in MODELS]
    errors = gas.closure_errors(group, CLOSURE["time"]["compared"])
    assert errors[0].x == "Knudsen number"
    assert np.allclose(errors[0].curves[0].x, np.logspace(-3, 1, 4))


def test_a_knudsen_number_that_varies_in_space_is_drawn(tmp_path):
    with create(tmp_path / "run", CLOSURE) as folder:
        store = folder.store.require_group("errors")
        store.create_array("x", data=np.linspace(-0.5, 0.5, 16))
        store.create_array("knudsen", data=np.ones((3, 1)) * np.logspace(-3, 1, 16))
        store.create_array("profile_kinetic", data=np.ones((3, 1, 16, 3)))
        store.create_array("errors_hme", data=np.ones((1, 3, 3)))
    group = Record(tmp_path / "run").groups()["errors"]
    panels = gas.closure_panels(group, CLOSURE["time"]["compared"], 1)
    assert panels[-1].y == "knudsen"
    assert panels[-1].scale == "log"
    assert gas.closure_errors(group)[0].x == "flow"


def test_results_of_many_models_are_one_table(closure):
    page = write_report(closure.path).read_text()
    table = re.search(r"<h2>Results</h2>(.*?)<h2>", page, re.DOTALL)
    assert table
    for model in ("Euler", "hyperbolic moments (HME)", "learned closure"):
        assert table[1].count(model) == 1
    assert table[1].count("<tr>") == 5  # two times of two results, and the head
    assert table[1].count("note of median") == 1
    assert "worst_decade" not in page
    assert "Knudsen number 0.464" in page
    assert "the closure stayed near the states" in page


def test_training_of_closures_is_drawn_network_by_network(tmp_path):
    with create(tmp_path / "run", {"kind": "train", "title": "Train"}) as folder:
        for member in range(2):
            for stage, loss in (("regression", 1.0), ("polish", 0.1)):
                for step in range(0, 300, 100):
                    folder.log(
                        event=stage, member=member, step=step, loss=loss / (1 + step)
                    )
    found = learning.stages(Record(tmp_path / "run").rows())
    assert [plot.title for plot in found] == ["regression", "polish"]
    assert [curve.label for curve in found[0].curves] == ["network 1", "network 2"]
    assert all(np.all(np.diff(curve.x) > 0) for plot in found for curve in plot.curves)
    page = write_report(tmp_path / "run").read_text()
    assert "<h3>Training</h3>" in page
    assert "<h3>Observables over time</h3>" not in page


# -- lines -------------------------------------------------------------------------------


def group_of(name, **arrays):
    axes = {"x": ("",)}
    columns = {
        key: Column(key, np.asarray(values), axes=axes.get(key, ("x",)))
        for key, values in arrays.items()
    }
    return Group(name, columns)


def test_what_the_others_should_be_is_dashed():
    group = group_of("fit", x=[1.0, 2.0], fitted=[1.0, 2.0], measured=[1.0, 2.1])
    (plot,) = plots.lines(group)
    assert {c.label: c.reference for c in plot.curves} == {
        "fitted": False,
        "measured": True,
    }


def test_models_have_their_names_in_any_group():
    group = group_of("errors", x=[1.0, 2.0], hme=[1.0, 2.0], in_the_loop=[1.0, 2.1])
    (plot,) = plots.lines(group)
    assert [c.label for c in plot.curves] == ["hyperbolic moments (HME)", "in the loop"]


def test_constants_are_no_thermodynamics():
    columns = {
        "time": Column("time", np.arange(3.0)),
        "volume": Column("volume", np.full((3, 1), 7.0), axes=("frame", "")),
        "temperature": Column("temperature", np.ones((3, 1)).cumsum(0), axes=("frame", "")),
    }
    assert [p.y for p in plots.lines(Group("thermo", columns))] == ["temperature"]


def test_an_energy_that_nothing_changes_is_drawn_once():
    def drawn(heat):
        energy = np.arange(3.0)[:, None]
        names_ = {"total_energy": energy, "conserved": energy - heat}
        columns = {n: Column(n, v, axes=("frame", "")) for n, v in names_.items()}
        columns["time"] = Column("time", np.arange(3.0))
        return [plot.y for plot in plots.lines(Group("thermo", columns))]

    assert drawn(0.0) == ["total energy"]
    assert drawn(np.arange(3.0)[:, None] ** 2) == ["total energy", "conserved"]


@pytest.mark.parametrize(
    ("ensemble", "marks"),
    [
        ({"kind": "bussi", "temperature": 300.0}, {"temperature": 300.0}),
        ({"kind": "npt", "temperature": 300}, {"temperature": 300.0, "pressure": 0.0}),
        (
            {"kind": "npt", "temperature": 9.0, "pressure_ramp": [[0, 1]]},
            {"temperature": 9.0},
        ),
        ({"kind": "langevin", "temperature": [300.0, 400.0]}, {}),
        ({"kind": "langevin", "ramp": [[0.0, 300.0], [1.0, 400.0]]}, {}),
        ({"kind": "nve"}, {}),
    ],
)
def test_what_a_bath_holds_constant_is_drawn(ensemble, marks):
    values = np.arange(3.0)[:, None]
    columns = {
        n: Column(n, values, axes=("frame", "")) for n in ("temperature", "pressure")
    }
    columns["time"] = Column("time", np.arange(3.0))
    group = figures._with_wishes(Group("thermo", columns), {"ensemble": ensemble})
    found = {plot.y: plot.marks["set-point"] for plot in plots.lines(group) if plot.marks}
    assert found == marks


def test_curves_of_one_kind_stand_over_its_name():
    group = group_of(
        "average", x=[1.0, 2.0], heat_flux_x=[1.0, 2.0], heat_flux_y=[1.0, 2.1]
    )
    (plot,) = plots.lines(group)
    assert plot.y == "heat flux"


def test_one_curve_and_its_reference_stand_over_the_title_of_their_group():
    group = group_of("thickness", x=[1.0, 2.0], fitted=[1.0, 2.0], measured=[1.0, 2.1])
    (plot,) = plots.lines(group)
    assert plot.y == "thickness"


def density_map(folder, width):
    """The axes on which the density of a box of height 1 is drawn."""
    grid = {"cells": [6, 5], "lower": [0.0, 0.0], "upper": [width, 1.0]}
    with create(folder, {**GAS, "grid": grid}) as run:
        write_run(run, (6, 5), {})
    group = Record(folder).groups()["fields"]
    column = group.columns["density"]
    with style.styled():
        axes = style.figure().add_subplot()
        fields.plane_map(axes, group, column, fields.Layout.of(group, column))
    return axes


@pytest.mark.parametrize(("width", "aspect"), [(0.5, 1.0), (0.1, "auto")])
def test_a_slender_box_fills_its_frame(width, aspect, tmp_path):
    assert density_map(tmp_path / "run", width).get_aspect() == aspect


def test_a_unit_is_not_broken():
    with style.styled():
        title = "averages of the steady flow [rho0 (R T0)^1.5]"
        made = plots.page(
            [plots.Plot([plots.Curve(np.arange(3.0), np.ones(3))], "x", title)]
        )
        lines = made.axes[0].get_ylabel().replace("\N{NO-BREAK SPACE}", " ").split("\n")
    assert lines[-1].endswith("[rho0 (R T0)^1.5]")


def test_what_a_scenario_asks_for_is_drawn_first():
    columns = [Column(n, np.ones((2, 2))) for n in ("entropy", "density", "mach")]
    asked = Group("fields", {}, {"asked": ("mach",)})
    assert [c.name for c in gas.usual_first(asked, columns)] == [
        "mach",
        "density",
        "entropy",
    ]
    assert [c.name for c in gas.usual(asked, columns)] == ["mach", "density"]
    assert [c.name for c in gas.usual(Group("fields", {}), columns)] == ["density"]
    assert [c.name for c in gas.usual(asked, columns[:1])] == ["entropy"]


def test_streamlines_cut_no_cells_off(tmp_path):
    axes = density_map(tmp_path / "run", 3.0)
    assert np.allclose(axes.axis(), (0.0, 3.0, 0.0, 1.0))
    assert len(axes.collections) > 1  # there are streamlines


def test_averages_have_no_gas_in_a_solid(volume):
    record = Record(volume)
    average = Column("density", np.ones((8, 8, 8)), axes=("x", "y", "z"))
    found = with_grid(Group("average", {"density": average}), record.scenario)
    fields_ = record.groups()["fields"].columns["density"].array[-1, 0]
    assert np.array_equal(np.isnan(found.columns["density"].array[:]), np.isnan(fields_))


def test_only_numbered_curves_go_along_a_map():
    forms = ["a", "b", "c", "d", "e"]
    assert style.colours_of(forms) == list(style.CYCLE[:5])
    numbered = style.colours_of([f"Kn {n}" for n in range(5)])
    assert not set(numbered) & set(style.CYCLE)


@pytest.mark.parametrize("decades", [0.3, 1.2, 2.5])
def test_logarithmic_axes_of_few_decades_have_plain_labels(decades):
    x = np.arange(1.0, 9.0)
    curve = plots.Curve(x, 0.01 * 10 ** (decades * x / 9))
    with style.styled():
        made = plots.page([plots.Plot([curve], "x", "y", "log")])
        made.canvas.draw()
        axis = made.axes[0].yaxis
        low, high = axis.get_view_interval()
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        shown = [t.label1.get_text() for t in ticks if low <= t.get_loc() <= high]
    said = [text for text in shown if text]
    assert 2 <= len(said) <= 9
    assert not any("10^" in text for text in said)


def test_a_scan_shows_its_error_with_its_bar():
    at = np.array([1.4, 0.7, 3.0])
    columns = {
        name: Column(name, values, unit="hartree", axes=("at",))
        for name, values in {
            "energy": np.array([-1.1735, -0.92, -1.056]),
            "energy_error": np.full(3, 1e-4),
            "energy_reference": np.array([-1.1745, -0.922, -1.057]),
            "ccsd_t": np.array([-1.1744, np.nan, -1.03]),
        }.items()
    }
    columns["at"] = Column("at", at, long_name="distance in bohr")
    energies, errors = walkers.scan(Group("energies", columns))
    ours, other = errors.curves
    assert [c.label for c in energies.curves] == ["wavefunction", "CCSD(T)", "reference"]
    assert energies.y == "energy [hartree]"
    assert errors.x == "distance in bohr"
    assert np.allclose(ours.x, [0.7, 1.4, 3.0])
    assert np.allclose(ours.y, [2.0, 1.0, 1.0])
    assert np.allclose(ours.error, 0.1)
    assert other.label == "CCSD(T)"
    assert np.isclose(other.y[-1], 27.0)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A run in space, with a solid and a probe whose group comes before the fields."""
    folder = tmp_path_factory.mktemp("volume")
    wave = {"kind": "fields", "density": "1 + 0.1*sin(2*pi*x)", "temperature": 1.0}
    scenario = {
        "version": 1, "kind": "gas", "knudsen": [0.1], "resolution": "trusted",
        "grid": {"cells": [8] * 3, "lower": [0.0] * 3, "upper": [1.0] * 3},
        "model": {"kind": "euler"}, "initial": wave,
        "solids": [{"name": "b", "shape": {"kind": "ball", "center": [0.5] * 3,
                                           "radius": 0.26}}],
        "probes": [{"kind": "line", "name": "a", "start": [0.0] * 3, "end": [1.0] * 3,
                    "quantities": ["mach"]}],
        "time": {"end": 0.01, "frames": 1},
    }  # fmt: skip
    with RunFolder.create(folder / "run", "", {"scenario": scenario}) as run:
        assemble(parse(scenario, "a.toml"), folder).run(run, console_reporter(quiet=True))
    return folder / "run"


@pytest.mark.parametrize("colour", ["pressure", "mach", "velocity", "mean_free_path"])
def test_a_volume_is_shown_by_any_of_its_quantities(volume, colour, tmp_path):
    view(Request(volume, colour=colour, size=(480, 320)), png=tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size == (480, 320)
        seen = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    solid = np.array([int(style.SOLID[k : k + 2], 16) for k in (1, 3, 5)])
    assert (np.abs(seen.astype(int) - solid).max(1) <= 1).sum() > 50


def test_what_is_shown_of_a_gas_are_its_fields_whatever_its_probes_record(volume):
    drawn = renderers.renderer_of(Record(volume))
    assert drawn.group == "fields"
    assert {"density", "mach", "vorticity"} <= set(drawn.choices())


def test_a_free_path_that_a_table_gives_is_not_made_up(volume):
    record = Record(volume)
    scenario = record.scenario | {"gas": {"kind": "transport", "of": "Ar"}}
    found = with_derived(record.groups()["fields"], scenario).columns
    assert "mean_free_path" not in found and "mach" in found


def test_proofs_of_gradients_come_after_the_results():
    assert sorted(
        ["certificate", "compare/nsf", "fields", "shock"], key=figures._place
    ) == [
        "fields",
        "shock",
        "certificate",
        "compare/nsf",
    ]


def test_errors_of_rounding_are_not_printed():
    assert style.number(20.02393475, 1e-10) == "20.024"
    assert style.number(20.02393475, 1e-3) == "20.0239 ± 0.0010"
