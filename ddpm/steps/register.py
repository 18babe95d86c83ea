"""A checkpoint and its report as a version in MLflow's registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ddpm.data.ingest import DatasetFacts
from ddpm.evaluation.report import Report
from ddpm.progress import Progress
from ddpm.registry.version import Registered, register, told
from ddpm.run import Run
from ddpm.search.choice import Choice, guide_of
from ddpm.steps.task import task
from ddpm.training.ledger import Trained

__all__ = ["in_pipeline", "register"]


@task("register")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, trained: Trained, report: Report) -> Registered:
    name = run.plan.registry.model_name
    tags = {"run_name": run.name, "dataset_digest": dataset["digest"], "dataset_uri": dataset["uri"], "study": run.name}
    tags |= run.tracker.pipeline()
    if (trial := cast(Mapping[str, Any], trained).get("best")) is not None:
        tags["trial"] = str(trial)
    run_id = run.tracker.child(run.training, {}, {}).run_id
    guide = guide_of(run, cast(Choice, trained))
    facts = register(run.plan.tracking_uri, name, trained["checkpoint"], report, run_id, tags, guide)
    with run.tracker.parent() as parent:
        parent.tag("model_version", f"models:/{name}/{facts['version']}")
    progress.say(told(facts))
    return facts
