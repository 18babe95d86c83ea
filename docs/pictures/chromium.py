"""A window of Chromium's, and a server that is up for as long as its pages are looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.servers import free_port, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROGRAM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def window(wide: int, high: int, script: str = "") -> Iterator[Page]:
    """A page of so many pixels; each that it opens runs the script first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": wide, "height": high})
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


@contextmanager
def served(command: list[str], answers: str, place: str = "") -> Iterator[str]:
    """The address of a server that the command starts, once it answers at this path; its port is put where PORT stands."""
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    words = [str(port) if word == "PORT" else word for word in command]
    with tempfile.TemporaryDirectory() as folder, running(words, f"{server}{answers}", place, folder, 1):
        yield server
