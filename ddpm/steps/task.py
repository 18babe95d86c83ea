"""A step as a task of a pipeline: what it opens, how it says no, and where its facts go."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm.attempts import STOPPED
from ddpm.errors import Outage, Refused, WrongInput, status_of
from ddpm.extensions import load_extensions
from ddpm.failure import said
from ddpm.legible import tell
from ddpm.plan import Plan
from ddpm.progress import EVENT_MARK, Progress, open_progress
from ddpm.run import Run
from ddpm.run_page.close import close_run
from ddpm.steps import trainjob
from ddpm.steps.ranks import joined, processes, run_in_ranks
from ddpm.store.reading import parse_json, read_file
from ddpm.summary import STEPS
from ddpm.tracking import expect

if TYPE_CHECKING:
    from ddpm.training.world import World

Facts = Mapping[str, Any]
SECOND = "second"  # in the pointer to a run: whether its second set is meant
# What a clock says of a step: its seconds; those in which all its devices were at work; those of each device that waited.
TIMES = ("seconds", "at_work", "waited")


def task(
    step: str, numbered: str = "", follow: Callable[..., None] | None = None, copied: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Facts]], Task]:
    """Make `work(run, progress, *pointers, **more) -> facts` a pipeline's task.

    It is called with paths: `task(plan, *artifacts, output=…, **more)`. The work is given the run of the plan, or what
    its second set goes through (`pointer_to`), and what the other tasks wrote to the artifacts; its facts go to `output`,
    and into the run's folder.

    Args:
        numbered: of `more`, the one that tells apart several tasks of the same step.
        follow: `follow(run, *pointers, world=…)` is what the other ranks do, of a step that can work in several processes
            (`ddpm/steps/ranks.py`) and on several nodes (`ddpm/steps/trainjob`); its work is given the `world` too.
        copied: of `more`, the paths to which the task copies a file of the run's folder, by its name there, when the work
            is done: a node's own disk is not the task's. The work is not given them.
    """
    return lambda work: Task(step, numbered, work, follow, copied or {})


class Task:
    """A step as a task of the pipeline."""

    def __init__(
        self, step: str, numbered: str, work: Callable[..., Facts], follow: Callable[..., None] | None,
        copied: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._step, self._numbered, self._work, self._follow, self._copied = step, numbered, work, follow, copied

    def __call__(self, plan: str, *artifacts: str, output: str, **more: Any) -> None:
        def opened() -> tuple[Run, str]:
            facts = read_pointer(plan)
            return _expected(facts), facts.get("session", "")

        rest = {name: value for name, value in more.items() if name not in self._copied}

        def done(run: Run, progress: Progress, world: World | None = None, waited: float = 0.0) -> Facts:
            return copying(run, self._done(run, progress, map(read_pointer, artifacts), rest, world, waited))

        def copying(run: Run, facts: Facts) -> Facts:
            for name, key in self._copied.items():
                Path(more[name]).write_bytes(run.folder.read(key))
            return facts

        def in_job(nodes: trainjob.Nodes, run: Run, progress: Progress) -> Facts:
            given = [read_pointer(path) for path in artifacts]
            call = trainjob.call(self._work.__module__, _lasting(read_pointer(plan)), given, rest)
            return copying(run, trainjob.train_in_job(nodes, run, progress, call))

        key = f"{self._step}-{more[self._numbered]}" if self._numbered else self._step
        if self._follow is None:
            perform(self._step, opened, done, output, key)
        elif nodes := trainjob.told():
            perform(self._step, opened, partial(in_job, nodes), output, key)
        elif (count := processes()) > 1:
            if ended := run_in_ranks(count, self._work.__module__, (plan, *artifacts), {"output": output, **more}):
                sys.exit(ended)
        else:
            with joined() as (world, waited):
                if world.leads:
                    perform(self._step, opened, partial(done, world=world, waited=waited), output, key)
                else:
                    load_extensions()
                    self._follow(opened()[0], *map(read_pointer, artifacts), world=world)

    def in_rank(self, plan: Facts, artifacts: Sequence[Facts], more: Facts, outcome: str) -> None:
        """As one of the processes on several nodes: rank 0 leaves what comes of it in the run's folder, as `outcome`."""
        signal.signal(signal.SIGTERM, _stop)
        run = _expected(plan)

        def at_work() -> Facts:
            load_extensions()
            with joined() as (world, waited):
                if world.leads:
                    return self._done(run, open_progress(), artifacts, more, world, waited)
                assert self._follow is not None
                self._follow(run, *artifacts, world=world)
                return {}

        if os.environ.get("RANK", "0") == "0":
            trainjob.leave(run.folder, outcome, at_work)
        else:
            at_work()

    def _done(
        self, run: Run, progress: Progress, artifacts: Iterable[Facts], more: Facts, world: World | None, waited: float
    ) -> Facts:
        """The work's facts. Those of a step that can have several devices say for how long they worked, and waited."""
        expect(run.plan.tracking_uri)  # it answered when the run was configured
        if world is None:
            return self._work(run, progress, *artifacts, **more)
        began = time.monotonic()
        facts = self._work(run, progress, *artifacts, **more, world=world)
        idle = facts.get("waited", 0.0)  # within the work
        at_work = time.monotonic() - began - idle / world.size
        return {**facts, "at_work": round(at_work, 2), "waited": round(idle + waited, 2)}


