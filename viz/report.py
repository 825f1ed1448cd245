"""``report.html``: results and checks of a run, and how to repeat it.

One file, nothing to download: pictures are inlined. It is written for a reader who never
saw the project.
"""

import base64
import dataclasses
import datetime
import html
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.protocols import Check, headline, told
from ..engine.rundir import write_atomically, write_text
from . import figures, learning, names, plots, render, style
from .picture import Picture, Undrawn, framed, to_png
from .record import Record, reading, systems_of

MAX_PICTURES = 24


def write_report(path: Path | str) -> Path:
    """Write ``report.html`` and ``picture.png`` into a run folder.

    Args:
        path: the run folder; also of a run that failed or is still running.

    Returns:
        The report's path.

    Raises:
        InputError: not a run folder.
    """
    render.start_probe()
    record = Record(path)
    with style.styled(), reading(path):
        drawn = list(pictures(record))
        page = document(record, drawn)
    first = next((p for p in drawn if isinstance(p, Picture)), None)
    if first is not None:
        write_atomically(
            record.path / "picture.png", lambda part: part.write_bytes(first.png)
        )
    target = record.path / "report.html"
    write_text(target, page)
    return target


class Report(Record):
    """A run folder that a notebook shows as its report."""

    def _repr_html_(self) -> str:
        with style.styled():
            page = document(self, list(pictures(self)))
        return framed(page, "width: 100%; height: 42rem")


# -- pictures ----------------------------------------------------------------------------


def pictures(record: Record) -> Iterator[Picture | Undrawn]:
    """Yield the pictures of a run, the most informative first."""
    count = 0
    for title, attempt in _attempts(record):
        if count >= MAX_PICTURES:
            yield Undrawn(title, f"a report holds {MAX_PICTURES} pictures; see engine view")
            continue
        try:
            made = attempt()
        except Exception as error:  # a picture that fails does not stop the others
            yield Undrawn(title, f"{type(error).__name__}: {error}")
            continue
        if made is not None:
            count += 1
            yield made


def _attempts(record: Record) -> Iterator[tuple[str, Callable[[], Picture | None]]]:
    yield from figures.run_pictures(record)
    yield "Observables", lambda: observables_picture(record)


def observables_picture(record: Record) -> Picture | None:
    """Return the numbers that the run reported, over time."""
    kind = str(record.scenario.get("kind", ""))
    drawn = {name for group in record.groups().values() for name in group.columns}
    if kind == "vmc" and "points" not in record.scenario:
        drawn |= {"energy", "energy_error"}
    events = {
        name: values
        for name, values in record.events().items()
        if name in plots.TRACES or name not in drawn
    }
    systems = systems_of(record.scenario)
    panels = plots.observables(events, record.attributes(), kind, systems)
    stages = learning.stages(record.rows())
    if stages:
        caption = "The loss of every network, in every stage of its training."
        return Picture("Training", to_png(plots.page(stages)), caption)
    if not panels:
        return None
    return Picture(
        "Observables over time",
        to_png(plots.page(panels[:12], height=2.4)),
        "Values reported during the run.",
    )


