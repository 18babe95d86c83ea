"""Pictures to a published data set."""

from __future__ import annotations

from typing import NotRequired

from ddpm.data import ingest as publishing
from ddpm.data import sources
from ddpm.data.catalogue import SHORT
from ddpm.data.ingest import DatasetFacts
from ddpm.errors import Outage, WrongInput
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.settings import IngestSettings
from ddpm.steps.task import task
from ddpm.store import open_object, read_object
from ddpm.workplace import Workplace


class IngestFacts(DatasetFacts):
    """What the step leaves."""

    datasheet: str | None  # the page's URI, or None where it cannot be kept
    dataset: str  # how commands are told of it: NAME@DIGEST, its beginning; of another store, its URI
    second_n: NotRequired[int]  # of a run with a second set: the training pictures of that


def ingest(place: Workplace, settings: IngestSettings, workers: int = 0) -> IngestFacts:
    """Publish pictures as a data set, and keep its datasheet beside it."""
    source = sources.parse(settings.source)
    source.check()  # before anything is made in the store
    if source.published() is None and (instead := place.store.probe()):
        place.progress.say(instead)
    facts = publishing.ingest(settings, place.store, place.progress, workers)
    here = facts["uri"].startswith(place.store.root + "/")
    dataset = f"{facts['name']}@{facts['digest'][:SHORT]}" if here else facts["uri"]
    return {**facts, "datasheet": keep_datasheet(facts["uri"], place.progress), "dataset": dataset}


def keep_datasheet(uri: str, progress: Progress) -> str | None:
    """The URI of the page beside the manifest at `uri`, which is made where there is none.

    None, and a line that says why, where it cannot be kept: a data set is no worse for it.
    """
    store, name = open_object(uri)
    key = name.removesuffix(".json") + ".html"
    try:
        if not store.exists(key):
            from ddpm.data.dataset import open_dataset  # they import torch
            from ddpm.data.datasheet import render

            store.create(key, render(open_dataset(uri)))
    except (WrongInput, Outage) as problem:
        progress.say(f"the data set has no datasheet: {problem}")
        return None
    return store.uri(key)


def unused_classes(found: int, told: int) -> str:
    """What is said of a data set's classes where the network is told of none; empty where it is, or there are none."""
    return f"{found:,} {'class' if found == 1 else 'classes'} found, not used" if found and not told else ""


def require_suitable(plan: Plan, facts: DatasetFacts) -> None:
    """Raise WrongInput for a second set that its network or its measurement would refuse, by the names of its settings."""
    if plan.model.classes not in (0, facts["classes"]):
        raise WrongInput(
            f"transfer_classes: {plan.model.classes}, but {facts['name']} has {facts['classes']}; give that, or 0"
        )
    if plan.evaluate.extractor == "classifier":
        from ddpm.data.dataset import open_dataset  # they import torch
        from ddpm.evaluation.extractors.classifier import require_labels

        require_labels(open_dataset(facts["uri"]))


@task("ingest")
def in_pipeline(run: Run, progress: Progress) -> IngestFacts:
    """Publish the run's pictures; with the first set's the second's, so that what is wrong with them is found before
    anything is trained."""
    facts = ingest(run.workplace(progress), run.plan.ingest)
    if run.second:
        other = ingest(run.workplace(progress), run.second.plan.ingest)
        require_suitable(run.second.plan, other)
        facts["second_n"] = other["n"]
    how = "found published, not ingested again" if facts["reused"] else "ingested"
    progress.say(
        f"data set {facts['name']}: {facts['n']:,} training and {facts['held_out']:,} held-out pictures, {how}"
        + (f"; {facts['taken']}" if "taken" in facts else "")
    )
    if unused := unused_classes(facts["classes"], run.plan.model.classes):
        name = "transfer_classes" if run.first else "classes"
        progress.say(f"{unused}; SET='{name}={facts['classes']}' tells the network of them")
    with run.tracker.parent() as tracked:
        if "taken" in facts:
            tracked.tag("dataset_taken", facts["taken"])
        if facts["datasheet"]:
            tracked.file("datasheet.html", read_object(facts["datasheet"]))
    return facts
