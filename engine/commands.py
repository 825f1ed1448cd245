"""Check, run and resume a scenario: what the command line and Python have in common."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from . import scenario as scenarios
from .errors import EngineError, Exit
from .jobs import assemble
from .protocols import Job, Outcome, told
from .run import Reporter, console_reporter
from .rundir import RunFolder

Pages = Callable[[Path], object]
"""Writes a report into a finished run folder."""


def check(scenario: str | Path, settings: Sequence[str] = ()) -> None:
    """Check a scenario and everything that it names, without running it.

    Args:
        scenario: a file, or the name of a shipped scenario.
        settings: ``key=value`` pairs that replace single keys.

    Raises:
        InputError: whatever :func:`run` would refuse before its first step.
    """
    assemble(*scenarios.load(scenario, settings))


def run(
    scenario: str | Path,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    quiet: bool = True,
    strict: bool | None = None,
    pages: Pages | None = None,
) -> Outcome:
    """Run a scenario in this process.

    Args:
        scenario: a file, or the name of a shipped scenario.
        settings: ``key=value`` pairs that replace single keys, as of ``engine run --set``.
        out: run folder to make; ``runs/NAME-TIME`` by default.
        quiet: no progress on the terminal.
        strict: the summary notes exit status 4 where a check failed (None), also where
            something could not be checked (True), or never (False).
        pages: writes a report, e.g. ``scalebridge.write_report``.

    Returns:
        The figures and the checks, with ``folder``, the run folder.

    Raises:
        InputError: refused before anything was computed.
        GuardError: a guard stopped the run; the last good and the bad state are saved.
        Interrupted: asked to stop; a checkpoint was written.
    """
    file = scenarios.find(str(scenario))
    checked, base = scenarios.load(file, settings)
    job = assemble(checked, base)
    path = Path(out or f"runs/{file.stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    command = ["engine", "run", str(scenario), *(f"--set {s}" for s in settings)]
    resolved = {
        "name": file.stem,
        "scenario": checked.model_dump(mode="json"),
        "base": str(base),
        "command": " ".join(command),
    }
    with RunFolder.create(path, file.read_text(encoding="utf-8"), resolved) as folder:
        return _work(job, folder, console_reporter(quiet), strict, pages)


def resume(
    directory: str | Path,
    settings: Sequence[str] = (),
    *,
    previous: bool = False,
    quiet: bool = True,
    strict: bool | None = None,
    pages: Pages | None = None,
) -> Outcome:
    """Continue a run that was interrupted, killed or stopped.

    Args:
        directory: its run folder.
        settings: ``key=value`` pairs that replace single keys of its scenario.
        previous: start from the checkpoint before the newest.
        quiet: no progress on the terminal.
        strict: as of :func:`run`.
        pages: as of :func:`run`.

    Raises:
        DamagedFileError: a file of the folder does not match its hash.
        InputError, GuardError, Interrupted: as of :func:`run`.
    """
    path = Path(directory)
    with RunFolder.open(path) as folder:
        folder.use_previous = previous
        record = folder.resolved
        data = scenarios.override(record["scenario"], settings)
        checked = scenarios.parse(data, str(path / "resolved.json"))
        job = assemble(checked, Path(record["base"]))
        return _work(job, folder, console_reporter(quiet), strict, pages)


def status_of(outcome: Outcome, strict: bool | None) -> Exit:
    """Return the status of a run that reached its end; ``strict`` as of :func:`run`."""
    failed = not outcome.passed or (strict is True and bool(outcome.warnings))
    return Exit.CHECK_FAILED if failed and strict is not False else Exit.DONE


def _work(
    job: Job, folder: RunFolder, report: Reporter, strict: bool | None, pages: Pages | None
) -> Outcome:
    """Run a job in its folder; the summary and the manifest are written in any case."""
    begun = time.monotonic()
    try:
        outcome = job.run(folder, report)
    except EngineError as error:
        outcome = Outcome(checks=told({type(error).__name__: str(error)}))
        _conclude(folder, outcome, error.status, begun)
        raise
    _conclude(folder, outcome, status_of(outcome, strict), begun)
    if pages is not None:
        _write_pages(folder.path, report, pages)
        folder.write_manifest()
    return replace(outcome, folder=folder.path)


def _conclude(folder: RunFolder, outcome: Outcome, status: int, begun: float) -> None:
    folder.write_summary(outcome, exit_status=status, wall_seconds=time.monotonic() - begun)
    folder.write_manifest()


def _write_pages(path: Path, report: Reporter, pages: Pages) -> None:
    """Write the report; a report that cannot be drawn does not fail a finished run."""
    try:
        pages(path)
    except Exception as error:
        report.say(f"report.html was not written: {type(error).__name__}: {error}")
