"""A run's page in a folder of this machine, with what it links to, under names that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm.errors import WrongInput
from ddpm.run import Run
from ddpm.run_page.going_on import Command
from ddpm.run_page.render import PAGE, Links, page_of
from ddpm.store import FileStore, Missing, open_store, read_object

SAMPLES, REPORT = "samples.png", "report.html"


def write_page(run: Run, folder: Path, more: Sequence[Command] = ()) -> Path:
    """Write `index.html`, and `samples.png` and `report.html` where the run has come so far; the page's path."""
    there, uris = FileStore(folder), run.facts("evaluate") or {}
    written = {}
    for name, uri in ((SAMPLES, uris.get("grid")), (REPORT, uris.get("page"))):
        if uri:
            try:
                there.write(name, read_object(uri))
            except Missing:  # somebody removed it from the store; the page says so of its pictures
                continue
            written[name] = name
    links = Links(report=written.get(REPORT, ""), samples=written.get(SAMPLES, ""))
    there.write(PAGE, page_of(run, links, more).encode())
    return folder / PAGE


def last_run(store: str) -> str:
    """The name of the run whose summary was written last. Raises WrongInput where no run has one."""
    summaries = [entry for entry in open_store(store).entries("runs") if entry.key.endswith("/summary.json")]
    if not summaries:
        raise WrongInput(f"store: no run has ended in {store}; name one that has begun, or begin one with: make run")
    return max(summaries, key=lambda entry: entry.modified).key.split("/")[-2]
