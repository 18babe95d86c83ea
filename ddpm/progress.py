"""What a person watching sees: bars on a terminal, a line now and then elsewhere.

Steps report to a `Progress`; where it goes is decided once, by `open_progress`. Inside a pipeline task the reports
travel as marked lines on standard output, from which `pipelines/local.py` draws all tasks together.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Protocol

from ddpm.credentials import masked
from ddpm.legible import legible, tell

EVENT_MARK = "@ddpm "  # begins a line that is an event, in the output of a pipeline task
SECONDS_BETWEEN = {"events": 0.5, "lines": 10.0, "bars": 0.1}


class Progress(Protocol):
    """Where steps report. `task` names what is under way; the same name again updates it."""

    def update(self, task: str, done: float, total: float, note: str = "") -> None:
        """`done` of `total` is reached; may be called often, at no cost to speak of. done >= total ends the task."""

    def drop(self, task: str) -> None:
        """The task is no longer under way, and there is nothing to say of it; nothing for one that is not known."""

    def say(self, text: str) -> None:
        """A line worth keeping."""


class Quiet:
    """Reports nowhere."""

    def update(self, task: str, done: float, total: float, note: str = "") -> None: ...

    def drop(self, task: str) -> None: ...

    def say(self, text: str) -> None: ...


class Within:
    """Reports to another, each task under a title that says whose it is: of two workers each has its own bar."""

    def __init__(self, progress: Progress, whose: str) -> None:
        self._progress, self._whose = progress, whose

    def update(self, task: str, done: float, total: float, note: str = "") -> None:
        self._progress.update(f"{self._whose} · {task}", done, total, note)

    def drop(self, task: str) -> None:
        self._progress.drop(f"{self._whose} · {task}")

    def say(self, text: str) -> None:
        self._progress.say(text)


class Lines:
    """A line now and then, on standard error."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def update(self, task: str, done: float, total: float, note: str = "") -> None:
        now = time.monotonic()
        if done >= total:
            self._last[task] = now
        elif now - self._last.setdefault(task, now) < SECONDS_BETWEEN["lines"]:
            return
        else:
            self._last[task] = now
        self.say(f"{task}  {math.floor(100 * done / max(total, 1e-9)):3d}%  {note}".rstrip())

    def drop(self, task: str) -> None:
        self._last.pop(task, None)

    def say(self, text: str) -> None:
        tell(text)


class Bars:
    """Bars on a terminal, drawn by rich on standard error. A task that begins anew has a new bar, with a clock of its own."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column
        from rich.text import Text

        def text(format: str, style: str, share: int | None = None) -> TextColumn:
            column = Column(ratio=share, no_wrap=True, overflow="ellipsis")
            return TextColumn(format, style=style, markup=False, table_column=column)

        class Remaining(TimeRemainingColumn):
            """Rich's own estimate, unless the note has one."""

            def render(self, task: Task) -> Text:
                return Text() if task.fields["note"].endswith(" left") else super().render(task)

        self._bars = RichProgress(
            SpinnerColumn(),
            text("{task.description}", "none"),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:3.0f}%"),
            Remaining(compact=True),
            text("{task.fields[note]}", "dim", share=1),
            console=Console(stderr=True),
            expand=True,
        )
        self._tasks: dict[str, int] = {}
        self._done: dict[str, float] = {}
        self._bars.start()

    def update(self, task: str, done: float, total: float, note: str = "") -> None:
        task, note = legible(task), legible(note)
        if done < self._done.get(task, 0.0):
            self.drop(task)
        if task not in self._tasks:  # what is behind it already, of a run that carries on, says nothing of its speed
            self._tasks[task] = self._bars.add_task(task, total=total, completed=done, note=note)  # type: ignore[arg-type]
        self._done[task] = done
        self._bars.update(self._tasks[task], completed=done, total=total, note=note)  # type: ignore[arg-type]
        if done >= total:
            self.drop(task)
            self.say(f"✓ {task}  {note}".rstrip())

    def drop(self, task: str) -> None:
        task = legible(task)
        self._done.pop(task, None)
        if task in self._tasks:
            self._bars.remove_task(self._tasks.pop(task))  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        self._bars.console.print(legible(masked(text)), markup=False, emoji=False, highlight=False)

    def close(self) -> None:
        self._bars.stop()


class Events:
    """Marked lines of JSON on standard output, for the program that runs this one."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def update(self, task: str, done: float, total: float, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self._last.get(task, 0.0) < SECONDS_BETWEEN["events"]:
            return
        self._last[task] = now
        self._send(task=task, done=done, total=total, note=note)

    def drop(self, task: str) -> None:
        self._last.pop(task, None)
        self._send(drop=task)

    def say(self, text: str) -> None:
        self._send(say=masked(text))

    def _send(self, **event: object) -> None:
        # One write: lines of two tasks must not be cut into each other.
        sys.stdout.write(EVENT_MARK + json.dumps(event) + "\n")
        sys.stdout.flush()


def announce(text: str) -> None:
    """A line to the person who runs this, of what was handed no `Progress`: a task's event, or on standard error."""
    (Events() if os.environ.get("DDPM_PROGRESS") == "events" else Lines()).say(text)


def open_progress() -> Progress:
    """Events under a pipeline's local runner, bars on a terminal, lines elsewhere."""
    if os.environ.get("DDPM_PROGRESS") == "events":
        return Events()
    return Bars() if sys.stderr.isatty() else Lines()
