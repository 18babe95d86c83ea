"""A step as a task of a pipeline: what it opens, how it says no, and where its facts go."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.extensions import load_extensions
from ddpm.legible import tell
from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK, Progress, open_progress
from ddpm.run import Run
from ddpm.store.reading import parse_json, read_file
from ddpm.tracking import expect

Facts = Mapping[str, Any]


def task(step: str, numbered: str = "") -> Callable[[Callable[..., Facts]], Callable[..., None]]:
    """Make `work(run, progress, *pointers, **more) -> facts` a pipeline's task.

    It is called with paths: `task(plan, *artifacts, output=…, **more)`. The work is given the run of the plan and what
    the other tasks wrote to the artifacts; its facts go to `output`, and into the run's folder.

    Args:
        numbered: of `more`, the one that tells apart several tasks of the same step.
    """

    def made(work: Callable[..., Facts]) -> Callable[..., None]:
        def called(plan: str, *artifacts: str, output: str, **more: Any) -> None:
            def opened(progress: Progress) -> tuple[Run, Facts]:
                run = Run(Plan.from_json(json.dumps(read_pointer(plan)["plan"])))
                run.folder.expect()  # it answered when the run was configured
                expect(run.plan.tracking_uri)  # and so did this
                return run, work(run, progress, *map(read_pointer, artifacts), **more)

            perform(step, opened, output, f"{step}-{more[numbered]}" if numbered else step)

        return called

    return made


def perform(step: str, work: Callable[[Progress], tuple[Run, Facts]], output: str, key: str = "") -> None:
    """Do a step's work in a pipeline's task, keep its facts, with its seconds, under `key`, and write them to `output`.

    WrongInput, Refused and Outage end the task with one line and exit status 2, 3 or 1; anything else is raised as it
    is.
    """
    progress = open_progress()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)  # the end of a run: leave contexts as after Ctrl-C, so that MLflow knows
    try:
        load_extensions()
        run, facts = work(progress)
        before = run.facts(key or step)  # it was done already: what counts is how long that took
        facts = {**facts, "seconds": before["seconds"] if before else round(time.monotonic() - began, 2)}
        run.keep(key or step, facts)
        Path(output).write_text(json.dumps(facts, indent=1))
    except (WrongInput, Refused, Outage) as problem:
        status = 2 if isinstance(problem, WrongInput) else 3 if isinstance(problem, Refused) else 1
        tell(EVENT_MARK + json.dumps({"error": str(problem), "status": status, "step": step}), sys.stdout)
        sys.exit(status)


def read_pointer(path: str) -> dict[str, Any]:
    """The facts that another task wrote to an artifact."""
    right = "run the task again that writes it"
    return parse_json(read_file(Path(path), path, right), dict[str, Any], path, right)


def _stop(number: int, frame: Any) -> None:
    sys.exit(128 + number)
