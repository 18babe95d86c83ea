"""What comes through from the runner: events for the person who watches, all else for the log."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ddpm.legible import legible
from ddpm.progress import EVENT_MARK, Progress
from pipelines.estimate import Estimate
from pipelines.log import Log


@dataclass
class Failure:
    """Why a step failed, in its own words."""

    step: str
    words: str
    status: int


@dataclass
class Watched:
    """What came through from the runner so far."""

    failures: list[Failure] = field(default_factory=list)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=8))


def watch(lines: Iterable[str], progress: Progress, log: Log, estimate: Estimate) -> Watched:
    """Show the runner's events, and keep all else in the log, until it ends."""
    seen, shown = Watched(), Shown(progress)
    for line in lines:
        if not line.startswith(EVENT_MARK):
            if kept := log.write(line):
                seen.last_lines.append(kept)
            continue
        event: dict[str, Any] = json.loads(line[len(EVENT_MARK) :])
        if "task" not in event and "drop" not in event:
            _tell(event, seen, progress, log)
        shown.hear(event)
        estimate.hear(event, progress)
    estimate.end(progress)
    return seen


class Shown:
    """What of each step is under way: its tasks or, between them, the step itself. What it leaves goes with it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._under_way: dict[str, set[str]] = {}  # tasks by step

    def hear(self, event: dict[str, Any]) -> None:
        step, task = event.get("step", ""), event.get("task") or event.get("drop")
        if event.get("state") in ("done", "failed"):
            for left in {step, *self._under_way.pop(step, ())}:
                self._progress.drop(left)
            return
        if event.get("state") == "started":
            self._under_way[step] = set()
        tasks = self._under_way.setdefault(step, set())
        if task and "task" in event:
            self._progress.drop(step)
            self._progress.update(task, event["done"], event["total"], event.get("note", ""))
            tasks.add(task)
        elif task:
            self._progress.drop(task)
        if task and ("drop" in event or event["done"] >= event["total"]):
            tasks.discard(task)
        if not tasks:
            self._progress.update(step, 0, 1, "under way")


def _tell(event: dict[str, Any], seen: Watched, progress: Progress, log: Log) -> None:
    text = words_for(event)
    log.write(f"--- {legible(text)}")
    if "error" in event:
        seen.failures.append(Failure(event["step"], event["error"], event["status"]))
    if event.get("state") != "failed":  # its error has been shown
        progress.say(text)


def words_for(event: dict[str, Any]) -> str:
    """An event of a step as a line."""
    if "error" in event:
        return f"✗ {event['step']}: {event['error']}"
    if "say" in event:
        return f"  {event['say']}"
    return {
        "started": f"▸ {event['step']}",
        "done": f"✓ {event['step']}  {event.get('seconds', 0):.1f} s",
        "failed": f"✗ {event['step']} failed",
    }[event["state"]]
