"""One worker of the search, as a task."""

from __future__ import annotations

from ddpm.data.ingest import DatasetFacts
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.worker import Searched, search
from ddpm.steps.task import task


@task("search", numbered="worker")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, worker: int) -> Searched:
    return search(run, dataset["uri"], worker, progress)
