"""The server of pictures: what its routes (routes.py, v2.py) draw with, and answer by."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fastapi import Request
from fastapi.responses import Response
from torch import Tensor

from ddpm.device import device_name
from ddpm.model.sampling import Between
from ddpm.serving.batching import Full, Job, Queue
from ddpm.serving.limits import Tokens
from ddpm.serving.metrics import Metrics
from ddpm.serving.problems import LEFT, Problem
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import Served, Versions
from ddpm.serving.wishes import How, drawing_of
from ddpm.settings import DrawSettings


@dataclass(frozen=True)
class Drawn:
    """A picture, [3,h,w], and who drew it, how."""

    picture: Tensor
    alias: str
    served: Served
    drawing: DrawSettings


@dataclass
class Server:
    """What the routes use."""

    settings: ServeSettings
    versions: Versions
    queue: Queue
    metrics: Metrics
    tokens: Tokens

    def drawn_by(self, how: How, alias: str, served: Served) -> DrawSettings:
        """How a version draws what is asked for, which is counted. Raises WrongInput for what it does not know."""
        self.metrics.of_version.labels(alias, served.reference).inc()
        return drawing_of(served.model, how, self.settings)

    async def pictures(
        self, request: Request, how: How, alias: str | None, seeds: Sequence[int | Between]
    ) -> list[Drawn]:
        """Pictures of seeds, in their order; with a canary two versions share them. Raises Problem as `draw` does."""
        jobs: list[Job] = []
        whose: dict[int, Drawn] = {}
        answering = self.versions.of(alias, [first(seed) for seed in seeds])
        for name, (served, places) in answering.items():
            drawing = self.drawn_by(how, name, served)
            jobs.append(Job(served, drawing, [seeds[place] for place in places], [how.label] * len(places)))
        drawn = await self.draw(request, *jobs)
        for (name, (served, places)), job, pictures in zip(answering.items(), jobs, drawn, strict=True):
            whose |= {
                place: Drawn(picture, name, served, job.drawing)
                for place, picture in zip(places, pictures, strict=True)
            }
        return [whose[place] for place in range(len(seeds))]

    async def draw(self, request: Request, *jobs: Job) -> list[list[Tensor]]:
        """The pictures of each job, when their turn has come. Raises Problem where there is no room for them, or no time."""
        caller, pictures = getattr(request.state, "caller", ""), sum(len(job.seeds) for job in jobs)
        self.tokens.spend(caller, pictures)
        try:
            self.queue.put(*jobs)
        except Full as full:
            self.tokens.give_back(caller, pictures)
            raise Problem(429, "the server has enough to draw; ask again when Retry-After says", full.again) from None
        done = asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs))
        done.add_done_callback(_looked_at)
        leaves = asyncio.ensure_future(_leaves(request))
        either: set[asyncio.Future[Any]] = {done, leaves}
        try:
            await asyncio.wait(either, timeout=self.settings.most_seconds, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            if leaves.done():
                self.metrics.left.inc()
                raise Problem(LEFT, "the caller left")
            raise Problem(
                503, f"it took more than {self.settings.most_seconds:g} s; ask for fewer pictures or steps", 1
            )
        finally:
            leaves.cancel()
            done.cancel()
            for job in jobs:
                if not job.done.done():
                    self.queue.leave(job)

    def answer(self, alias: str, served: Served, body: bytes, kind: str, tag: str) -> Response:
        """An answer, with who drew it; whoever keeps it asks, by its tag, whether it is still the same."""
        return Response(body, headers=self.headers(alias, served, tag), media_type=kind)

    def headers(self, alias: str, served: Served, tag: str) -> dict[str, str]:
        return {
            "ETag": tag,
            "Cache-Control": f"{'private' if self.tokens else 'public'}, no-cache",
            "X-Model-Version": served.reference,
            "X-Model-Alias": alias,
        }


async def _leaves(request: Request) -> None:
    """Returns when the caller has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _looked_at(done: asyncio.Future[Any]) -> None:
    """What came of a caller who has left is nobody's: without a look at it asyncio would log it as an error."""
    if not done.cancelled():
        done.exception()


def tag_of(served: Served, drawing: DrawSettings, *what: object) -> str:
    """What a picture's bytes follow from: weights, the way of drawing, what is drawn, and on what."""
    way = (drawing.sampler, drawing.sampling_steps, drawing.churn, drawing.guidance, served.arithmetic)
    on = (torch.__version__, device_name(served.model.place))
    guide = (served.model.guide.origin.weights_sha256,) if served.model.guide and drawing.guidance != 1 else ()
    parts = (served.model.origin.weights_sha256 or served.reference, *guide, way, on, *what)
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the caller has it: by If-None-Match, which compares weakly."""
    told = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return tag in told or told == ["*"]


def first(seed: int | Between) -> int:
    """A picture's seed; on a walk, the one that it leads from."""
    return seed.first if isinstance(seed, Between) else seed
