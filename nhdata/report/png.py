"""A picture of a page, by a headless Chromium that is already on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from nhcatalog.errors import UserError
from nhcatalog.whole import whole_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=20000",
)
PAGE_WIDTH = 1136
MAX_HEIGHT = 16_000
TIMEOUT_S = 120
MEASURE = (
    "<script>addEventListener('load', () => setTimeout(() => {"
    "document.documentElement.dataset.height = document.documentElement.scrollHeight}, 5000))</script>"
)


def write_png(page: str, path: str | os.PathLike[str]) -> None:
    """Draw a page into a PNG file as tall as the page, replacing the file by one rename.

    Parameters
    ----------
    page : str
        A whole HTML document that needs no network.
    path : path-like

    Raises
    ------
    UserError
        If there is no Chromium, it fails, or the file cannot be written.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="nhdata-png-") as folder:
        html, shot = Path(folder, "page.html"), Path(folder, "page.png")
        html.write_text(page + MEASURE, encoding="utf-8")
        found = re.search(r'data-height="(\d+)"', _run(browser, folder, "--dump-dom", html.as_uri()))
        height = min(int(found[1]) if found else 2000, MAX_HEIGHT)
        html.write_text(page, encoding="utf-8")
        _run(browser, folder, f"--screenshot={shot}", f"--window-size={PAGE_WIDTH},{height}", html.as_uri())
        if not shot.exists():
            raise UserError(f"{browser} drew nothing", "open the HTML in a browser and print it from there")
        with whole_file(path) as part:
            shutil.copyfile(shot, part)


def find_browser() -> str:
    """Path of a Chromium or Chrome.

    Raises
    ------
    UserError
        If there is none on the search path.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise UserError(
        "a PNG is drawn by Chromium, and there is none on the search path",
        "install it (Debian: apt-get install chromium), or leave out --png and open the HTML",
    )


def _run(browser: str, folder: str, *arguments: str) -> str:
    # Chromium refuses its sandbox to root; the page is our own and loads nothing
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [browser, *QUIET, *sandbox, f"--user-data-dir={folder}/profile", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{browser} took more than {TIMEOUT_S} s", "open the HTML in a browser instead") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{browser} failed: {said}", "open the HTML in a browser instead")
    return done.stdout
