"""Pages show what a run says, and run nothing of it; strangers are not let in."""

import html.parser
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import torch
from click.testing import CliRunner
from viz_runs import SCENARIO, AtomsRun, create, finish

from scalebridge.engine.audit import findings
from scalebridge.engine.cli import main
from scalebridge.engine.protocols import Check, Figure, Outcome
from scalebridge.engine.rundir import RunFolder
from scalebridge.viz import guard, page
from scalebridge.viz.atoms import Trajectory
from scalebridge.viz.record import Record
from scalebridge.viz.report import write_report

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "'\"><svg onload=alert(1)>",
    "</pre><iframe src=javascript:alert(1)>",
    "{{ constructor.constructor('alert(1)')() }}",
    "DATA TITLE <b>",
    "<!--<script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u2028<a href='javascript:alert(1)'>x</a>",
)


# the same by other ways into a page: attributes, comments, styles, entities, templates
MORE_PAYLOADS = (
    "<ScRiPt>alert(1)</sCrIpT>", "<script src=//evil.example/a.js></script>",
    "<img src=x onerror=alert(1)//", "<body onload=alert(1)>",
    "<a href=data:text/html,x>x</a>",
    "<form action=javascript:alert(1)><input type=submit>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>", "<style>@import 'http://evil.example'</style>",
    "</style><script>alert(1)</script>", "</textarea><script>alert(1)</script>",
    "--><script>alert(1)</script>", "]]><script>alert(1)</script>", "`${alert(1)}`",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e", "<svg/onload=alert(1)>",
    "&#60;script&#62;alert(1)&#60;/script&#62;", "<details open ontoggle=alert(1)>",
    "'-alert(1)-'", "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
)  # fmt: skip


class Seen(html.parser.HTMLParser):
    """Collects the scripts, handlers and addresses of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.scripts, self.wrong, self.tags = 0, [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.scripts += tag == "script"
        for name, value in attributes:
            if name.startswith("on") or "javascript:" in (value or "").lower():
                self.wrong.append((tag, name, value))
        if tag in ("iframe", "svg", "object", "embed", "a", "form"):
            self.wrong.append((tag, "", ""))


def poisoned(path, text):
    """A run whose every word is ``text``."""
    scenario = {**SCENARIO, "title": text, "description": text, "note": {text: text}}
    resolved = {"name": text, "scenario": scenario, "command": text}
    with RunFolder.create(path, "", resolved) as folder:
        AtomsRun(folder).write(2)
        folder.log(**{"step": 20, "time": 1.0, text: [3.0]})
        folder.store["trajectory"].attrs.update({"title": text, "caption": text})
        for name in ("forces", "deviation"):
            folder.store[f"trajectory/{name}"].attrs.update(
                {"unit": text, "long_name": text}
            )
        folder.put("energies", torch.arange(3.0), text, text)
        outcome = Outcome(
            {text: Figure(1.0, text, 0.1, text)},
            (Check(text, "health", 2.0, 1.0, unit=text, note=text),),
            {"accuracy": text},
        )
        folder.write_summary(outcome, exit_status=0, wall_seconds=1.0)
        record = {**folder.resolved, "host": text, "versions": {text: text}}
        folder.write_resolved({**record, "created": text})
    return path


@pytest.mark.parametrize(
    "text",
    [*PAYLOADS, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE_PAYLOADS)],
)
def test_nothing_of_a_run_is_run_by_its_pages(tmp_path, text):
    run = poisoned(tmp_path / "run", text)
    seen = Seen(write_report(run).read_text())
    assert seen.scripts == 0 and seen.wrong == []
    trajectory = Trajectory(Record(run))
    scene = page.scene([trajectory[0]], text)
    seen = Seen(scene)
    assert seen.scripts == 1 and seen.wrong == [] and "img" not in seen.tags
    data = re.search(r"const D = (\{.*?\});\n", scene, re.DOTALL)
    assert data and json.loads(data.group(1))["count"] == 64
    finding = findings.Finding(text, 1.0, 2.0, text, True, text)
    report = findings.Report(text, "potential", (finding,), 1.0)
    seen = Seen(findings.page(report))
    assert seen.scripts == 0 and seen.wrong == []


def test_a_title_is_no_part_of_the_template(tmp_path):
    live = pytest.importorskip("scalebridge.viz.live")
    pytest.importorskip("trame", reason="pip install scalebridge[live]")
    text = "{{ constructor.constructor('alert(1)')() }}<img src=x onerror=alert(1)>"
    made = live.LivePage(poisoned(tmp_path / "run", text))
    template = str(made.server.state.trame__template_main)
    assert "constructor" not in template and "onerror" not in template
    assert made.server.state.title == text


HOST, TOKEN = "127.0.0.1:5000", "secret"


@pytest.mark.parametrize(
    ("host", "origin", "shown", "why"),
    [
        (HOST, None, (TOKEN, ""), ""),
        ("localhost:5000", "http://localhost:5000", ("", TOKEN), ""),
        (HOST, None, ("", ""), "no token"),
        (HOST, None, ("Secret", "wslink-secret"), "no token"),
        ("evil.example:5000", None, (TOKEN, ""), "another host"),
        ("127.0.0.1:5001", None, (TOKEN, ""), "another host"),
        (HOST, "http://evil.example", (TOKEN, ""), "another origin"),
        (HOST, "null", (TOKEN, ""), "another origin"),
        (HOST, "https://127.0.0.1:5000", (TOKEN, ""), "another origin"),
        (HOST, "http://127.0.0.1:8080", (TOKEN, ""), "another origin"),
    ],
)
def test_who_is_let_in(host, origin, shown, why):
    assert guard.refusal(TOKEN, 5000, host, origin, shown) == why


def test_tokens_differ():
    assert len({guard.new_token() for _ in range(100)}) == 100


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a live page that is served."""
    pytest.importorskip("trame", reason="pip install scalebridge[live]")
    path = tmp_path_factory.mktemp("live") / "run"
    with create(path) as folder:
        AtomsRun(folder).write(2)
        finish(folder)
    command = "from scalebridge.engine.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", command, "view", str(path), "--browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    found = re.search(r"http://\S+", server.stdout.readline())
    yield found.group()
    server.kill()
    server.wait()


