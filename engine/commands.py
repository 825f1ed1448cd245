"""Check, run and resume a scenario: what the command line and Python have in common."""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.parts import blamed
from . import scenario as scenarios
from .errors import DamagedFileError, EngineError, Exit, InputError, Interrupted
from .inputs import files_below
from .jobs import assemble
from .manifest import sha256
from .protocols import Job, Outcome, told
from .run import Reporter, console_reporter, stoppable
from .rundir import (
    RunFolder,
    begun,
    new_path,
    refuse_unwritable,
    translate_os_errors,
    versions,
)
from .schema.base import Common, noting_inputs, of_a_record

_PAGES = ("lock", "report.html", "picture.png", "analysis")
"""What readers add to a run folder."""

Pages = Callable[[Path], object]
"""Writes a report into a finished run folder."""


def check(scenario: str | Path, settings: Sequence[str] = ()) -> Sequence[str]:
    """Check a scenario and everything that it names, without running it.

    Args:
        scenario: a file, or the name of a shipped scenario.
        settings: ``key=value`` pairs that replace single keys.

    Returns:
        What a run would say of its input before the first step.

    Raises:
        InputError: whatever :func:`run` would refuse before its first step.
    """
    file = scenarios.find(str(scenario))
    job = assemble(*scenarios.load(file, settings), file)
    return tuple(getattr(job, "notes", ()))


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
    with stoppable():
        checked, base = scenarios.load(file, settings)
        refuse_unwritable(Path("runs" if out is None else out))
        with noting_inputs() as found:
            job = assemble(checked, base, file)
        command = ["engine", "run", str(scenario)]
        command += [word for setting in settings for word in ("--set", setting)]
        resolved = {
            "name": file.stem,
            "scenario": checked.model_dump(mode="json"),
            "base": str(base),
            "command": shlex.join(command),
            "inputs": _hashes(found),
            "threads": _threads(),
        }
        path = Path(out) if out is not None else new_path(file.stem)
        with RunFolder.create(path, file.read_text(encoding="utf-8"), resolved) as folder:
            return _work(job, folder, console_reporter(quiet), strict, pages)


def resume(
    directory: str | Path,
    settings: Sequence[str] = (),
    *,
    scenario: str | Path | None = None,
    previous: bool = False,
    quiet: bool = True,
    strict: bool | None = None,
    pages: Pages | None = None,
) -> Outcome:
    """Continue a run that was interrupted, killed or stopped.

    Args:
        directory: its run folder.
        settings: ``key=value`` pairs that replace single keys of its scenario, of those
            that may change (``changeable`` of its kind).
        scenario: the file that the run should be of; the one in the folder by default.
        previous: start from the checkpoint before the newest.
        quiet: no progress on the terminal.
        strict: as of :func:`run`.
        pages: as of :func:`run`.

    Raises:
        DamagedFileError: a file of the folder does not match its hash.
        InputError: the scenario, a model or a data file is not what the run began with;
            or as of :func:`run`.
        GuardError, Interrupted: as of :func:`run`.
    """
    path, report = Path(directory), console_reporter(quiet)
    with stoppable(), RunFolder.open(path) as folder:
        folder.use_previous = previous
        record = folder.resolved
        try:
            started, base = record["scenario"], Path(record["base"])
            data = deepcopy(dict(started))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path / 'resolved.json'}: lacks {error}") from error
        file = path / "resolved.json"
        with nullcontext() if scenario is not None else of_a_record():
            if scenario is None:
                scenarios.override(data, settings)
                checked = scenarios.parse(data, str(file))
            else:
                file = scenarios.find(str(scenario))
                checked, base = scenarios.load(file, settings)
            asked = checked.model_dump(mode="json")
            changed = _refuse_changes(path, started, asked, checked)
            with noting_inputs() as found:
                job = assemble(checked, base, file)
        _refuse_other_inputs(path, record.get("inputs", {}), _hashes(found))
        for note in _other_machine(record):
            report.say(f"{path}: {note}")
        if changed:
            folder.write_resolved({**record, "scenario": asked, "base": str(base)})
        try:
            folder.start_afresh()
            return _work(job, folder, report, strict, pages)
        except InputError:
            folder.write_resolved(record)
            raise


def _hashes(found: Mapping[str, Path]) -> dict[str, str]:
    """Return the hash of every input: a file, a model with its card, or a folder."""
    return {name: _hash(path) for name, path in found.items()}


def _hash(path: Path) -> str:
    if path.is_dir():
        files = [item for item in files_below(path) if item.is_file()]
        if begun(path):  # what is drawn from a run later does not change it
            files = [f for f in files if f.relative_to(path).parts[0] not in _PAGES]
    elif path.suffix in (".safetensors", ".json"):
        both = (path.with_suffix(".safetensors"), path.with_suffix(".json"))
        files = [item for item in both if item.is_file()]
    else:
        files = [path]
    with translate_os_errors(path):
        if len(files) == 1:
            return sha256(files[0])
        each = [f"{item.relative_to(path.parent)} {sha256(item)}" for item in files]
        return hashlib.sha256("\n".join(each).encode()).hexdigest()


