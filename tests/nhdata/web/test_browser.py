"""The app as a person uses it: a real browser, real clicks and keys."""

import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

CHROMIUM = shutil.which("chromium")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the search path")


@pytest.fixture(scope="module")
def address(web_root, runs) -> Iterator[str]:
    """A server started as a shell does it; ended by Ctrl-C, without a word."""
    code = "from nhcli.data import cli; cli()"
    command = [sys.executable, "-c", code, "serve", "--store", web_root, "--port", "0", "--no-browser", "--runs", runs]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    assert process.returncode in (0, 130)


@pytest.fixture(scope="module")
def page(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.goto(address)
        yield page
        browser.close()


def drawn(page) -> bool:
    """Whether every figure has a canvas of some size."""
    page.wait_for_selector("section .bk-Figure, section .bk-Column, section .bk-GridPlot")
    page.wait_for_function("Bokeh.documents.length > 0 && Bokeh.documents.every(d => d.is_idle)")
    return True


def shows(page, what: str) -> None:
    """Wait for a page that has `what`, its script loaded."""
    page.wait_for_selector(what)
    page.wait_for_load_state()


def home(page, address) -> None:
    page.goto(address.split("?")[0])


def test_only_this_machine_and_only_with_the_token(address) -> None:
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.split("?")[0])


def test_the_token_leaves_the_address_bar(page, address) -> None:
    assert "token" not in page.url
    assert page.title() == "Sessions · data.zarr"


def test_from_sessions_to_a_unit_by_clicks(page, address) -> None:
    home(page, address)
    page.click("text=sim >> nth=0")
    assert drawn(page)
    assert page.locator("section").count() == 9
    page.click("text=Units of this session")
    shows(page, "#span:has-text('1–20 of 20')")
    page.click("text=rate_hz")
    page.click("text=rate_hz")
    assert page.get_attribute("th:has-text('rate_hz')", "aria-sort") == "descending"
    page.click("a.open >> nth=0")
    assert drawn(page)
    assert "Spikes from trial start" in page.inner_text("main")
    assert page.problems == []


def test_by_keyboard_alone(page, address) -> None:
    home(page, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.goto(page.url.rstrip("/") + "/units")
    page.keyboard.press("n")
    shows(page, "#span:has-text('51–100 of 120')")
    page.keyboard.press("p")
    shows(page, "#span:has-text('1–50 of 120')")
    page.keyboard.press("/")
    page.keyboard.type("region = 'CA1' and rate_hz > 0")
    page.keyboard.press("Enter")
    shows(page, "#span:has-text('of 4')")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("a.open").nth(1).inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"h1:has-text('{second}')")
    assert page.problems == []


def test_download(page, address) -> None:
    page.goto(address.split("?")[0] + "units?where=source%20%3D%20%27synthetic%27")
    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == "units.csv"
    assert len(download.value.path().read_text().splitlines()) == 21


def test_units_are_kept_under_a_name(page, address) -> None:
    page.goto(address.split("?")[0] + "units?where=region%20%3D%20%27DG%27")
    page.fill("#name", "dentate")
    page.keyboard.press("Enter")
    page.wait_for_url("**/selections")
    page.click("text=dentate")
    shows(page, "#span:has-text('of 4')")
    assert page.problems == []


def test_hostile_names_do_nothing(page, address) -> None:
    for path in ("units", "session?id=evil", "runs"):
        page.goto(address.split("?")[0] + path)
        page.wait_for_load_state()
        assert page.title() != "owned"
    page.goto(address.split("?")[0] + "session?id=evil")
    assert drawn(page)
    assert page.title() == "Session evil · data.zarr"
    assert page.problems == []


def test_bad_sql_keeps_what_was_typed(page, address) -> None:
    page.goto(address.split("?")[0] + "units")
    page.fill("#where", "regoin = 'CA1'")
    page.click("text=Apply")
    assert "region" in page.inner_text("[role=alert]")
    assert page.input_value("#where") == "regoin = 'CA1'"
    page.problems.clear()  # the browser reports the status 400


def test_runs(page, address) -> None:
    home(page, address)
    page.click("text=Runs")
    assert drawn(page)
    assert "first" in page.inner_text("tbody")
    assert page.problems == []


def test_a_run_by_clicks_and_as_a_file(page, address) -> None:
    page.goto(address.split("?")[0] + "runs")
    page.click("a.open:text-is('first')")
    assert drawn(page)
    assert page.inner_text("h1") == "first"
    with page.expect_download() as download:
        page.click("text=This page as a file")
    text = download.value.path().read_text()
    assert text.startswith("<!doctype html>")
    assert "http-equiv" not in text
    page.click("text=All runs")
    shows(page, "h1:text-is('Training runs')")
    assert page.problems == []


def test_two_tabs_ask_for_different_units(page, address) -> None:
    other = page.context.new_page()
    for tab, region in ((page, "CA1"), (other, "DG")):
        tab.goto(address.split("?")[0] + f"units?where=region%20%3D%20%27{region}%27")
    for tab, region in ((page, "CA1"), (other, "DG")):
        tab.click("th:has-text('rate_hz') a")
        shows(tab, "#span:has-text('of 4')")
        assert set(tab.locator("tbody td:nth-child(5)").all_inner_texts()) == {region}
    other.close()


def test_narrow_screens_scroll_tables_not_pages(page, address) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    for path in ("", "units", "selections", "runs", "run?name=first", "session?id=sim", "unit?id=sim/probe00/3"):
        page.goto(address.split("?")[0] + path)
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth") == 400, path
    page.set_viewport_size({"width": 1200, "height": 900})
    assert page.problems == []


def test_a_token_of_an_earlier_server_says_what_to_do(page, address) -> None:
    kept = page.context.cookies()
    page.context.add_cookies([cookie | {"value": "stale"} for cookie in kept])
    page.goto(address.split("?")[0] + "units")
    assert "the address that 'nhdata serve' printed last" in page.inner_text("body")
    page.problems.clear()  # the browser reports the status 403
    page.context.add_cookies(kept)
    page.reload()
    shows(page, "#span")
