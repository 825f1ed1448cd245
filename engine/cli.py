"""The command line. Commands import what they need when they run."""

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..models.parts import UnknownPartError
from .errors import EngineError, Exit, InputError

if TYPE_CHECKING:
    from .protocols import Outcome


class _Once(click.Command):
    """A command that refuses what is given twice, where the last would count alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse.

        Raises:
            InputError: names the option, or the key of a setting.
        """
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        single = [
            param
            for param in order
            if isinstance(param, click.Option) and not param.multiple and not param.is_flag
        ]
        for param in single:
            if single.count(param) > 1:
                raise InputError(f"{max(param.opts, key=len)}: is given more than once")
        rest = super().parse_args(ctx, args)
        given: list[list[str]] = []
        for setting in [
            word for name in ("settings", "sweep") for word in ctx.params.get(name) or ()
        ]:
            keys = [key.strip() for key in setting.partition("=")[0].split(".")]
            if any(other[: len(keys)] == keys for other in given):
                raise InputError(f"{'.'.join(keys)}: is given more than once")
            given.append(keys)
        return rest


class Program(click.Group):
    """Turns the engine's errors into one line and their exit status."""

    command_class = _Once

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("engine: stopped", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except EngineError as error:
            if os.environ.get("SCALEBRIDGE_DEBUG"):
                raise
            click.echo(f"engine: {error}", err=True)
            ctx.exit(error.status)
        except UnknownPartError as error:
            if os.environ.get("SCALEBRIDGE_DEBUG"):
                raise
            click.echo(f"engine: {error}", err=True)
            ctx.exit(Exit.BAD_INPUT)
        except OSError as error:  # of a file that a command writes where it was told to
            if error.filename is None or os.environ.get("SCALEBRIDGE_DEBUG"):
                raise
            click.echo(f"engine: {error.filename}: {error.strerror}", err=True)
            ctx.exit(Exit.FAILED)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scalebridge")
def main() -> None:
    """Simulate with learned physics: molecules, gases, electrons.

    Exit status: 0 done, 1 failed, 2 bad input, 3 stopped by a guard, 4 done but a check
    failed, 130 interrupted.
    """


_settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one key, e.g. --set run.steps=100.",
)


