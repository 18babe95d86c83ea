"""Pictures to a published data set."""

from __future__ import annotations

from typing import Any

from ddpm.data import ingest as publishing
from ddpm.data import sources
from ddpm.data.datasheet import keep_datasheet
from ddpm.data.ingest import DatasetFacts
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.settings import IngestSettings
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform
from ddpm.store import Store, open_store, read_object


class IngestFacts(DatasetFacts):
    """What the step leaves."""

    datasheet: str | None  # the page's URI, or None where it cannot be kept


def ingest(settings: IngestSettings, store: Store, progress: Progress, workers: int = 0) -> IngestFacts:
    """Publish pictures as a data set, and keep its datasheet beside it."""
    if sources.parse(settings.source).published() is None and (instead := store.probe()):
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
        return plan, dict(facts)

    perform("ingest", work, output)
