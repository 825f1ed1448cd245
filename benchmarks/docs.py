"""The first hour in numbers: the site, the reference, the command line, the report."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import scalebridge
from scalebridge.engine import reference
from scalebridge.engine.schema import SCENARIOS

if TYPE_CHECKING:
    from scalebridge.engine.bench import Recorder

ROOT = Path(__file__).resolve().parent.parent


def measure(quick: bool, record: "Recorder") -> None:
    """Measure every figure that is wanted; ``quick`` leaves out demo, tutorials, site."""
    if record.wants("keys_documented"):
        found = [entry for kind in SCENARIOS.kinds() for entry in reference.entries(kind)]
        share = 100 * sum(bool(entry.text) for entry in found) / len(found)
        record("keys_documented", share, "%", goal=100, better="higher",
               note=f"{len(found)} keys")  # fmt: skip
    if record.wants("api_documented"):
        names = [name for name in scalebridge.__all__ if not name.startswith("__")]
        told = sum(bool(getattr(scalebridge, name).__doc__) for name in names)
        record("api_documented", 100 * told / len(names), "%", goal=100, better="higher")
    if record.wants("tasks_from_docs"):
        record("tasks_from_docs", _tasks(), "tasks", goal=20, better="higher",
               note="each with the page and the test that runs it")  # fmt: skip
    if record.wants("cli_seconds"):
        seconds = min(_engine("--help") for _ in range(2 if quick else 5))
        record("cli_seconds", seconds, "s", goal=0.3, note="engine --help, CPU")
    if record.wants("report_seconds"):
        record("report_seconds", _report(), "s", goal=10, note="silicon_sw, 200 steps; CPU")
    if not quick and record.wants("demo_seconds", "demo_checks_failed"):
        seconds, failed = _demo()
        record("demo_seconds", seconds, "s", goal=60, note="silicon_vacancies, CPU")
        record("demo_checks_failed", failed, goal=0)
    if record.wants("first_picture_seconds"):
        record("first_picture_seconds", _first_picture(), "s", goal=3,
               note="engine view --browser, wall, median of three; load of the machine "
               f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    if not quick and record.wants("wheel_install_seconds"):
        record("wheel_install_seconds", _wheel(), "s",
               note="pip install of the wheel into an empty environment, wall; then "
               "silicon_melt ran in an empty folder")  # fmt: skip
    if not quick and record.wants("docs_warnings"):
        record("docs_warnings", _site(), goal=0)
    if not quick and record.wants("tutorials_run"):
        run, pages = _tutorials()
        record("tutorials_run", run, "pages", goal=10, better="higher",
               note=f"{pages} pages written")  # fmt: skip


def _tasks() -> int:
    """Return how many rows of the table of tasks name a page and a test that exist."""
    sys.path.insert(0, str(ROOT / "docs"))
    import generate

    return sum(
        page.exists() and f"def {test}(" in file.read_text(encoding="utf-8")
        for _, page, file, test in generate.tasks()
    )


def _report() -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        _engine("run", "silicon_sw", "--set", "run.steps=200", "--out", out, "--no-report")
        return _engine("report", out)


def _first_picture() -> float:
    """Return the seconds from the command to the first picture of 864 atoms."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options)

    def drawn(page: webdriver.Chrome) -> bool:
        """Whether atoms stand on the page, painted by the browser or sent as a picture."""
        serial = page.find_elements(By.ID, "serial")
        if serial and int(serial[0].get_attribute("textContent") or 0) > 0:
            return True
        if not page.find_elements(By.ID, "sketch"):
            return False
        page.switch_to.frame("sketch")
        found = page.find_elements(By.CSS_SELECTOR, "body[data-drawn]")
        page.switch_to.default_content()
        return bool(found)

    with tempfile.TemporaryDirectory() as folder:
        out, times = str(Path(folder) / "run"), []
        _engine("run", "argon_nve", "--set", "run.steps=100", "--out", out, "--no-report",
                "--no-strict")  # fmt: skip
        for _ in range(3):
            start = time.monotonic()
            command = [
                sys.executable,
                "-m",
                "scalebridge.engine.cli",
                "view",
                out,
                "--browser",
            ]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            assert server.stdout is not None
            browser.get(re.findall(r"http://\S+", server.stdout.readline())[0])
            WebDriverWait(browser, 60, 0.02).until(drawn)
            times.append(time.monotonic() - start)
            server.terminate()
            server.wait()
    browser.quit()
    return sorted(times)[1]


def _wheel() -> float:
    """Return the seconds of installing the wheel; a run without the checkout must work."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        python, engine = folder / "venv/bin/python", folder / "venv/bin/engine"
        steps = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", text, "."]
        subprocess.run(steps, cwd=ROOT, check=True)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        (wheel,) = folder.glob("*.whl")
        constraints, start = ROOT / "constraints.txt", time.monotonic()
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[viz]"],
            cwd=folder, check=True,
        )  # fmt: skip
        seconds = time.monotonic() - start
        subprocess.run([engine, "run", "silicon_melt", "--set", "run.steps=200",
                        "--no-strict", "--out", "run"], cwd=folder, check=True)  # fmt: skip
    return seconds


def _demo() -> tuple[float, int]:
    """Return the CPU seconds of the demo and the number of checks that failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        seconds = _engine("run", "silicon_vacancies", "--out", str(out), "--no-strict")
        checks = json.loads((out / "summary.json").read_text())["checks"]
    return seconds, sum(not check["passed"] for check in checks)


def _cpu(command: list[str]) -> float:
    """Return the CPU seconds of a program that must succeed."""
    before = os.times()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def _engine(*arguments: str) -> float:
    return _cpu([sys.executable, "-m", "scalebridge.engine.cli", *arguments])


def _site() -> int:
    """Build the site afresh; return the number of warnings."""
    with tempfile.TemporaryDirectory() as folder:
        built = subprocess.run(
            [sys.executable, "-m", "sphinx", "-E", "-q", "-b", "html", "docs", folder],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return sum("WARNING" in line or "ERROR" in line for line in built.stderr.splitlines())


def _tutorials() -> tuple[int, int]:
    """Run the tutorials, each as its page prints it; return how many did, of how many."""
    pages = [
        p.stem for p in (ROOT / "docs" / "tutorials").glob("*.md") if p.stem != "index"
    ]
    done = 0
    for page in pages:
        start = time.monotonic()
        tried = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow",
             "tests/test_docs.py", "-k", f"does_what_it_says and {page}"],
            cwd=ROOT, capture_output=True,
        )  # fmt: skip
        done += tried.returncode == 0
        print(f"{page}: {tried.returncode}, {time.monotonic() - start:.0f} s")
    return done, len(pages)
