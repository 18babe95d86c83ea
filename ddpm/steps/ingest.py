"""Pictures to a published data set."""

from __future__ import annotations

from typing import Any

from ddpm.data.ingest import ingest
from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.steps.task import load_plan, perform
from ddpm.store import open_store

__all__ = ["ingest", "task"]


def task(plan_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan = load_plan(plan_path)
        facts = ingest(plan.ingest, open_store(plan.store), progress)
        how = "found published, not ingested again" if facts["reused"] else "ingested"
        progress.say(
            f"data set {facts['name']}: {facts['n']:,} training and {facts['held_out']:,} held-out pictures, {how}"
        )
        return plan, facts

    perform("ingest", work, output)
