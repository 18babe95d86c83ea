"""A step as a task of a pipeline: what it opens, how it says no, and where its facts go.

runs/RUN_NAME/plan.json      the settings, written once
runs/RUN_NAME/STEP.json      each step's facts, with its seconds
runs/RUN_NAME/summary.json   all of them, written by the exit task
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddpm.errors import Refused, WrongInput
from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK, Progress, open_progress
from ddpm.store import Missing, Store, open_store


def read_pointer(path: str) -> dict[str, Any]:
    """The facts that another task wrote to an artifact."""
    return json.loads(Path(path).read_text())


def write_pointer(path: str, facts: dict[str, Any]) -> None:
    Path(path).write_text(json.dumps(facts, indent=1))


def run_store(plan: Plan) -> Store:
    """The run's own folder of the object store."""
    return open_store(f"{plan.store.rstrip('/')}/runs/{plan.run_name}")


def read_facts(store: Store, step: str) -> dict[str, Any] | None:
    """The facts that a step left in the run's folder; None where it has not ended yet."""
    try:
        return json.loads(store.read(f"{step}.json"))
    except Missing:
        return None


def perform(step: str, work: Callable[[Progress], tuple[Plan, dict[str, Any]]], output: str, parts: str = "") -> None:
    """Run one step's work in a pipeline task, keep its facts with its seconds, and write them to the output artifact.

    WrongInput and Refused end the task with one line and exit status 2 or 3; anything else is raised as it is.
    """
    progress = open_progress()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)  # the end of a run: leave contexts as after Ctrl-C, so that MLflow knows
    try:
        plan, facts = work(progress)
        store = run_store(plan)
        before = read_facts(store, f"{step}{parts}")  # it was done already: what counts is how long that took
        facts = {**facts, "seconds": before["seconds"] if before else round(time.monotonic() - began, 2)}
        store.write(f"{step}{parts}.json", json.dumps(facts, indent=1).encode())
        write_pointer(output, facts)
    except (WrongInput, Refused) as problem:
        status = 2 if isinstance(problem, WrongInput) else 3
        print(EVENT_MARK + json.dumps({"error": str(problem), "status": status, "step": step}), flush=True)
        sys.exit(status)


def _stop(number: int, frame: Any) -> None:
    sys.exit(128 + number)


def load_plan(path: str) -> Plan:
    """The plan that the artifact at `path` points at."""
    pointer = read_pointer(path)
    return Plan.from_json(json.dumps(pointer["plan"]))
