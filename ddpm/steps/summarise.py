"""The exit task: gathers what a run's steps left, whether it succeeded or not."""

from __future__ import annotations

import json

from ddpm.errors import WrongInput
from ddpm.places import fill_places
from ddpm.run import Run
from ddpm.summary import Summary, gather

UNSUCCESSFUL = ("FAILED", "CANCELED", "CANCELLED", "CANCELING")


def summarise(run_name: str, store: str, state: str, error: str = "") -> Summary:
    """Write the run's summary, and close its run in MLflow. Raises Missing for an unknown run.

    Args:
        state: KFP's word for how the run ended. Success has several (SUCCEEDED; COMPLETE or RUNNING where the server
            asks its metadata store), so what counts is that the last step left its facts, and that none failed.
    """
    run = Run.named(run_name, store)
    succeeded = run.facts("promote") is not None and state not in UNSUCCESSFUL
    summary = gather(run, succeeded, error)
    summary["runs_page"] = run.tracker.runs_page()
    run.keep("summary", summary)
    run.tracker.end_children("KILLED")  # nobody works on the run any more
    with run.tracker.parent() as tracked:
        tracked.file("summary.json", json.dumps(summary, indent=1).encode())
        tracked.finish("FINISHED" if succeeded else "FAILED")
    return summary


def in_pipeline(run_name: str, store: str, state: str, error: str | None) -> None:
    try:
        summarise(run_name, fill_places({"store": store})["store"], state, error or "")
    except WrongInput as problem:
        # The run was refused before it had a plan: its own task has said why, and there is nothing to gather.
        print(f"nothing to summarise: {problem}", flush=True)
