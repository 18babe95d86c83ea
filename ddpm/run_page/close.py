"""A run's end: its summary, its page, and the end of its run in MLflow, by whoever is last to work on it."""

from __future__ import annotations

import json

from ddpm.attempts import Failure
from ddpm.cost import logged
from ddpm.run import Run
from ddpm.run_page.render import PAGE, page_of
from ddpm.summary import SECOND_STEPS, STEPS, Summary, gather
from ddpm.tracking import expect


def close_run(run: Run, session: str, over: bool, ended_well: bool = True, error: str = "") -> Summary:
    """Write the run's summary and its page, and close its run in MLflow. Done again, it ended when it ended.

    Raises Outage where MLflow is away: the summary and the page are written by then.

    It succeeded when the last step has left its facts in this session, for the second set too where there is one, and no
    attempt at another step is left that failed: earlier sessions of the same run may have left all of it.

    Args:
        session: the run of the pipeline, by its runner's id; empty: whichever left the facts.
        over: whether nobody else is at work any more.
        ended_well: False where the runner knows that it did not.
        error: the runner's words, where it has some.
    """
    failed = run.attempts(session).failures(over) if session else []
    left = _left(run.second or run, STEPS[-1], session)
    succeeded = ended_well and left and not failed
    if session and over and not succeeded and not failed:
        failed = _never_began(run, session)
    summary = gather(run, succeeded, error, failed, session, over)
    before = run.facts("summary") or {}
    if "mlflow_run" in before:
        summary["mlflow_run"] = before["mlflow_run"]
    if runs_page := before.get("runs_page"):
        summary["runs_page"] = runs_page
    if {**before, "ended": summary["ended"], "session": session} == {"session": session, **summary}:
        summary["ended"] = before.get("ended", summary["ended"])
    _keep(run, summary)  # MLflow may be away, and what the steps have left is told all the same
    expect(run.plan.tracking_uri)  # it answered when the run was configured
    summary["runs_page"], summary["mlflow_run"] = run.tracker.runs_page(), run.tracker.run_page()
    page = _keep(run, summary)
    if over:
        run.tracker.end_children("KILLED")  # nobody works on the run any more
    with run.tracker.parent() as tracked:
        tracked.file("summary.json", json.dumps(summary, indent=1).encode())
        tracked.file(PAGE, page)
        if words := summary.get("transfer", {}).get("harder"):
            tracked.tag("harder", words)
        taken = summary["cost"]["run"]
        if saved := summary["cost"]["saved"]:
            tracked.metrics({"pruning_saved_images": saved["images"], "pruning_saved_share": saved["share"]}, 0)
        tracked.metrics(logged(taken), round(taken["seconds"]))  # a run that is carried on takes more
        tracked.finish("FINISHED" if succeeded else "FAILED")
    return summary


def _keep(run: Run, summary: Summary) -> bytes:
    """Write the summary and the run's page, and return the page."""
    run.keep("summary", summary)
    page = page_of(run).encode()
    run.folder.write(PAGE, page)
    return page


def _left(run: Run, step: str, session: str) -> bool:
    """Whether a step has left its facts, in this session where one is named."""
    kept = run.workers() if step == "search" else [facts for facts in [run.facts(step)] if facts]
    return any(not session or facts.get("session") == session for facts in kept)


def _never_began(run: Run, session: str) -> list[Failure]:
    """The first step that left nothing at all, whose pod did not get as far as our program; none where all left something."""
    missing = [run.key(step) for step in STEPS if not _left(run, step, session)]
    if second := run.second:
        missing += [second.key(step) for step in SECOND_STEPS if not _left(second, step, session)]
    words = "it never began: its pod could not be started, or its driver failed; the runner's page of the run says why"
    return [Failure(step=step, attempt=0, at="", error=words, status=1) for step in missing[:1]]
