"""The live page and the page that turns, driven in headless Chromium."""

import io
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from viz_runs import AtomsRun, create, write_gas

pytest.importorskip("trame", reason="pip install scalebridge[live]")
selenium = pytest.importorskip("selenium", reason="pip install selenium")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from scalebridge.viz.live import LivePage

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="apt-get install chromium chromium-driver"
)
PATIENCE = 60


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=900,700"):
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService(DRIVER or "")
    made = webdriver.Chrome(options=options, service=service)
    yield made
    made.quit()


def change(before, now):
    """Mean difference of two pictures; the bar above may have taken another line."""
    high = min(len(now), len(before))
    return float(np.abs(now[-high:] - before[-high:]).mean())


class Page:
    """A live page in the browser, served by a process of its own."""

    def __init__(self, driver, path):
        self.driver = driver
        command = "from scalebridge.engine.cli import main; main()"
        self.server = subprocess.Popen(
            [sys.executable, "-c", command, "view", str(path), "--browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\S*", line)
        assert found, f"the server said {line!r}"
        driver.get(found.group())
        self.until(lambda: int(self.text("serial") or 0) > 0)
        self.until(lambda: self.colours() > 50)

    def close(self):
        self.server.terminate()
        try:
            self.server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.server.kill()

    def until(self, condition):
        def ask(_):
            try:
                return condition()
            except selenium.common.exceptions.WebDriverException:
                return False

        return WebDriverWait(self.driver, PATIENCE, 0.2).until(ask)

    def element(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.element(name).get_attribute("textContent")

    def picture(self):
        png = self.element("view").screenshot_as_png
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)

    def colours(self):
        return len(np.unique(self.picture().reshape(-1, 3), axis=0))

    def until_changed(self, before, least=0.5):
        def changed():
            return change(before, self.picture()) > least

        self.until(changed)

    def slide(self, frame):
        self.driver.execute_script(
            "const e = document.getElementById('frame'); e.value = arguments[0];"
            "e.dispatchEvent(new Event('input'))",
            frame,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with create(tmp_path_factory.mktemp("live") / "run") as folder:
        run = AtomsRun(folder, chunk=1)
        run.write(4)
        yield run


@pytest.fixture(scope="module")
def page(driver, running):
    made = Page(driver, running.folder.path)
    yield made
    made.close()


def test_page_loads_and_shows_the_newest_frame(page):
    assert "3 of 3" in page.text("moment")
    assert "0.3 ps" in page.text("moment")
    assert "Silicon <melts>" in page.driver.page_source.replace("&lt;", "<").replace(
        "&gt;", ">"
    )


def test_the_browser_draws_atoms_until_what_draws_in_three_dimensions_is_loaded(running):
    made = LivePage(running.folder.path)
    assert "<canvas" in made.server.state.sketch
    made.draw()
    assert "<canvas" in made.server.state.sketch
    made._ready = True
    made.draw()
    assert made.server.state.picture and not made.server.state.sketch


def test_picture_changes_while_a_job_runs(page, running):
    before = page.picture()
    running.write(3)
    page.until(lambda: "6 of 6" in page.text("moment"))
    page.until_changed(before)
    assert "running" in page.text("status")


def test_slider_moves_the_frame(page):
    before = page.picture()
    page.slide(0)
    page.until(lambda: page.text("moment").startswith("0 of"))
    page.until_changed(before)
    assert not page.element("follow").is_selected()
    # nothing goes on: the page stays where the reader put it
    assert page.text("moment").startswith("0 of")


def test_colour_by_uncertainty_switches(page):
    def green():
        red, green, blue = np.moveaxis(page.picture(), -1, 0)
        return int(((green > red + 40) & (green > blue + 20)).sum())

    # A picture that was asked for earlier may still arrive, with or without a change: only
    # the colours themselves tell that the choice was followed.
    page.until(lambda: green() < 200)
    Select(page.element("choice")).select_by_visible_text("deviation")
    page.until(lambda: green() > 200)


def test_play_goes_to_the_last_frame_and_stops(page):
    page.slide(0)
    page.until(lambda: page.text("moment").startswith("0 of"))
    last = page.text("moment").split()[2].rstrip(",")  # tests before may have written more
    page.element("play").click()
    page.until(lambda: page.text("moment").startswith(f"{last} of {last}"))
    page.until(lambda: page.text("play") == "play")


def test_a_number_over_time_stands_beside_the_scene(page):
    names = [option.text for option in Select(page.element("number")).options]
    assert "temperature" in names[0], names
    page.until(lambda: page.element("curve").get_property("naturalWidth") > 100)
    before = page.element("curve").get_property("src")
    page.slide(2)  # the moment is marked
    page.until(lambda: page.element("curve").get_property("src") != before)


@pytest.mark.slow
def test_fields_have_a_live_page_too(driver, tmp_path):
    with create(tmp_path / "gas") as folder:
        write_gas(folder)
    page = Page(driver, folder.path)
    try:
        before = page.picture()
        page.slide(0)
        page.until(lambda: page.text("moment").startswith("0 of 9"))
        page.until_changed(before, least=0.05)
    finally:
        page.close()


def test_page_that_turns_needs_no_server(driver, running, tmp_path):
    from scalebridge.viz.view import Request, view

    file = tmp_path / "scene.html"
    view(Request(running.folder.path), html=file)
    driver.get_log("browser")  # of the pages before
    driver.get(f"file://{file}")
    canvas = driver.find_element(By.ID, "view")

    def picture():
        png = Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")
        return np.asarray(png, int)

    def until(condition):
        WebDriverWait(driver, PATIENCE, 0.2).until(lambda _: condition())

    until(lambda: len(np.unique(picture().reshape(-1, 3), axis=0)) > 50)
    first = picture()
    driver.execute_script(
        "const e = document.getElementById('frame'); e.value = e.max; e.oninput()"
    )
    until(lambda: change(first, picture()) > 0.5)
    later = picture()
    Select(driver.find_element(By.ID, "choice")).select_by_visible_text("deviation")
    until(lambda: change(picture(), later) > 0.5)
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    assert not [text for text in complaints if "file:" in text]
