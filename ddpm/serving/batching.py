"""One queue, and one thread that draws from it: pictures of different callers share a batch of a fixed shape.

A picture's bytes are its seed's whatever shares its batch (see `Model.draw_batches`), so who waits beside whom is a matter
of speed alone. A batch holds pictures of one version, drawn in one way; callers take turns in it.
"""

from __future__ import annotations

import bisect
import copy
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from ddpm.device import keep_threads
from ddpm.model.model import Model
from ddpm.model.sampling import Between
from ddpm.model.strips import Appearing
from ddpm.settings import DrawSettings


class Drawable(Protocol):
    """A version as the queue sees it."""

    @property
    def model(self) -> Model: ...

    @property
    def shapes(self) -> Sequence[int]: ...

    def seconds(self, pictures: int) -> float: ...


class Full(Exception):
    """The queue holds as much as it may. `again`: in how many seconds there should be room."""

    def __init__(self, again: float) -> None:
        super().__init__()
        self.again = again


class TooLong(Exception):
    """A request would take longer than one may, with nobody else waiting: so many `seconds`. `steps`: so many would do;
    0: none would, with so many pictures."""

    def __init__(self, seconds: float, steps: int) -> None:
        super().__init__()
        self.seconds, self.steps = seconds, steps


class Abandoned(Exception):
    """Everybody who waited for this batch has left."""


@dataclass(eq=False)
class Job:
    """What one request wants: pictures of one version, drawn in one way, and of each, where `frames`, how it appears."""

    version: Drawable
    drawing: DrawSettings
    seeds: Sequence[int | Between]
    labels: Sequence[int | None]
    frames: int = 0
    done: Future[list[Tensor]] = field(default_factory=Future)  # of each [3,h,w], or [frames,3,h,w]
    begun: int = 0  # so many of its pictures have had a place in a batch
    left: bool = False  # its caller has

    def __post_init__(self) -> None:
        self.drawn: list[Tensor | None] = [None] * len(self.seeds)
        self.done.set_running_or_notify_cancel()

    @property
    def kind(self) -> Kind:
        """Jobs of one kind may share a batch."""
        return id(self.version), self.drawing

    @property
    def waiting(self) -> int:
        return len(self.seeds) - self.begun

    def seconds(self, pictures: int, steps: int = 0) -> float:
        """What so many pictures of its kind should take; in so many steps, where they are said."""
        drawing = replace(self.drawing, sampling_steps=steps) if steps else self.drawing
        return self.version.seconds(pictures) * self.version.model.evaluations(drawing)


Kind = tuple[int, DrawSettings]
Turns = dict[Kind, list[Job]]  # who waits, by kind; the first kind's turn is next
Place = tuple[Job, int]  # a job, and which of its pictures


def _join(turns: Turns, jobs: Sequence[Job]) -> Turns:
    for job in jobs:
        turns.setdefault(job.kind, []).append(job)
    return turns


def _take(turns: Turns) -> list[Place]:
    """The places of the next batch. Callers of the kind whose turn it is take one place each, again and again, and those
    that still wait go behind the others."""
    kind = next(iter(turns))
    sharing, places = turns.pop(kind), list[Place]()
    room = sharing[0].version.shapes[-1]
    while sharing and len(places) < room:
        job = sharing.pop(0)
        places.append((job, job.begun))
        job.begun += 1
        if job.waiting:
            sharing.append(job)
    if sharing:
        turns[kind] = sharing
    return places


def _takes(turns: Turns, steps: int = 0) -> float:
    """Seconds to draw all of them: those of one kind share batches."""
    return sum(alike[0].seconds(sum(job.waiting for job in alike), steps) for alike in turns.values())


