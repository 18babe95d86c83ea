"""A checkpoint and its report as a version in MLflow's registry."""

from __future__ import annotations

from typing import Any

from ddpm.plan import Plan
from ddpm.progress import Progress
from ddpm.registry.version import register
from ddpm.run import FINAL
from ddpm.steps.configure import open_tracker
from ddpm.steps.task import load_plan, perform, read_pointer

__all__ = ["register", "task"]


def task(plan_path: str, dataset_path: str, checkpoint_path: str, report_path: str, output: str) -> None:
    def work(progress: Progress) -> tuple[Plan, dict[str, Any]]:
        plan, dataset = load_plan(plan_path), read_pointer(dataset_path)
        checkpoint, report = read_pointer(checkpoint_path)["checkpoint"], read_pointer(report_path)
        name = plan.registry.model_name
        run_id = open_tracker(plan).child(FINAL, {}, {}).run_id
        tags = {"run_name": plan.run_name, "dataset_digest": dataset["digest"], "dataset_uri": dataset["uri"]}
        facts = register(plan.tracking_uri, name, checkpoint, report, run_id, tags)
        how = "registered as" if facts["new"] else "the same weights were registered before, as"
        progress.say(f"{how} {name} version {facts['version']}")
        return plan, facts

    perform("register", work, output)