def ask(address, **headers):
    """Return status and headers of an answer."""
    try:
        request = urllib.request.Request(address, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def opened(address, **headers):
    """Return the status with which a websocket is opened, or refused."""
    import asyncio

    import aiohttp

    async def attempt():
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(address, headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    return asyncio.run(attempt())


def test_a_served_page_lets_only_its_reader_in(served):
    bare, _, token = served.partition("?token=")
    root = bare.removesuffix("index.html")
    status, headers = ask(served)
    cookie = headers["Set-Cookie"]
    assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    held = {"Cookie": cookie.split(";")[0]}
    assert ask(bare, **held)[0] == 200
    assert ask(bare)[0] == 403
    assert ask(f"{bare}?token=wrong")[0] == 403
    assert ask(served, Host="evil.example")[0] == 403
    assert ask(served, Origin="http://evil.example")[0] == 403
    assert opened(f"{root}ws") == 403
    assert opened(f"{root}ws", **held, Origin="http://evil.example") == 403
    assert opened(f"{root}ws", **held, Origin=root.rstrip("/")) == 101
    assert token


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "[]"),
        ("summary.json", "{"),
        ("summary.json", '{"figures": []}'),
        ("summary.json", '{"checks": [1]}'),
        ("summary.json", '{"exit_status": "x"}'),
        ("summary.json", "[" * 100_000),
        ("resolved.json", ""),
        ("resolved.json", "[" * 100_000),
        ("resolved.json", "{}"),
        ("resolved.json", "null"),
    ],
)
def test_a_report_of_a_damaged_run_is_one_line(tmp_path, name, content):
    path = tmp_path / "run"
    with create(path) as folder:
        AtomsRun(folder).write(2)
        finish(folder)
    (path / name).write_text(content)
    for command in (
        ("report", str(path)),
        ("view", str(path), "--png", str(tmp_path / "a")),
    ):
        answer = CliRunner().invoke(main, command)
        if command[0] == "view" and name == "summary.json":
            continue  # a picture needs no summary
        assert answer.exit_code == 1 and f"{name}: damaged" in answer.output
        assert len(answer.output.strip().splitlines()) == 1
