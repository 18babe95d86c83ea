"""`make ui`: which links show the runs, and the browser opened at the first of them.

    python -m ddpm.tracking.ui TRACKING_URI http://127.0.0.1:5000 [--open]

prints the links under which a server of these records will show the runs of each experiment, the latest first; with
--open it waits for that server, and opens the first of them in the browser, where there is one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import urllib.request
import webbrowser
from typing import Any

from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.tracking.client import Client, open_client
from ddpm.tracking.pages import runs_page
from ddpm.tracking.tracker import end_dead_runs

SECONDS_TO_START = 120.0


def links(client: Client, server: str) -> dict[str, str]:
    """The link of every experiment that has runs, by its name; that with the latest run first."""
    found: list[tuple[int, Any]] = []
    for experiment in client.search_experiments():
        latest = client.search_runs([experiment.experiment_id], max_results=1, order_by=["attributes.start_time DESC"])
        found += [(run.info.start_time, experiment) for run in latest]
    found.sort(key=lambda one: -one[0])
    return {of.name: f"{server}/{runs_page(client, of.experiment_id)}" for _, of in found}


def open_when_up(server: str, link: str) -> None:
    """Open a link in the browser once the server answers; gives up when whoever started this is gone."""
    parent, deadline = os.getppid(), time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and os.getppid() == parent:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server}/health", timeout=5):
            webbrowser.open(link)
            return
        time.sleep(0.5)


def has_display() -> bool:
    """Whether a browser could be shown: not over a bare terminal, nor where nobody is."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def main(tracking_uri: str, server: str, then: str = "") -> int:
    if then and not has_display():
        return 0
    try:
        client = open_client(tracking_uri)
        if not then:
            end_dead_runs(client)
        found = links(client, server)
    except (WrongInput, Outage) as problem:
        tell(problem)
        return 2 if isinstance(problem, WrongInput) else 1
    if not found:
        tell(f"there are no runs in {tracking_uri} yet; make some with: make run")
        return 2
    if then:
        open_when_up(server, next(iter(found.values())))
        return 0
    width = max(map(len, found))
    tell("MLflow's pages, in some seconds; Ctrl-C ends them", sys.stdout)
    for name, link in found.items():
        tell(f"  {name:{width}}  {link}", sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
