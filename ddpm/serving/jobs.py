"""What requests want drawn, in which turns, and how long that takes."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from ddpm.model.model import Model
from ddpm.model.sampling import Between
from ddpm.settings import DrawSettings


class Drawable(Protocol):
    """A version as the queue sees it."""

    @property
    def model(self) -> Model: ...

    @property
    def shapes(self) -> Sequence[int]: ...

    def seconds(self, pictures: int) -> float: ...


@dataclass(eq=False)
class Job:
    """What one request wants: pictures of one version, drawn in one way, and of each, where `frames`, how it appears."""

    version: Drawable
    drawing: DrawSettings
    seeds: Sequence[int | Between]
    labels: Sequence[int | None]
    frames: int = 0
    done: Future[list[Tensor]] = field(default_factory=Future)  # of each [3,h,w], or [frames,3,h,w]
    begun: int = 0  # so many of its pictures have had a place in the batch
    left: bool = False  # its caller has

    def __post_init__(self) -> None:
        self.drawn: list[Tensor | None] = [None] * len(self.seeds)
        self.evaluations = self.version.model.evaluations(self.drawing)  # of a network, for a picture
        self.done.set_running_or_notify_cancel()

    @property
    def waiting(self) -> int:
        return len(self.seeds) - self.begun

    @property
    def asks_two(self) -> bool:
        """Whether it asks two networks in turns: the model's, and its guide's."""
        return self.drawing.guidance != 1 and self.version.model.guide is not None

    def in_steps(self, steps: int) -> Job:
        """The same job as it would be in so many steps, for who asks how long that takes."""
        found = copy.copy(self)
        found.drawing = replace(self.drawing, sampling_steps=steps)
        found.evaluations = self.version.model.evaluations(found.drawing)
        return found


Turns = dict[Drawable, list[Job]]  # who waits, by version; the first of each has the next turn
Place = tuple[Job, int]  # a job, and which of its pictures


def join(turns: Turns, jobs: Sequence[Job]) -> Turns:
    for job in jobs:
        turns.setdefault(job.version, []).append(job)
    return turns


def next_place(alike: list[Job]) -> Place:
    """The place of the caller whose turn it is; while it has others that wait, it goes behind the others."""
    job = alike.pop(0)
    place = job, job.begun
    job.begun += 1
    if job.waiting > 0:
        alike.append(job)
    return place


class UnderWay(Protocol):
    """Pictures that are being drawn, as an estimate sees them."""

    @property
    def version(self) -> Drawable: ...

    @property
    def places(self) -> Sequence[Place]: ...

    @property
    def left(self) -> int: ...  # evaluations that each still needs

    @property
    def asks_two(self) -> bool: ...  # as of a job


def seconds(drawn: Sequence[UnderWay], before: Sequence[Job], jobs: Sequence[Job]) -> float:
    """In how many seconds the last of these jobs' pictures should be drawn, with what is under way and who waits before
    them; without jobs, the last of the others'.

    A version's places are given as they become free, in turns; versions under way are evaluated in turns. Where some are
    led by a guide, the others wait while that is asked: as if to the end of all, so that the estimate is then too long.
    """
    asked = [copy.copy(job) for job in jobs]
    turns = join(join({}, [copy.copy(job) for job in before]), asked)
    ends: dict[Drawable, list[int]] = {}  # of each version's places: evaluations until it is free for good
    mine: dict[Drawable, int] = {}  # and until these are drawn
    for version in {**{one.version: None for one in drawn}, **dict.fromkeys(turns)}:
        alike, under_way = turns.get(version, []), [one for one in drawn if one.version is version]
        two = any(job.asks_two for job in alike) or any(one.asks_two for one in under_way)
        places = [_evaluations(one.left, one, two) for one in under_way for _ in one.places]
        places += [0] * (version.shapes[-1] - len(places))
        heapq.heapify(places)
        while alike:
            job, _ = next_place(alike)
            end = places[0] + _evaluations(job.evaluations, job, two)
            heapq.heapreplace(places, end)
            if any(job is one for one in asked):
                mine[version] = max(mine.get(version, 0), end)
        ends[version] = places
    return max(
        (
            sum(_busy(places, evaluations, other) for other, places in ends.items())
            for evaluations in (mine or {version: max(places) for version, places in ends.items()}).values()
        ),
        default=0.0,
    )


def _evaluations(own: int, one: Job | UnderWay, two: bool) -> int:
    """How often a network is evaluated until a picture has had its own evaluations, where some ask two."""
    return own * (2 if two and not one.asks_two else 1)


def _busy(ends: Sequence[int], evaluations: int, version: Drawable) -> float:
    """Seconds of a version's next evaluations, as many as there are, with places that are taken without a gap until these
    ends: the fewer they are, the smaller a batch will do."""
    found, at, taken = 0.0, 0, sorted(end for end in ends if end)
    for done, end in enumerate(min(end, evaluations) for end in taken):
        if end > at:
            found += (end - at) * version.seconds(len(taken) - done)
            at = end
    return found
