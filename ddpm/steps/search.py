"""One worker of the search, as a task."""

from __future__ import annotations

from typing import Any

from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.run import Run
from ddpm.search.worker import search
from ddpm.steps.task import load_plan, perform, read_pointer


def task(plan_path: str, dataset_path: str, worker: int, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan = load_plan(plan_path)
        return plan, dict(search(Run(plan), read_pointer(dataset_path)["uri"], worker, progress))

    perform("search", work, output, f"-{worker}")
