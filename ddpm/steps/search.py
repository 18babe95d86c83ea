"""One worker of the search, as a task."""

from __future__ import annotations

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.worker import Searched, follow, search
from ddpm.steps.task import task
from ddpm.training.world import World


def train_along(run: Run, dataset: DatasetFacts, world: World) -> None:
    """What the ranks beside rank 0 do."""
    follow(open_dataset(dataset["uri"]), world)


@task("search", numbered="worker", follow=train_along)
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, worker: int, world: World) -> Searched:
    return search(run, dataset["uri"], worker, progress, world)