def pointer_to(run: Run, session: str) -> Facts:
    """What a step's task is handed to know which run it works for, or which run's second set."""
    whole, which = (run.first, {SECOND: True}) if run.first else (run, {})
    return {"plan": json.loads(whole.plan.to_json()), "session": session, **which}


def _lasting(pointer: Facts) -> Facts:
    """What of it is the same in every session."""
    return {name: value for name, value in pointer.items() if name != "session"}


def _expected(pointer: Facts) -> Run:
    """The run that is pointed to."""
    run = Run(Plan.from_json(json.dumps(pointer["plan"])))
    run.folder.expect()  # it answered when the run was configured
    if not pointer.get(SECOND):
        return run
    assert run.second, "a second set is pointed to where there is one"
    return run.second


def perform(
    step: str, opened: Callable[[], tuple[Run, str]], work: Callable[[Run, Progress], Facts], output: str, key: str = ""
) -> None:
    """Do a step's work in a pipeline's task, keep its facts, with its seconds, under `key`, and write them to `output`.

    While it is at work, and where it fails, the run's folder says so (`ddpm.attempts`). WrongInput, Refused and Outage
    end the task with one line and exit status 2, 3 or 1; anything else is raised as it is.

    Args:
        opened: the run, and the session that the task belongs to.
    """
    progress, key = open_progress(), key or step
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)  # the end of a run: leave contexts as after Ctrl-C, so that MLflow knows
    attempt: _Attempt | None = None
    try:
        load_extensions()
        run, session = opened()
        attempt = _Attempt(run, session, run.key(key))
        facts = work(run, progress)
        facts = {**facts, "seconds": round(time.monotonic() - began, 2)}
        if before := run.facts(key):  # it was done already: what counts is how long that took
            facts = {name: value for name, value in facts.items() if name not in TIMES}
            facts |= {name: before[name] for name in TIMES if name in before}
        run.keep(key, {**facts, "session": session})
        attempt.succeeded()
        Path(output).write_text(json.dumps(facts, indent=1))
    except (WrongInput, Refused, Outage) as problem:
        status = status_of(problem)
        if attempt:
            attempt.failed(str(problem), status)
        tell(EVENT_MARK + json.dumps({"error": str(problem), "status": status, "step": step}), sys.stdout)
        sys.exit(status)
    except Exception as problem:
        if attempt:
            attempt.failed(said(problem), 1)
        raise
    except SystemExit:  # by `_stop`; there may be a second left, in which one line is written
        if attempt:
            attempt.stopped()
        raise


class _Attempt:
    """An attempt at a step, which closes the run where the exit task has been: it does not come a second time.

    So it is when a person, or `make resume`, asks a cluster to try a failed run again.
    """

    def __init__(self, run: Run, session: str, key: str) -> None:
        self._run, self._session, self._key = run, session, key
        self._kept = run.attempts(session).begin(key)

    def succeeded(self) -> None:
        self._kept.succeeded()
        if self._key == (self._run.second or self._run).key(STEPS[-1]):
            self._close()

    def failed(self, error: str, status: int) -> None:
        try:
            self._kept.failed(error, status)
            self._close()
        except (WrongInput, Outage) as problem:  # what was the matter is the other one
            tell(f"how it ended could not be kept: {problem}", sys.stdout)

    def stopped(self) -> None:
        with suppress(WrongInput, Outage):  # then it reads as killed, which is what it is
            self._kept.failed(STOPPED, 128 + signal.SIGTERM, self._run.hasty_folder)

    def _close(self) -> None:
        whole = self._run.first or self._run
        if self._session and (whole.facts("summary") or {}).get("session") == self._session:
            close_run(whole, self._session, over=False)


def read_pointer(path: str) -> dict[str, Any]:
    """The facts that another task wrote to an artifact."""
    right = "run the task again that writes it"
    return parse_json(read_file(Path(path), path, right), dict[str, Any], path, right)


def _stop(number: int, frame: Any) -> None:
    sys.exit(128 + number)
