"""One queue, and one thread that draws from it: pictures of different callers share a batch of a fixed shape.

A picture's bytes are its seed's whatever shares its batch (see `Model.draw_batches`), so who waits beside whom is a matter
of speed alone. A batch holds pictures of one version, drawn in one way; callers take turns in it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

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
    def kind(self) -> tuple[int, DrawSettings]:
        """Jobs of one kind may share a batch."""
        return id(self.version), self.drawing

    @property
    def waiting(self) -> int:
        return len(self.seeds) - self.begun

    def seconds(self, pictures: int) -> float:
        """What so many pictures of its kind should take."""
        return self.version.seconds(pictures) * self.version.model.evaluations(self.drawing)


Place = tuple[Job, int]  # a job, and which of its pictures


class Queue:
    """Jobs that wait, and the thread that draws them. `drew(version, pictures, shape, seconds)` hears of each batch."""

    def __init__(
        self, most_waiting: int, most_seconds: float, drew: Callable[[Any, int, int, float], None] = lambda *_: None
    ) -> None:
        self.most_waiting, self.most_seconds, self._drew = most_waiting, most_seconds, drew
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._ends = 0.0  # when the batch under way should, by time.monotonic
        self._thread = threading.Thread(target=self._work, name="drawing", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        with self._changed:
            return sum(job.waiting for job in self._jobs)

    def put(self, *jobs: Job) -> None:
        """Let the jobs of a request wait for their turn, all or none. Raises Full where too many pictures wait, or the
        wait would be too long."""
        with self._changed:
            waiting = sum(job.waiting for job in (*self._jobs, *jobs))
            under_way = max(0.0, self._ends - time.monotonic())
            whole = under_way + self._takes([*self._jobs, *jobs])
            if self._jobs and (waiting > self.most_waiting or whole > self.most_seconds):
                raise Full(under_way + self._takes(self._jobs))
            self._jobs.extend(jobs)
            self._changed.notify()

    def _takes(self, jobs: Sequence[Job]) -> float:
        """Seconds to draw all of them: those of one kind share batches."""
        kinds: dict[Any, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job.kind, []).append(job)
        return sum(alike[0].seconds(sum(job.waiting for job in alike)) for alike in kinds.values())

    def leave(self, job: Job) -> None:
        """A caller leaves: what it waited for is not drawn, or, in a batch that has begun, not waited for."""
        with self._changed:
            job.left = True
            if job in self._jobs:
                self._jobs.remove(job)

    def close(self) -> None:
        """Draw what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while places := self._next():
            try:
                self._draw(places)
            except Abandoned:
                continue
            except Exception as problem:  # of this batch alone: its callers hear of it, and the next is drawn
                self._fail({job for job, _ in places}, problem)

    def _next(self) -> list[Place]:
        """The places of the next batch; none when the queue is closed and empty. Callers of the kind whose turn it is
        take one place each, again and again, and those that still wait go behind the others."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            first = self._jobs[0]
            room = first.version.shapes[-1]
            places: list[Place] = []
            sharing = [job for job in self._jobs if job.kind == first.kind]
            while sharing and len(places) < room:
                job = sharing.pop(0)
                places.append((job, job.begun))
                job.begun += 1
                if job.waiting:
                    sharing.append(job)
            others = [job for job in self._jobs if job.kind != first.kind]
            self._jobs = others + sharing
            return places

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