# -- the page ----------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
.lead { color: #444; } .small { color: #555; font-size: .88rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .9rem
  .25rem 0; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
th.number { text-align: right; font-weight: 600; } table + table { margin-top: 1.2rem; }
.good, .bad, .open { font-weight: 600; } span.good, span.bad { white-space: nowrap; }
.good { color: #00694e; } .bad { color: #b3400e; } .open { color: #555; }
img { max-width: 100%; height: auto; } figure { margin: .6rem 0 1.4rem; }
figcaption { color: #444; font-size: .92rem; }
pre { background: #f5f5f3; padding: .7rem .9rem; white-space: pre-wrap; }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""


def document(record: Record, drawn: Sequence[Picture | Undrawn]) -> str:
    """Return the whole page."""
    body = [
        f"<h1>{_text(record.title)}</h1>",
        _lead(record),
        _verdict(record),
        _figures(record),
        _shown(drawn),
        _parameters(record),
        _again(record),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_text(record.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _lead(record: Record) -> str:
    description = str(record.scenario.get("description", "")).strip()
    paragraphs = [p.strip() for p in description.split("\n\n") if p.strip()]
    lead = "".join(f"<p class='lead'>{_text(p)}</p>" for p in paragraphs)
    facts = [f"Run <b>{_text(record.path.resolve().name)}</b>"]
    created = str(record.resolved.get("created", ""))
    if created:
        facts.append(f"started {_text(created[:16].replace('T', ' '))} UTC")
    seconds = record.summary.get("wall_seconds")
    if seconds is not None:
        facts.append(f"took {_text(_duration(float(seconds)))}")
    return lead + f"<p class='small'>{', '.join(facts)}.</p>"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=round(seconds)))


_ENDINGS = {
    0: ("good", "The run finished."),
    1: ("bad", "The run failed."),
    2: ("bad", "The input was refused."),
    3: ("bad", "A guard stopped the run."),
    4: ("good", "The run finished."),
    130: ("open", "The run was interrupted; it can be resumed."),
}


def _verdict(record: Record) -> str:
    summary = record.summary
    if not summary:
        return (
            "<h2>Checks</h2><p><span class='open'>… The run has not ended;</span> "
            "what follows is what it has written so far.</p>"
        )
    checks = _checks(summary)
    kind, sentence = _ENDINGS.get(int(summary.get("exit_status", 0)), ("bad", "It failed."))
    wrong, remarks = any(not check.passed for check in checks), _remarks(record)
    if kind == "good":
        kind = "bad" if wrong or remarks else "good" if checks else "open"
        said = headline(checks, summary.get("unchecked", {}))
        sentence = f"The run finished: {said}."
        if remarks and not wrong:
            sentence += " The pictures show a problem."
    rows = "".join(_check(check, kind) for check in checks)
    rows += "".join(
        f"<tr><td>{_mark(False, 'bad')}</td><td>{_text(what)}</td>"
        f"<td colspan='4'>{_text(said)}</td></tr>"
        for what, said in remarks
    )
    sign = {"good": "✓", "bad": "✗", "open": "…"}[kind]
    table = f"<table>{_CHECKS_HEAD}{rows}</table>" if rows else ""
    return f"<h2>Checks</h2><p class='{kind}'>{sign} {_text(sentence)}</p>{table}"


_CHECKS_HEAD = (
    "<tr><th></th><th>check</th><th>kind</th><th class='number'>found</th>"
    "<th class='number'>allowed</th><th></th></tr>"
)


def _checks(summary: Mapping[str, Any]) -> list[Check]:
    """Return the checks of a summary; those of the first edition have sentences alone."""
    names_of = {field.name for field in dataclasses.fields(Check)}
    found = [
        Check(**{key: value for key, value in entry.items() if key in names_of})
        for entry in summary.get("checks", [])
    ]
    return found or list(told(summary.get("verdicts", {})))


def _check(check: Check, ending: str) -> str:
    words, meaning = names.check(check.name)
    said = (meaning or check.note) if check.passed else check.sentence
    sign = "≥" if check.at_least else "≤"
    return (
        f"<tr><td>{_mark(check.passed, ending)}</td><td>{_text(words)}</td>"
        f"<td>{check.kind}</td><td class='number'>{_text(f'{check.value:.3g}')}</td>"
        f"<td class='number'>{sign} {_text(f'{check.bound:.3g} {check.unit}'.strip())}</td>"
        f"<td>{_text(said)}</td></tr>"
    )


def _remarks(record: Record) -> list[tuple[str, str]]:
    """Return problems found while the pictures were drawn: (what, sentence)."""
    try:
        return [("structure", sentence) for sentence in figures.atoms_remarks(record)]
    except (OSError, ValueError, KeyError):
        return []


def _mark(fine: bool, ending: str) -> str:
    if ending == "open" and not fine:
        return "<span class='open'>…</span>"
    return "<span class='good'>✓ ok</span>" if fine else "<span class='bad'>✗ no</span>"


Figures = Mapping[str, Mapping[str, Any]]


def _figures(record: Record) -> str:
    figures: Figures = record.summary.get("figures", {})
    if not figures:
        return ""
    given = record.scenario.get("knudsen")
    knudsen = given if isinstance(given, list) else []
    named = {name: names.result(name, knudsen) for name in figures}
    by_model = _by_model(figures, named)
    rest = {name: f for name, f in figures.items() if not (by_model and named[name].model)}
    return f"<h2>Results</h2>{_list(rest, named)}{by_model}"


def _by_model(figures: Figures, named: Mapping[str, names.Named]) -> str:
    """Return a table of models and results, empty where there are few of them."""
    models = dict.fromkeys(n.model for n in named.values() if n.model)
    whats = dict.fromkeys(n.what for n in named.values() if n.model)
    if len(models) < 2 or len(whats) < 2:
        return ""
    place = {named[name]: figure for name, figure in figures.items() if named[name].model}
    units, notes = {}, {}
    for at, figure in place.items():
        units.setdefault(at.what, style.unit_of(figure.get("unit", "")))
        notes.setdefault(at.what, str(figure.get("note", "")))

    def cell(what: str, model: str) -> str:
        figure = place.get(names.Named(what, model))
        return f"<td class='number'>{_text(_value(figure)) if figure else ''}</td>"

    def title(what: str) -> str:
        return f"{what} [{units[what]}]" if units[what] else what

    if len(models) > len(whats):
        head = ["model", *map(title, whats)]
        rows = [[_text(m), *(cell(what, m) for what in whats)] for m in models]
    else:
        head = ["result", *models]
        rows = [[_text(title(what)), *(cell(what, m) for m in models)] for what in whats]
    titles = f"<th>{head[0]}</th>"
    titles += "".join(f"<th class='number'>{_text(name)}</th>" for name in head[1:])
    body = "".join(f"<tr><td>{first}</td>{''.join(rest)}</tr>" for first, *rest in rows)
    return f"<table><tr>{titles}</tr>{body}</table>{_notes(notes)}"


def _notes(notes: Mapping[str, str]) -> str:
    """Return what the results of a table are, each note once."""
    said: dict[str, list[str]] = {}
    for what, note in notes.items():
        stem = what.split(", t\u00a0=")[0]
        if note and stem not in said.setdefault(note, []):
            said[note].append(stem)
    return "".join(
        f"<p class='small'>{_text(', '.join(whats))}: {_text(note)}.</p>"
        for note, whats in said.items()
    )


def _list(figures: Figures, named: Mapping[str, names.Named]) -> str:
    """Return a table of results and their expected values."""
    if not figures:
        return ""
    partners = {
        name: next((t for t in _reference_names(name) if t in figures and t != name), None)
        for name in figures
    }
    hidden = {partner for partner in partners.values() if partner}
    compared, noted = bool(hidden), any(f.get("note") for f in figures.values())
    head = ["result", "value", "unit", *(["expected"] if compared else [])]
    rows = []
    for name, figure in figures.items():
        if name in hidden:
            continue
        partner = figures.get(partners[name] or "")
        cells = [
            f"<td>{_text(', '.join(t for t in (named[name].what, named[name].model) if t))}"
            "</td>",
            f"<td class='number'>{_text(_value(figure))}</td>",
            f"<td>{_text(style.unit_of(figure.get('unit', '')))}</td>",
        ]
        if compared:
            cells.append(f"<td class='number'>{_text(_expected(partner, figure))}</td>")
        if noted:
            cells.append(f"<td class='small'>{_text(figure.get('note', ''))}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head += [""] if noted else []
    titles = "".join(f"<th>{_text(h)}</th>" for h in head)
    return f"<table><tr>{titles}</tr>{''.join(rows)}</table>"


def _reference_names(name: str) -> tuple[str, ...]:
    return (f"{name}_reference", f"{name}_exact", f"exact_{name}", f"reference_{name}")


def _expected(partner: Mapping[str, Any] | None, figure: Mapping[str, Any]) -> str:
    """Write what was expected with as many digits as the result has."""
    if partner is None:
        return ""
    error = figure.get("error")
    if partner.get("error") is None and error and isinstance(partner.get("value"), float):
        return style.number(partner["value"], error).split(" ±")[0]
    return _value(partner)


def _value(figure: Mapping[str, Any]) -> str:
    value = figure.get("value")
    if isinstance(value, (int, float)):
        return style.number(float(value), figure.get("error"))
    return str(value)


def _shown(drawn: Sequence[Picture | Undrawn]) -> str:
    parts = ["<h2>Pictures</h2>"] if drawn else []
    for item in drawn:
        if isinstance(item, Undrawn):
            reason = f"{item.title} was not drawn: {item.reason}."
            parts.append(f"<p class='small'>{_text(reason)}</p>")
            continue
        data = base64.b64encode(item.png).decode()
        caption = f"<figcaption>{_text(item.caption)}</figcaption>" if item.caption else ""
        parts.append(
            f"<h3>{_text(item.title)}</h3><figure><img alt='{_text(item.title)}' "
            f"width='{_width(item.png)}' src='data:image/png;base64,{data}'>"
            f"{caption}</figure>"
        )
    if render.missing():
        parts.append(f"<p class='small'>{_text(render.missing())}.</p>")
    return "\n".join(parts)


def _width(png: bytes) -> int:
    """Return the displayed width of a picture, such that all have the same font size."""
    return round(int.from_bytes(png[16:20], "big") * 96 / style.RESOLUTION)


def _parameters(record: Record) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(key)}</code></td><td>{_text(value)}</td></tr>"
        for key, value in _flat(record.scenario)
        if key not in ("title", "description", "version")
    )
    return (
        "<h2>Parameters</h2><details><summary>The scenario with every default"
        f"</summary><table>{rows}</table></details>"
        if rows
        else ""
    )


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}".lstrip("."))
    elif isinstance(node, list) and node and all(isinstance(v, Mapping) for v in node):
        for number, value in enumerate(node):
            yield from _flat(value, f"{prefix}.{number}")
    else:
        shown = node if isinstance(node, str) else json.dumps(node)
        yield prefix, shown if len(shown) <= 200 else shown[:197] + "..."


def _again(record: Record) -> str:
    command = str(record.resolved.get("command", ""))
    versions = record.resolved.get("versions", {})
    shown = ", ".join(f"{_text(k)} {_text(v)}" for k, v in versions.items())
    name = shlex.quote(str(record.path))
    lines = [f"{command}" if command else "", f"engine view {name}"]
    files = sorted(
        p.name for p in record.path.iterdir() if p.name != "lock" and p.name[0] != "."
    )
    return (
        "<h2>Reproduce and inspect</h2>"
        f"<pre>{_text(chr(10).join(line for line in lines if line))}</pre>"
        f"<p class='small'>Made with {shown} on {_text(record.resolved.get('host', '?'))}. "
        f"The run folder holds {_text(', '.join(files))}; manifest.json has the sha256 of "
        "every file.</p>"
    )
