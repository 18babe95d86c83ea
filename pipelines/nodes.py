"""A run's own steps, read out of what a Kubeflow Pipelines server says of it, which is Argo's nodes.

The server lists all nodes of the workflow by the last part of their names: `executor(0)` stands there once for every
step, `iteration-iterations(0:0)` for the search's first worker, and each wrapper beside what it wraps. Whose child a
node is, is said by ids alone; those are `WORKFLOW-FNV32(name)`, so that the whole names follow from the root's. Of what
has no children the id is not told: which of several equally named attempts is meant is told by when it began.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddpm.attempts import SECOND
from ddpm.summary import ALL_STEPS, SECOND_STEPS

ORDER = (*ALL_STEPS, "summarise")
AGAIN = {f"{step}-2": f"{SECOND}{step}" for step in SECOND_STEPS}  # as KFP calls a second task of the same component
MOST_ATTEMPTS = 50
_WORKER = re.compile(r"\((\d+):[^)]*\)")
_NUMBERED = re.compile(r"\(\d+\)$")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a step."""

    number: int  # from 1
    state: str  # KFP's word
    seconds: float | None = None  # how long it took, once it is over


@dataclass(frozen=True)
class Step:
    """One task of ours that has begun."""

    key: str  # as its facts are kept: search-0 is the search's worker 0
    title: str
    state: str
    attempts: list[Attempt] = field(default_factory=list)


def steps_of(run: Any, workers: Sequence[int]) -> list[Step]:
    """The steps of a run (as the client has it) that have begun, in the pipeline's order.

    Args:
        workers: the numbers of the search's workers, in the order in which the pipeline was given them.
    """
    tasks = (run.run_details.task_details if run.run_details else None) or []
    tree = _Tree(tasks)
    found: dict[tuple[int, int], Step] = {}
    for name in tree.names:
        task = name.rpartition(".")[2]
        step = AGAIN.get(task, task)
        record = tree.record(name) if step in ORDER else None
        if record is None or not record.state:
            continue
        second = step.startswith(SECOND)
        title, key, place = step.removeprefix(SECOND).capitalize() + ", second set" * second, step, 0
        if loop := _WORKER.search(name):
            place = int(loop[1])
            worker = workers[place] if place < len(workers) else place
            title, key = f"{title}, worker {worker}", f"{step}-{worker}"
        found[ORDER.index(step), place] = Step(key, title, record.state, list(tree.attempts(name)))
    return [found[place] for place in sorted(found)]


class _Tree:
    """A workflow's nodes by their whole names."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._children = [(task, {child.pod_name for child in task.child_tasks or []}) for task in tasks]
        self._ids = set().union(*(ids for _, ids in self._children)) if tasks else set()
        self._workflow = next(iter(self._ids), "").rpartition("-")[0]
        shown = {_NUMBERED.sub("", task.display_name or "") for task in tasks}
        self._loops = sorted(name for name in shown if _WORKER.search(name))
        self._parts = sorted(shown - {*self._loops, self._workflow, ""})
        self.names: list[str] = []
        self._below: dict[str, list[str]] = {}  # the ids of a name's direct children
        self._walk()

    def _walk(self) -> None:
        waiting = [(self._workflow, _hash(self._workflow))] if self._workflow else []
        while waiting:
            name, state = waiting.pop()
            self.names.append(name)
            below = self._below[name] = []
            for part in self._possible(name):
                further = _hash(part, state)
                if f"{self._workflow}-{further}" in self._ids:
                    below.append(f"{self._workflow}-{further}")
                    waiting.append((name + part, further))

    def _possible(self, name: str) -> Iterator[str]:
        yield from (f"({number})" for number in range(MOST_ATTEMPTS if name.endswith(".executor") else 5))
        last = name.rpartition(".")[2]
        yield from (f".{part}" for part in (*self._parts, *(self._loops if last.startswith("for-loop") else ())))

    def record(self, name: str) -> Any:
        """What the server says of a node that has children; None where it cannot be told."""
        last, below = name.rpartition(".")[2], set(self._below.get(name, ()))
        return next((task for task, ids in self._children if task.display_name == last and ids & below), None)

    def attempts(self, step: str) -> Iterator[Attempt]:
        """The attempts at a step, whose wrappers may have been tried again themselves."""
        number = 0
        pattern = re.compile(re.escape(step) + r"(\(\d+\))?\.executor$")
        for name in sorted(name for name in self.names if pattern.match(name)):
            whole = self.record(name)
            several = len(self._below[name]) if whole else 0
            for place in range(several):
                number += 1
                is_last = place + 1 == several
                yield self._attempt(whole, place, number, is_last)

    def _attempt(self, whole: Any, place: int, number: int, is_last: bool) -> Attempt:
        shown = [task for task, _ in self._children if task.display_name == f"executor({place})" and task.start_time]
        if place == 0:
            mine = [task for task in shown if task.start_time == whole.start_time]
        else:
            mine = [task for task in shown if task.start_time > whole.start_time and _within(task, whole)]
        state = "FAILED" if not is_last else str(whole.state or "RUNNING")
        states = {task.state for task in mine}
        if len(states) == 1:
            state = states.pop() or state
        taken = {(task.end_time - task.start_time).total_seconds() for task in mine if task.end_time}
        seconds = taken.pop() if len(taken) == 1 and state in ("FAILED", "SUCCEEDED") else None
        return Attempt(number, state, seconds if seconds is None or seconds >= 0 else None)


def _within(task: Any, whole: Any) -> bool:
    """Whether a node lay within another's time. One that goes on ends in the year 1."""
    if whole.end_time is None or whole.end_time < whole.start_time:
        return True
    return bool(task.end_time is not None and task.start_time <= task.end_time <= whole.end_time)


def _hash(text: str, state: int = 0x811C9DC5) -> int:
    """32-bit FNV-1a, going on from the state of what stands before the text."""
    for byte in text.encode():
        state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return state