def _threads() -> int:
    from .runtime import threads

    return threads()


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested tables with their values."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def _refuse_changes(
    path: Path, started: Mapping[str, Any], asked: Mapping[str, Any], checked: Common
) -> list[str]:
    """Return the keys that differ, all of which may change.

    Raises:
        InputError: names one that may not, with both values.
    """
    before, after = dict(flat(started)), dict(flat(asked))
    free = ("title", "description", *checked.changeable)
    changed = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    for key in changed:
        if not any(key == name or key.startswith(name + ".") for name in free):
            raise InputError(
                f"{path}: {key}: the run has {before.get(key)!r}, asked for is "
                f"{after.get(key)!r}; a run that goes on may change only "
                f"{', '.join(free)}; for anything else start a new run"
            )
    return changed


def _refuse_other_inputs(
    path: Path, started: Mapping[str, str], now: Mapping[str, str]
) -> None:
    """Refuse other models or data than the run began with.

    Raises:
        InputError: names the file.
    """
    for name, digest in started.items():
        if now.get(name) != digest:
            raise InputError(
                f"{path}: {name}: is not the file that the run began with (its sha256 "
                "differs); put that file back, or start a new run"
            )


def _other_machine(record: Mapping[str, Any]) -> Iterator[str]:
    """Name versions and threads that differ from those at the start."""
    before, now = record.get("versions", {}), versions()
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield (
                f"begun with {name} {before.get(name, 'absent')}, goes on with "
                f"{now.get(name, 'absent')}: the last digits may differ"
            )
    if record.get("threads") not in (None, _threads()):
        yield (
            f"begun with {record['threads']} threads, goes on with {_threads()}: the last "
            "digits may differ"
        )


def status_of(outcome: Outcome, strict: bool | None) -> Exit:
    """Return the status of a run that reached its end; ``strict`` as of :func:`run`."""
    failed = not outcome.passed or (strict is True and bool(outcome.warnings))
    return Exit.CHECK_FAILED if failed and strict is not False else Exit.DONE


def _work(
    job: Job, folder: RunFolder, report: Reporter, strict: bool | None, pages: Pages | None
) -> Outcome:
    """Run a job in its folder; the summary and the manifest are written in any case.

    Raises:
        InputError: refused before the first step; a folder that is new is removed.
    """
    start, fresh = time.monotonic(), not _has_begun(folder)
    try:
        with _named(folder):
            outcome = job.run(folder, report)
            _conclude(folder, outcome, status_of(outcome, strict), start)
    except InputError:
        if fresh and not _has_begun(folder):
            folder.discard()
        raise
    except EngineError as error:
        if fresh or not isinstance(error, DamagedFileError):
            _conclude_failed(folder, error, start)  # else it would vouch for the damage
        raise
    if pages is not None:
        _write_pages(folder.path, report, pages)
        folder.write_manifest()
    return replace(outcome, folder=folder.path)


def _has_begun(folder: RunFolder) -> bool:
    """Tell whether a run folder holds anything that was computed."""
    names = ("events.jsonl", "data.zarr", "summary.json", "rounds")
    return any((folder.path / name).exists() for name in names) or any(
        (folder.path / "checkpoints").glob("*")
    )


@contextmanager
def _named(folder: RunFolder) -> Iterator[None]:
    """Turn a signal and what the system refuses into one line that says what is kept."""
    try:
        with translate_os_errors(folder.path):
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; everything up to the last checkpoint is kept: engine resume "
            f"{folder.path}"
        ) from error
    except MemoryError as error:
        raise EngineError(
            f"{folder.path}: out of memory; everything up to the last checkpoint is kept"
        ) from error
    except EngineError:
        raise
    except Exception as error:
        if not begun(folder.path):  # whatever it is that then fails
            raise EngineError(f"{folder.path}: was removed while the run wrote") from error
        if not (name := blamed(error)):
            raise
        raise EngineError(f"{name}: {type(error).__name__}: {error}") from error


def _conclude_failed(folder: RunFolder, error: EngineError, start: float) -> None:
    """Write the summary of a run that failed, where the disk still lets it."""
    outcome = Outcome(checks=told({type(error).__name__: str(error)}))
    with suppress(EngineError, OSError):
        _conclude(folder, outcome, error.status, start)


def _conclude(folder: RunFolder, outcome: Outcome, status: int, start: float) -> None:
    folder.write_summary(outcome, exit_status=status, wall_seconds=time.monotonic() - start)
    folder.write_manifest()


def _write_pages(path: Path, report: Reporter, pages: Pages) -> None:
    """Write the report; a report that cannot be drawn does not fail a finished run."""
    try:
        pages(path)
    except Exception as error:
        report.say(f"report.html was not written: {type(error).__name__}: {error}")
