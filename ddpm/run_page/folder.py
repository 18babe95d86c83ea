"""A run's page in a folder of this machine, with what it links to, under names that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddpm.attempts import SECOND
from ddpm.errors import WrongInput, did_you_mean
from ddpm.run import PLAN, STUDY, Run
from ddpm.run_page.going_on import Command
from ddpm.run_page.render import PAGE, Links, page_of
from ddpm.store import FileStore, Missing, open_store, read_object

SHOWN = 10  # names of runs, the last ones
SAMPLES, REPORT = "samples.png", "report.html"


def write_page(run: Run, folder: Path, more: Sequence[Command] = ()) -> Path:
    """Write `index.html`, and `study.html`, `samples.png` and `report.html` where the run has come so far, and a second
    set's `transfer-samples.png` and `transfer-report.html`; the page's path."""
    there, uris = FileStore(folder), run.facts("evaluate") or {}
    others = (run.second.facts("evaluate") if run.second else None) or {}
    written = {}
    for name, uri in (
        (SAMPLES, uris.get("grid")), (REPORT, uris.get("page")),
        (f"{SECOND}{SAMPLES}", others.get("grid")), (f"{SECOND}{REPORT}", others.get("page")),
    ):  # fmt: skip
        if uri:
            try:
                there.write(name, read_object(uri))
            except Missing:  # somebody removed it from the store; the page says so of its pictures
                continue
            written[name] = name
    try:
        there.write(STUDY, run.folder.read(STUDY))
        written[STUDY] = STUDY
    except Missing:  # it has not chosen yet, or is of an earlier release
        pass
    links = Links(
        *(written.get(name, "") for name in (STUDY, REPORT, SAMPLES, f"{SECOND}{REPORT}", f"{SECOND}{SAMPLES}"))
    )
    there.write(PAGE, page_of(run, links, more).encode())
    return folder / PAGE


def find_run(name: str, store: str) -> Run:
    """The run of this name, or, of none, that whose summary was written last.

    Raises WrongInput, which says what runs there are, where there is none such.
    """
    there = [entry for entry in open_store(store).entries("runs") if entry.key.count("/") == 2]
    begun = [entry.key.split("/")[1] for entry in there if entry.key.endswith(f"/{PLAN}")]
    ended = [entry for entry in there if entry.key.endswith("/summary.json")]
    if name and name not in begun:
        right = f"there are {', '.join(begun[-SHOWN:])}" if begun else "there are none; begin one with: make run"
        raise WrongInput(f"run_name: there is no run {name} in {store}{did_you_mean(name, begun)}; {right}")
    if not (name or ended):
        raise WrongInput(f"store: no run has ended in {store}; name one that has begun, or begin one with: make run")
    return Run.named(name or max(ended, key=lambda entry: entry.modified).key.split("/")[1], store)
