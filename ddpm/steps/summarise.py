"""The exit task: gathers what a run's steps left, and makes their page, whether it succeeded or not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ddpm.attempts import in_words
from ddpm.errors import Outage, WrongInput
from ddpm.legible import tell
from ddpm.places import fill_places
from ddpm.progress import EVENT_MARK
from ddpm.run import Run, attempts_of
from ddpm.run_page.close import close_run
from ddpm.steps.trainjob import end_left_over
from ddpm.summary import Summary, SummedTransfer
from ddpm.tracking import address

UNSUCCESSFUL = ("FAILED", "CANCELED", "CANCELLED", "CANCELING")


def summarise(run_name: str, store: str, state: str, error: str = "", session: str = "") -> Summary:
    """Write the run's summary and its page, and close its run in MLflow.

    Raises Missing for an unknown run, Outage where MLflow is away: the summary and the page are written by then.

    Args:
        state: KFP's word for how the run ended. Success has several (SUCCEEDED; COMPLETE or RUNNING where the server
            asks its metadata store, RUNNING after a kill too), so what counts is what the steps have left.
        session: KFP's id of the run; empty: whatever the run of this name has left.
    """
    return close_run(Run.named(run_name, store), session, True, state not in UNSUCCESSFUL, error)


def words_for(summary: Summary, tracking_uri: str = "") -> list[str]:
    """The summary in a few lines of Markdown, for the runner's own page of the run; with a link into MLflow's pages."""
    lines = [f"**{summary['run_name']}: {summary['state']}**, {summary['ended']}"]
    lines += [f"- {in_words(failure)}" for failure in summary.get("failed", [])]
    second = summary.get("transfer", SummedTransfer())
    for model in filter(None, (summary.get("model"), second.get("model"))):
        aliases = ", ".join(model["aliases"]) or "no alias"
        lines.append(f"- {model['name']} version {model['version']} ({aliases}) {model['decision']}".rstrip())
    if harder := second.get("harder"):
        lines.append(f"- {harder}")
    if (page := summary.get("mlflow_run")) and (link := address(tracking_uri, page)):
        lines.append(f"- [the run in MLflow]({link})")
    return lines


def in_pipeline(run_name: str, store: str, state: str, error: str | None, session: str, note: str) -> None:
    """As the pipeline's exit task. What it says stands in its log, and in the Markdown file `note`."""
    try:
        lines = _lines(run_name, fill_places({"store": store})["store"], state, error or "", session)
    except WrongInput as problem:  # there is no such place or name: its own task has said so
        lines = [f"nothing to summarise: {problem}"]
    except Outage as problem:
        tell(EVENT_MARK + json.dumps({"error": str(problem), "status": 1, "step": "summarise"}), sys.stdout)
        sys.exit(1)
    for line in lines:
        tell(line, sys.stdout)
    Path(note).write_text("\n\n".join(lines) + "\n")


def _lines(run_name: str, store: str, state: str, error: str, session: str) -> list[str]:
    attempts = attempts_of(store, run_name, session)
    if session and attempts.was_refused():
        # The run was refused before it was opened. What there is of that name is another's, and stays as it is.
        return [f"**{run_name}: refused**", *(f"- {in_words(failure)}" for failure in attempts.failures())]
    try:
        run = Run.named(run_name, store)
        ended = [end_left_over(one) for one in (run, run.second) if one]
        summary = summarise(run_name, store, state, error, session)
        return [*words_for(summary, run.plan.tracking_uri), *filter(None, ended)]
    except WrongInput as problem:  # it failed before it had a plan
        failures = attempts.failures() if session else []
        return [f"nothing to summarise: {problem}", *(f"- {in_words(failure)}" for failure in failures)]
