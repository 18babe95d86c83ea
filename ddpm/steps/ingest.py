"""Pictures to a published data set."""

from __future__ import annotations

from typing import Any

from ddpm.data import ingest as publishing
from ddpm.data.datasheet import keep_datasheet
from ddpm.data.sources import is_published
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.settings import IngestSettings
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform
from ddpm.store import Store, open_store, read_object


def ingest(settings: IngestSettings, store: Store, progress: Progress, workers: int = 0) -> dict[str, Any]:
    """Publish pictures as a data set, and keep its datasheet beside it.

    Returns what `ddpm.data.ingest.ingest` does, and `datasheet`: the page's URI, or null where it cannot be kept.
    """
    if not is_published(settings.source) and (instead := store.probe()):
        progress.say(instead)
    facts = publishing.ingest(settings, store, progress, workers)
    return {**facts, "datasheet": keep_datasheet(facts["uri"], progress)}


def task(plan_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan = load_plan(plan_path)
        facts = ingest(plan.ingest, open_store(plan.store), progress)
        how = "found published, not ingested again" if facts["reused"] else "ingested"
        progress.say(
            f"data set {facts['name']}: {facts['n']:,} training and {facts['held_out']:,} held-out pictures, {how}"
        )
        if facts["datasheet"]:
            with open_tracker(plan).parent() as run:
                run.file("datasheet.html", read_object(facts["datasheet"]))
        return plan, facts

    perform("ingest", work, output)
