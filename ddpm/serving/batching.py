"""One queue, and one thread that draws from it: pictures of different callers share a batch of a fixed shape.

A picture's bytes are its seed's whatever shares its batch (see `Model.draw_batches`), so who waits beside whom is a matter
of speed alone. A picture joins the batch under way as soon as it has room, at any step, in whatever way the others are
drawn; a batch holds pictures of one version, and callers take turns in its places.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ddpm.device import keep_threads, threads_for
from ddpm.model.strips import Appearing
from ddpm.serving.jobs import Drawable, Job, Place, Turns, join, next_place, seconds
from ddpm.serving.joining import Drawing, Kind, Through, answers
from ddpm.settings import DrawSettings

log = logging.getLogger("ddpm.serving")

KINDS = 16  # of questions that are remembered: more than are asked at once


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
    """Everybody who waited for these pictures has left."""


class Company:
    """Pictures that were begun at one time, in one way: they go through their sampler together."""

    def __init__(self, places: list[Place]) -> None:
        self.places, self.version, self.drawing = places, places[0][0].version, places[0][0].drawing
        self.pictures: list[Tensor] = []  # when they are drawn: each [3,h,w], or, of how it appeared, [frames,3,h,w]
        self.under_way = Drawing(len(places), self._draw)

    @property
    def left(self) -> int:
        """Evaluations that it still needs: one at least, until it has ended."""
        return max(1, self.places[0][0].evaluations - max(0, self.under_way.asked - 1))

    @property
    def asks_two(self) -> bool:
        return self.places[0][0].asks_two

    def _draw(self, through: Through) -> None:
        appearing = Appearing(
            self.drawing.sampling_steps, {row: job.frames for row, (job, _) in enumerate(self.places) if job.frames}
        )

        def watch(x: Tensor, sigma: Tensor) -> None:
            if all(job.left for job, _ in self.places):
                raise Abandoned
            appearing.watch(x, sigma)

        [images] = self.version.model.asked_through(through).draw_batches(
            [job.seeds[number] for job, number in self.places], replace(self.drawing, sample_batch=len(self.places)),
            [job.labels[number] for job, number in self.places], watch,
        )  # fmt: skip
        self.pictures = [
            appearing.of(row, image) if job.frames else image
            for row, ((job, _), image) in enumerate(zip(self.places, images, strict=True))
        ]

    def deliver(self) -> None:
        """Hand the pictures to those who wait for them, or why there are none."""
        problem = self.under_way.problem
        if isinstance(problem, Abandoned):
            problem.__traceback__ = None  # which holds us, and the tensors on the way
            return
        for job in {job for job, _ in self.places}:
            if problem and not job.done.done():
                job.done.set_exception(problem)
        for (job, number), picture in zip(self.places, self.pictures, strict=False):
            job.drawn[number] = picture
            finished = [picture for picture in job.drawn if picture is not None]
            if len(finished) == len(job.drawn) and not job.done.done():
                job.done.set_result(finished)


class Queue:
    """Jobs that wait, and the thread that draws them.

    `evaluated(version, pictures, seconds)` hears of each evaluation of a network, `drew(version, pictures)` of what is done.
    """

    def __init__(
        self, most_waiting: int, most_seconds: float,
        evaluated: Callable[[Any, int, float], None] = lambda *_: None,
        drew: Callable[[Any, int], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        self.most_waiting, self.most_seconds, self._evaluated, self._drew = most_waiting, most_seconds, evaluated, drew
        self._turns: Turns = {}
        self._drawn: list[Company] = []  # under way
        self._asked: list[Kind] = []  # of late, the last one last
        self._changed = threading.Condition()
        self._closed = False
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
        alone = seconds([], [], jobs)
        if alone > self.most_seconds:
            raise TooLong(alone, self._steps_that_would_do(jobs))
        with self._changed:
            many = self._turns and self._waiting() + sum(job.waiting for job in jobs) > self.most_waiting
            before = [job for alike in self._turns.values() for job in alike]
            if many or seconds(self._drawn, before, jobs) > self.most_seconds:
                raise Full(min(self.most_seconds, seconds(self._drawn, before, [])))
            join(self._turns, jobs)
            self._changed.notify()

    def _steps_that_would_do(self, jobs: Sequence[Job]) -> int:
        def takes(steps: int) -> float:
            return seconds([], [], [job.in_steps(steps) for job in jobs])

        return bisect_right(range(1, max(job.drawing.sampling_steps for job in jobs)), self.most_seconds, key=takes)

    def leave(self, job: Job) -> None:
        """A caller leaves: what it waited for is not drawn, or, where that has begun, not waited for."""
        with self._changed:
            job.left = True
            alike = self._turns.get(job.version, [])
            if job in alike:
                alike.remove(job)
                if not alike:
                    del self._turns[job.version]

    def close(self) -> None:
        """Draw what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        keep_threads()
        while self._fill():
            self._step()

    def _fill(self) -> bool:
        """Give those who wait the places that are free. False when the queue is closed and empty."""
        with self._changed:
            while not (self._turns or self._drawn):
                if self._closed:
                    return False
                self._changed.wait()
            begun = [company for version in list(self._turns) for company in self._begin(version)]
            self._drawn += begun
        for company in begun:
            company.under_way.begin()
        self._deliver()
        return True

    def _begin(self, version: Drawable) -> list[Company]:
        """What those who wait for this version may begin with now."""
        alike = self._turns[version]
        room = version.shapes[-1] - sum(len(one.places) for one in self._drawn if one.version is version)
        ways: dict[DrawSettings, list[Place]] = {}
        while alike and room > 0:
            job, number = next_place(alike)
            ways.setdefault(job.drawing, []).append((job, number))
            room -= 1
        if not alike:
            del self._turns[version]
        return [Company(places) for places in ways.values()]

    def _step(self) -> None:
        """An evaluation for each version under way."""
        for version in {company.version: None for company in self._drawn}:
            self._step_of([company for company in self._drawn if company.version is version])

    def _step_of(self, drawn: list[Company]) -> None:
        """Answer what those of one version ask, as many as ask alike at once. Where they ask two networks, a model's and its
        guide's, the one is that was asked longest ago: so those who began at different times come to ask the same."""
        version = drawn[0].version
        kinds: dict[Kind, list[Company]] = {}
        for company in drawn:
            if company.under_way.question:
                kinds.setdefault(company.under_way.question.kind, []).append(company)
        kind = min(kinds, key=lambda kind: self._asked.index(kind) if kind in self._asked else -1)
        self._asked = [*(other for other in self._asked if other != kind), kind][-KINDS:]
        self._answer(version, kinds[kind])
        self._deliver()

    def _answer(self, version: Drawable, asking: list[Company]) -> None:
        questions = [company.under_way.question for company in asking if company.under_way.question]
        pictures = sum(len(question.x) for question in questions)
        began = time.perf_counter()
        told: Sequence[Tensor | Exception]
        try:
            with threads_for(version.model.settings.base_channels, version.model.place):
                told = answers(questions, next(shape for shape in version.shapes if shape >= pictures))
        except Exception as problem:  # of these alone: their callers hear of it, and the others are drawn
            told = [problem] * len(asking)
        else:
            self._tell(self._evaluated, version, pictures, time.perf_counter() - began)
        for company, answer in zip(asking, told, strict=True):
            company.under_way.go_on(answer)

    def _deliver(self) -> None:
        """See to what has ended."""
        ended = [company for company in self._drawn if company.under_way.question is None]
        with self._changed:
            self._drawn = [company for company in self._drawn if company not in ended]
        for company in ended:
            if company.pictures:
                self._tell(self._drew, company.version, len(company.places))
            else:
                for job in {job for job, _ in company.places}:
                    self.leave(job)
            company.deliver()  # last: whoever has a picture finds it among the figures

    @staticmethod
    def _tell(who: Callable[..., None], *what: object) -> None:
        """What cannot be counted is drawn all the same."""
        try:
            who(*what)
        except Exception:
            log.exception("what was drawn could not be counted")