class Queue:
    """Jobs that wait, and the thread that draws them. `drew(version, pictures, shape, seconds)` hears of each batch."""

    def __init__(
        self, most_waiting: int, most_seconds: float, drew: Callable[[Any, int, int, float], None] = lambda *_: None
    ) -> None:
        self.most_waiting, self.most_seconds, self._drew = most_waiting, most_seconds, drew
        self._turns: Turns = {}
        self._changed = threading.Condition()
        self._closed = False
        self._ends = 0.0  # when the batch under way should, by time.monotonic; 0: there is none
        self._thread = threading.Thread(target=self._work, name="drawing", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        with self._changed:
            return self._waiting()

    def _waiting(self) -> int:
        return sum(job.waiting for alike in self._turns.values() for job in alike)

    def put(self, *jobs: Job) -> None:
        """Let the jobs of a request wait for their turn, all or none. Raises TooLong where they would take too long by
        themselves, and Full where too many pictures wait, or the turns of others would leave them too little time."""
        alone = _takes(_join({}, jobs))
        if alone > self.most_seconds:
            raise TooLong(alone, self._steps_that_would_do(jobs))
        with self._changed:
            many = self._turns and self._waiting() + sum(job.waiting for job in jobs) > self.most_waiting
            under_way = max(0.0, self._ends - time.monotonic())
            if many or under_way + self._wait(jobs) > self.most_seconds:
                raise Full(min(self.most_seconds, under_way + _takes(self._turns)))
            _join(self._turns, jobs)
            self._changed.notify()

    def _wait(self, jobs: Sequence[Job]) -> float:
        """In how many seconds the last of these would be drawn, by the turns as they would be taken; no more than tell
        that it is too long."""
        mine = [copy.copy(job) for job in jobs]
        turns = _join({kind: [copy.copy(job) for job in alike] for kind, alike in self._turns.items()}, mine)
        seconds = 0.0
        while seconds <= self.most_seconds and any(job.waiting for job in mine):
            places = _take(turns)
            seconds += places[0][0].seconds(len(places))
        return seconds

    def _steps_that_would_do(self, jobs: Sequence[Job]) -> int:
        turns = _join({}, jobs)
        steps = range(1, max(job.drawing.sampling_steps for job in jobs))
        return bisect.bisect_right(steps, self.most_seconds, key=lambda few: _takes(turns, few))

    def leave(self, job: Job) -> None:
        """A caller leaves: what it waited for is not drawn, or, in a batch that has begun, not waited for."""
        with self._changed:
            job.left = True
            alike = self._turns.get(job.kind, [])
            if job in alike:
                alike.remove(job)
                if not alike:
                    del self._turns[job.kind]

    def close(self) -> None:
        """Draw what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        keep_threads()
        while places := self._next():
            try:
                self._draw(places)
            except Abandoned:
                continue
            except Exception as problem:  # of this batch alone: its callers hear of it, and the next is drawn
                self._fail({job for job, _ in places}, problem)
            finally:
                self._ends = 0.0

    def _next(self) -> list[Place]:
        """The places of the next batch; none when the queue is closed and empty."""
        with self._changed:
            while not self._turns:
                if self._closed:
                    return []
                self._changed.wait()
            return _take(self._turns)

    def _draw(self, places: list[Place]) -> None:
        version, drawing = places[0][0].version, places[0][0].drawing
        shape = next(shape for shape in version.shapes if shape >= len(places))
        began = time.perf_counter()
        appearing = Appearing(
            drawing.sampling_steps, {row: job.frames for row, (job, _) in enumerate(places) if job.frames}
        )

        def watch(x: Tensor, sigma: Tensor) -> None:
            if all(job.left for job, _ in places):
                raise Abandoned
            appearing.watch(x, sigma)

        self._ends = time.monotonic() + places[0][0].seconds(len(places))
        [images] = version.model.draw_batches(
            [job.seeds[number] for job, number in places], replace(drawing, sample_batch=shape),
            [job.labels[number] for job, number in places], watch,
        )  # fmt: skip
        self._drew(version, len(places), shape, time.perf_counter() - began)
        for row, (job, number) in enumerate(places):
            job.drawn[number] = appearing.of(row, images[row]) if job.frames else images[row]
            finished = [picture for picture in job.drawn if picture is not None]
            if len(finished) == len(job.drawn) and not job.done.done():
                job.done.set_result(finished)

    def _fail(self, jobs: set[Job], problem: Exception) -> None:
        for job in jobs:
            self.leave(job)
            if not job.done.done():
                job.done.set_exception(problem)
