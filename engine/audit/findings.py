"""Findings and reports of audits, and how they are shown."""

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comparison import holds
from ..rundir import write_text

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Finding:
    """What one audit found.

    Attributes:
        name: the property, for instance ``rotation``.
        value: the size of its violation.
        threshold: the largest value that passes.
        unit: of both; empty for ratios.
        passed: None where nothing could be measured, which ``detail`` explains.
        detail: how or where, in a few words.
    """

    name: str
    value: float
    threshold: float
    unit: str = ""
    passed: bool | None = None
    detail: str = ""


def at_most(
    name: str, value: float, threshold: float, unit: str = "", detail: str = ""
) -> Finding:
    """Return the finding that passes if ``value <= threshold``; NaN does not."""
    value = float(value)
    return Finding(name, value, threshold, unit, holds(value, threshold), detail)


def not_measured(name: str, why: str, threshold: float = math.nan) -> Finding:
    """Return the finding of an audit that does not apply."""
    return Finding(name, math.nan, threshold, passed=None, detail=why)


def tried(
    audit: Callable[..., Finding | list[Finding]], *arguments: Any, **more: Any
) -> list[Finding]:
    """Return what an audit finds; one that cannot be carried through has failed.

    What is audited may be anybody's, and fails in its own way: the error is the finding.
    """
    try:
        found = audit(*arguments, **more)
    except Exception as error:
        name = getattr(audit, "__name__", "realizability").replace("_", " ")
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Finding(name, math.nan, math.nan, "", False, detail)]
    return found if isinstance(found, list) else [found]


@dataclass(frozen=True)
class Report:
    """All findings on one module.

    Attributes:
        subject: name of the module.
        kind: ``potential``, ``closure``, ``gas`` or ``wavefunction``.
        findings: in the order of the audits.
        seconds: wall time.
    """

    subject: str
    kind: str
    findings: Sequence[Finding]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing failed and something was measured."""
        verdicts = [finding.passed for finding in self.findings]
        return False not in verdicts and True in verdicts

    @property
    def failures(self) -> list[str]:
        """Names of what failed."""
        return [finding.name for finding in self.findings if finding.passed is False]

    def __getitem__(self, name: str) -> Finding:
        """Return one finding by name.

        Raises:
            KeyError: there is none.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; numbers that are not finite become None."""
        rows = []
        for finding in self.findings:
            row = asdict(finding)
            for key in ("value", "threshold"):
                row[key] = row[key] if math.isfinite(row[key]) else None
            rows.append(row)
        return {
            "subject": self.subject,
            "kind": self.kind,
            "passed": self.passed,
            "seconds": round(self.seconds, 1),
            "findings": rows,
        }


WORDS = {True: "pass", False: "FAIL", None: "not measured"}


def number(value: float) -> str:
    """Return a number as the tables show it."""
    return "" if math.isnan(value) else f"{value:.2g}"


def table(report: Report) -> "Table":
    """Return the report as a table of the terminal."""
    from rich.table import Table

    verdict = "passed" if report.passed else f"failed: {', '.join(report.failures)}"
    what = f"{report.kind}, {report.seconds:.0f} s"
    title = f"audit of {report.subject} ({what}): {verdict}"
    made = Table(title=title, title_justify="left")
    for column in ("property", "found", "allowed", "unit", "", "how"):
        made.add_column(
            column, justify="right" if column in ("found", "allowed") else "left"
        )
    colours = {True: "green", False: "bold red", None: "dim"}
    for finding in report.findings:
        made.add_row(
            finding.name,
            number(finding.value),
            number(finding.threshold),
            finding.unit,
            f"[{colours[finding.passed]}]{WORDS[finding.passed]}[/]",
            finding.detail,
        )
    return made


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.pass { color: #1a7f37; } .FAIL { color: #b42318; font-weight: 600; } .not { color: #777; }
"""


def page(report: Report) -> str:
    """Return the report as one HTML page that needs nothing else."""
    rows = []
    for finding in report.findings:
        word = WORDS[finding.passed]
        allowed = number(finding.threshold)
        rows.append(
            f"<tr><td>{html.escape(finding.name)}</td>"
            f"<td class=n>{number(finding.value)}</td><td class=n>{allowed}</td>"
            f"<td>{html.escape(finding.unit)}</td>"
            f"<td class='{word.split()[0]}'>{word}</td>"
            f"<td>{html.escape(finding.detail)}</td></tr>"
        )
    name = html.escape(report.subject)
    verdict = (
        "<span class=pass>everything measured here passed</span>"
        if report.passed
        else f"<span class=FAIL>failed: {html.escape(', '.join(report.failures))}</span>"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Audit of {name}</title>"
        f"<style>{_STYLE}</style><h1>Audit of {name}</h1>"
        f"<p>A learned {report.kind}: physical properties, {verdict}. "
        "Each row is one property; <em>found</em> is the size of its violation, and the "
        "property holds where that is not above <em>allowed</em>.</p>"
        "<table><tr><th>property<th>found<th>allowed<th>unit<th><th>how</tr>"
        f"{''.join(rows)}</table><p>{report.seconds:.0f} s.</p></html>\n"
    )


def write(report: Report, stem: Path) -> list[Path]:
    """Write ``stem.audit.json`` and ``stem.audit.html``; return their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.audit.{end}") for end in ("json", "html")]
    write_text(files[0], json.dumps(report.as_dict(), indent=1) + "\n")
    write_text(files[1], page(report))
    return files