def _scenarios(
    _context: click.Context, _argument: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Return what the tab key offers for a scenario: shipped ones and files."""
    from . import scenario

    names = [name for name in scenario.shipped() if name.startswith(begun)]
    return [*map(CompletionItem, names), CompletionItem(begun, type="file")]


def _allow(_context: click.Context, _option: click.Parameter, given: bool) -> None:
    if given:
        os.environ["SCALEBRIDGE_ALLOW_COMMANDS"] = "1"  # workers inherit it


_consent = click.option(
    "--allow-commands",
    is_flag=True,
    expose_value=False,
    callback=_allow,
    help="Labelers may start programs that the scenario names.",
)


@dataclass(frozen=True)
class Manner:
    """How a run presents what it found.

    Attributes:
        report: write ``report.html``.
        quiet: no progress, no table.
        strict: a failed check ends with status 4 (None), so does what could not be checked
            (True), or neither (False).
    """

    report: bool
    quiet: bool
    strict: bool | None

    @property
    def options(self) -> dict[str, Any]:
        """The same, as arguments of :mod:`.commands`."""
        pages = _write_report if self.report else None
        return {"quiet": self.quiet, "strict": self.strict, "pages": pages}


def _manner(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`Manner`, and hand them over as one."""
    quiet = click.option("--quiet", is_flag=True, help="No progress, no table.")
    report = click.option(
        "--report/--no-report", default=True, help="Write report.html, or do not."
    )
    strict = click.option(
        "--strict/--no-strict",
        default=None,
        help="Exit with 4 also where something could not be checked; with 0 where a check "
        "failed.",
    )

    @functools.wraps(command)
    def handed(
        *args: Any, report: bool, quiet: bool, strict: bool | None, **kwargs: Any
    ) -> None:
        command(*args, manner=Manner(report, quiet, strict), **kwargs)

    return quiet(report(strict(handed)))


@main.command()
@click.argument("scenario", shell_complete=_scenarios)
@_settings
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to make.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to run.")
@click.option("--resume", is_flag=True, help="Continue the run in --out, if there is one.")
@click.option(
    "--sweep",
    "sweep",
    multiple=True,
    metavar="KEY=A,B,...",
    help="One run for each value (of several keys: for each combination), then a table.",
)
@click.option("--executor", metavar="WHERE", help="processes, dask, dask=ADDRESS or slurm.")
@click.option("--workers", type=int, default=2, show_default=True)
@_consent
@_manner
def run(
    scenario: str,
    settings: Sequence[str],
    out: Path | None,
    device: str | None,
    resume: bool,
    sweep: Sequence[str],
    executor: str | None,
    workers: int,
    manner: Manner,
) -> None:
    """Run a scenario: a file, or the name of a shipped one (see `engine list`)."""
    from . import commands
    from .interop.cluster import execution
    from .resolved import begun

    if resume and out is None:
        raise InputError("--resume: needs --out, the folder of the run to continue")
    if resume and sweep:
        raise InputError("--sweep: starts new runs; --resume cannot go with it")
    start = time.monotonic()
    with execution(executor, workers) as where:
        chosen = list(settings) + ([f'device="{device}"'] if device else []) + where
        if sweep:
            _sweep(scenario, chosen, sweep, out, manner)
        if resume and out is not None and begun(out):
            outcome = commands.resume(out, chosen, scenario=scenario, **manner.options)
        else:
            outcome = commands.run(scenario, chosen, out, **manner.options)
    _end(outcome, manner, time.monotonic() - start)


def _sweep(
    scenario: str,
    settings: Sequence[str],
    sweep: Sequence[str],
    out: Path | None,
    manner: Manner,
) -> None:
    """Run every point of a sweep, show the table and leave with the worst status."""
    from . import sweeps
    from .commands import status_of

    outcomes = sweeps.run(scenario, settings, sweep, out, **manner.options)
    click.echo(sweeps.table([each.folder for each in outcomes if each.folder is not None]))
    worst = max(status_of(each, manner.strict) for each in outcomes)
    click.get_current_context().exit(worst)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_settings
@click.option("--previous", is_flag=True, help="From the checkpoint before the newest.")
@_consent
@_manner
def resume(
    directory: Path, settings: Sequence[str], previous: bool, manner: Manner
) -> None:
    """Continue a run that was interrupted, killed or stopped; nothing to edit.

    --set may change what does not touch the physics, such as run.steps.
    """
    from . import commands

    start = time.monotonic()
    outcome = commands.resume(directory, settings, previous=previous, **manner.options)
    _end(outcome, manner, time.monotonic() - start)


def _end(outcome: "Outcome", manner: Manner, seconds: float) -> None:
    """Show what a run found and leave with its exit status."""
    from .commands import status_of

    if not manner.quiet:
        _show(outcome, seconds)
    click.get_current_context().exit(status_of(outcome, manner.strict))


def _write_report(path: Path) -> None:
    from ..viz.report import write_report

    write_report(path)


def _show(outcome: "Outcome", seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    assert outcome.folder is not None
    table = Table(title=f"{outcome.folder}  ({seconds:.1f} s)", title_justify="left")
    for column in ("result", "value", "unit"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for name, figure in outcome.figures.items():
        error = f" +- {figure.error:.2g}" if figure.error is not None else ""
        table.add_row(name, f"{figure.value:.6g}{error}", figure.unit)
    table.add_section()  # a figure and its check may have the same name
    for name, verdict in outcome.verdicts.items():
        table.add_row(name, verdict, "")
    console = Console()
    console.print(table)
    console.print(outcome.headline, highlight=False, markup=False)
    pages = [*outcome.folder.glob("*.png"), *outcome.folder.glob("report.html")]
    for path in sorted(pages):
        console.print(f"{path}", highlight=False, markup=False)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """Rewrite report.html and picture.png of a run, also of one that is still running."""
    from ..viz.report import write_report

    click.echo(write_report(directory))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--movie", type=click.Path(path_type=Path), help="Write an mp4 or gif.")
@click.option("--png", type=click.Path(path_type=Path), help="Write one picture.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="Write a page that rotates with the mouse.",
)
@click.option("--extxyz", type=click.Path(path_type=Path), help="Write for OVITO, ASE.")
@click.option("--vtkhdf", type=click.Path(path_type=Path), help="Write for ParaView.")
@click.option("--chemiscope", type=click.Path(path_type=Path), help="Write its JSON.")
@click.option("--browser", is_flag=True, help="Serve a live page on 127.0.0.1.")
@click.option("--port", default=0, help="Port of the live page; 0 takes a free one.")
@click.option("--frame", default=-1, help="Frame of --png; -1 is the last.")
@click.option("--colour", default="", help="species, force, deviation, a field ...")
@click.option("--system", default=0, help="Which system of a batch.")
@click.option("--images", nargs=3, type=int, default=(1, 1, 1), help="Periodic images.")
@click.option("--size", nargs=2, type=int, default=(800, 600), help="Pixels.")
def view(
    directory: Path,
    movie: Path | None,
    png: Path | None,
    html: Path | None,
    extxyz: Path | None,
    vtkhdf: Path | None,
    chemiscope: Path | None,
    browser: bool,
    port: int,
    frame: int,
    colour: str,
    system: int,
    images: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    """View a run: a window, a live page that follows it, or files for other programs."""
    from ..viz import export
    from ..viz import view as views

    exported = export.write(directory, system, extxyz, vtkhdf, chemiscope)
    files = bool(movie or png or html)
    if files or browser or not exported:
        request = views.Request(directory, frame, colour, system, images, size)
        exported += views.view(request, movie, png, html, browser, port)
    for path in exported:
        click.echo(path)


@main.command()
@click.argument("scenario", shell_complete=_scenarios)
@_settings
@_consent
def check(scenario: str, settings: Sequence[str]) -> None:
    """Check a scenario and everything that it names, without running it."""
    from . import commands

    for note in commands.check(scenario, settings):
        click.echo(note)
    click.echo(f"{scenario}: ok")


@main.command()
@click.argument("structures", type=click.Path(path_type=Path))
@click.option("--labeler", required=True, help="pyscf, tblite, emt, vmc, ...")
@_settings
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--workers", default=0, show_default=True, help="Processes; 0: this one.")
@_consent
def label(
    structures: Path, labeler: str, settings: Sequence[str], out: Path, workers: int
) -> None:
    """Label structures with a micro-scale model; if repeated, only what is missing."""
    from .jobs.label import labeler_of
    from .learn.execution import Processes, Serial
    from .learn.labelling import label_structures, read_structures
    from .run import console_reporter

    chosen = labeler_of(labeler, settings)
    samples = read_structures(structures, lambda text: click.echo(text, err=True))
    pool = Processes(workers) if workers else Serial()
    report = console_reporter(False)
    found = label_structures(
        samples, chosen, out, pool, tell=lambda done, all_: report.progress(done, all_, {})
    )
    for number, reason in found.reasons.items():
        click.echo(f"structure {number}: no label: {reason}", err=True)
    click.echo(f"{found.path}: {found.done} of {len(samples)} labelled")
    if not found.done:
        raise EngineError("no structure could be labelled")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="How to read them, e.g. --set energy_key=REF_energy.",
)  # fmt: skip
def data(files: Sequence[Path], settings: Sequence[str]) -> None:
    """Show what sets of labels hold, group by group, and what stands out."""
    from rich.console import Console

    from .data.show import show

    show(files, settings, Console())


@main.command(name="test")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, required=True)
def test_model(model: Path, data: Sequence[Path]) -> None:
    """Measure a saved potential on labelled frames: errors by group, with intervals."""
    from .learn.trainers.testing import report

    click.echo(report(model, list(data)))


@main.command(name="list")
@click.argument("kind", required=False)
def list_scenarios(kind: str | None) -> None:
    """List the shipped scenarios by kind, or those of one KIND."""
    from . import templates

    click.echo(templates.listing(kind, shutil.get_terminal_size().columns))


@main.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON schema of scenario files, for editors; of one KIND, or of all."""
    from . import reference
    from . import scenario as scenarios

    found = scenarios.json_schema() if kind is None else reference.schema_of(kind)
    click.echo(json.dumps(found, indent=1))


@main.command()
@click.argument("key")
def explain(key: str) -> None:
    """Explain KEY of scenario files, e.g. md.ensemble.langevin.relaxation.

    A kind, a table or a part (gas, md.run, langevin) is explained with all its keys.
    """
    from . import reference

    for entry in reference.explain(key):
        click.echo(str(entry))


@main.command()
@click.argument("what", shell_complete=_scenarios)
@click.argument("file", type=click.Path(path_type=Path), required=False)
def new(what: str, file: Path | None) -> None:
    """Write a scenario to start from: WHAT is a kind or a shipped scenario.

    Every key is explained in a comment, and the files that it names are found from
    anywhere.
    """
    from . import templates

    click.echo(f"{templates.write(what, file)}: edit it, then engine check, engine run")


@main.command()
@click.argument("scenario", shell_complete=_scenarios)
@_settings
@click.option("--grids", default=3, show_default=True, help="How many, each half as fine.")
@click.option("--figure", metavar="NAME", help="Judge one figure; all and fields if not.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs.")
@click.option("--quiet", is_flag=True, help="No progress.")
@_consent
def converge(
    scenario: str,
    settings: Sequence[str],
    grids: int,
    figure: str | None,
    out: Path | None,
    quiet: bool,
) -> None:
    """Run a scenario on its grid, on half and a quarter of its cells: is it resolved?

    Shows the observed order, the value extrapolated to spacing 0 and the error bar of the
    finest grid; exit status 4 where a sequence does not converge.
    """
    from . import convergence

    found = convergence.run(scenario, settings, grids, figure, out, quiet=quiet)
    click.echo(convergence.table(found))
    failed = not all(each.passed for each in found)
    click.get_current_context().exit(Exit.CHECK_FAILED if failed else Exit.DONE)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def compare(runs: Sequence[Path]) -> None:
    """Compare the results of finished RUNS in a table."""
    from . import sweeps

    click.echo(sweeps.table(runs))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("kind", metavar="rdf|adf|displacement|velocity")
@_settings
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the tables.")
def analyse(run: Path, kind: str, settings: Sequence[str], out: Path | None) -> None:
    """Average over the stored trajectory of a RUN, with the keys of output.KIND.

    Prints the results and writes each group of curves as a CSV table, by default in
    RUN/analysis. Averages over the frames that were kept: fewer than during the run.
    """
    from . import analysis

    found = analysis.analyse(run, kind, settings, out)
    click.echo(f"{found.frames} frames")
    for name, figure in found.figures.items():
        bar = f" +- {figure.error:.2g}" if figure.error is not None else ""
        click.echo(f"{name}  {figure.value:.6g}{bar} {figure.unit}".rstrip())
    for table in found.tables:
        click.echo(table)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(
        [
            "metatomic",
            "torchscript",
            "program",
            "extxyz",
            "deepmd-data",
            "deepmd-mixed",
            "mlearn",
            "fitsnap",
            "ase-db",
        ]
    ),
    default="metatomic",
    show_default=True,
)
@click.option("--out", type=click.Path(path_type=Path), help="File or folder to write.")
@click.option(
    "--precision", type=click.Choice(["f32", "f64"]), help="Of a potential; default f64."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="How to read labelled frames, e.g. --set energy_key=REF_energy.",
)  # fmt: skip
def export(
    model: Path, to: str, out: Path | None, precision: str | None, settings: Sequence[str]
) -> None:
    """Write MODEL, a potential or labelled frames, for other programs."""
    from .data import writing
    from .data.reading import read, verified
    from .data.show import keys_of

    if to in writing.WRITERS:
        if precision:
            raise InputError("--precision: is for a potential, not for labelled frames")
        reading = read(model, keys_of(settings))
        if reading.open_order:
            reading, _ = verified(reading)
        target = out or model.with_name(model.stem + "-out" + writing.SUFFIXES[to])
        left = [f"left out: {text}" for text in reading.left_out]
        for text in [*left, *writing.write(reading.frames, to, target)]:
            click.echo(f"{model}: {text}", err=True)
    elif settings:
        raise InputError("--set: is for labelled frames, not for a potential")
    else:
        from .interop.export import FORMS
        from .interop.export import export as write

        target = out or model.with_suffix(f".{to}{FORMS[to]}")
        target = write(model, to, target, precision or "f64")
    click.echo(str(target))


@main.command(name="import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Name of what is written.")
def import_(source: Path, out: Path | None) -> None:
    """Convert a torch or PySCF checkpoint to safetensors and JSON; no code in it runs."""
    from .interop.foreign import import_file

    click.echo(str(import_file(source, out or Path(source.stem))))


@main.command()
@click.argument("model")
@click.option(
    "--structure",
    type=click.Path(path_type=Path),
    help="Where a potential is audited; without it, the element's own crystal.",
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Labelled configurations, for the calibration of a committee.",
)
@click.option("--temperature", default=300.0, show_default=True, help="Kelvin.")
@click.option("--precision", type=click.Choice(["f32", "f64"]), default="f64")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the report; without it, next to the model and on its card.",
)
@click.option("--quiet", is_flag=True, help="No table.")
@click.pass_context
def audit(
    context: click.Context,
    model: str,
    structure: Path | None,
    frames: Path | None,
    temperature: float,
    precision: str,
    out: Path | None,
    quiet: bool,
) -> None:
    """Audit the physical properties of MODEL; exit status 0 only if all pass.

    MODEL is a saved model, the name of a shipped one, the folder of a run that made a
    wavefunction, ase:NAME for a calculator of ASE, or package.module:object (for a
    calculator also ase:package.module:object) for one of your own: a calculator, potential,
    closure or wavefunction, or a function without arguments that makes it.
    """
    from .audit import findings, module

    if ":" in model and not Path(model).exists():
        report = module.audit_named(model, structure, frames, precision, temperature)
        stem = (out or Path()) / model.replace(":", ".")
    elif (Path(model) / "resolved.json").is_file():
        from .jobs.vmc import trained_wavefunction

        run = Path(model)
        report = module.audit(trained_wavefunction(run), run.resolve().name)
        stem = (out or run) / "wavefunction"
    else:
        path = module.find(model)
        report = module.audit_file(path, structure, frames, precision, temperature)
        stem = out / path.stem if out else path.with_suffix("")
        if out is None:
            module.write_on_card(path, report)
    files = findings.write(report, stem)
    if not quiet:
        from rich.console import Console

        Console().print(findings.table(report))
        for file in files:
            click.echo(file)
    context.exit(0 if report.passed else 1)


@main.command()
def doctor() -> None:
    """List what is installed, what is missing and how to install it."""
    from .doctor import examine

    rows = examine()
    for name, fine, detail in rows:
        click.echo(f"{'ok     ' if fine else 'missing'}  {name:14} {detail}")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes, to test that it runs.")
@click.option("--only", multiple=True, metavar="FIGURE", help="Measure only this figure.")
def bench(names: Sequence[str], quick: bool, only: Sequence[str]) -> None:
    """Measure, and write benchmarks/results/NAME.json; without NAME, list them."""
    from . import bench as benchmarks

    if not names:
        click.echo("\n".join(benchmarks.names()))
    for name in names:
        path = benchmarks.measure(name, quick, only)
        figures = json.loads(path.read_text())["figures"]
        for figure, entry in figures.items():
            met = {True: "met", False: "missed"}.get(entry.get("met"), "")
            click.echo(f"{figure:28} {entry['value']:.6g} {entry['unit']:12} {met}")


if __name__ == "__main__":
    sys.exit(main())
