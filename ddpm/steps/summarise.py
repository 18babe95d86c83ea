"""The exit task: gathers what a run's steps left, and makes their page, whether it succeeded or not."""

from __future__ import annotations

import json
import sys

from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.places import fill_places
from ddpm.progress import EVENT_MARK
from ddpm.run import Run
from ddpm.run_page.render import PAGE, page_of
from ddpm.summary import Summary, gather
from ddpm.tracking import expect

UNSUCCESSFUL = ("FAILED", "CANCELED", "CANCELLED", "CANCELING")


def summarise(run_name: str, store: str, state: str, error: str = "") -> Summary:
    """Write the run's summary and its page, and close its run in MLflow.

    Raises Missing for an unknown run, Outage where MLflow is away: the summary and the page are written by then.

    Args:
        state: KFP's word for how the run ended. Success has several (SUCCEEDED; COMPLETE or RUNNING where the server
            asks its metadata store), so what counts is that the last step left its facts, and that none failed.
    """
    run = Run.named(run_name, store)
    expect(run.plan.tracking_uri)  # it answered when the run was configured
    succeeded = run.facts("promote") is not None and state not in UNSUCCESSFUL
    summary = gather(run, succeeded, error)
    before = run.facts("summary") or {}
    if runs_page := before.get("runs_page"):
        summary["runs_page"] = runs_page
    if {**before, "ended": summary["ended"]} == summary:  # done again: it ended when it ended
        summary["ended"] = before.get("ended", summary["ended"])
    _keep(run, summary)  # MLflow may be away, and what the steps have left is told all the same
    summary["runs_page"] = run.tracker.runs_page()
    page = _keep(run, summary)
    run.tracker.end_children("KILLED")  # nobody works on the run any more
    with run.tracker.parent() as tracked:
        tracked.file("summary.json", json.dumps(summary, indent=1).encode())
        tracked.file(PAGE, page)
        tracked.finish("FINISHED" if succeeded else "FAILED")
    return summary


def _keep(run: Run, summary: Summary) -> bytes:
    """Write the summary and the run's page, and return the page."""
    run.keep("summary", summary)
    page = page_of(run).encode()
    run.folder.write(PAGE, page)
    return page


def in_pipeline(run_name: str, store: str, state: str, error: str | None) -> None:
    try:
        summarise(run_name, fill_places({"store": store})["store"], state, error or "")
    except WrongInput as problem:
        # The run was refused before it had a plan: its own task has said why, and there is nothing to gather.
        tell(f"nothing to summarise: {problem}", sys.stdout)
    except Outage as problem:
        tell(EVENT_MARK + json.dumps({"error": str(problem), "status": 1, "step": "summarise"}), sys.stdout)
        sys.exit(1)
