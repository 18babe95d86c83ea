"""The server of pictures: what its routes (routes.py, v2.py) draw with, and answer by."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.model.sampling import Between
from ddpm.serving.batching import Full, Queue, TooLong
from ddpm.serving.jobs import Job
from ddpm.serving.limits import Tokens
from ddpm.serving.metrics import Metrics
from ddpm.serving.problems import LEFT, Problem
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import Served, Versions
from ddpm.serving.wishes import How, drawing_of, require_steps
from ddpm.settings import DrawSettings


@dataclass(frozen=True)
class Share:
    """What one version draws of a request, and how: its places among the request's seeds."""

    alias: str
    served: Served
    drawing: DrawSettings
    places: list[int]


@dataclass(frozen=True)
class Drawn:
    """A picture, [3,h,w], and who drew it, how."""

    picture: Tensor
    by: Share


@dataclass
class Server:
    """What the routes use."""

    settings: ServeSettings
    versions: Versions
    queue: Queue
    metrics: Metrics
    tokens: Tokens

    def shares(self, how: How, alias: str | None, seeds: Sequence[int | Between]) -> list[Share]:
        """Who draws which of the seeds, and how; it is counted. With a canary two versions share them.

        Raises WrongInput for an alias that is not served, and for what one of the versions that may answer does not know,
        whichever the seeds would have got: whether a request is refused does not hang on its numbers.
        """
        require_steps(how, self.settings)
        may = self.versions.may_answer(alias)
        drawings = {name: self._drawing(how, name, served, len(may)) for name, served in may.items()}
        places = self.versions.places(may, [first(seed) for seed in seeds])
        for name in places:
            self.metrics.of_version.labels(name, may[name].reference).inc()
        return [Share(name, may[name], drawings[name], its) for name, its in places.items()]

    def _drawing(self, how: How, alias: str, served: Served, versions: int) -> DrawSettings:
        try:
            return drawing_of(served.model, how)
        except WrongInput as problem:
            if versions == 1:
                raise
            whose = f"{alias}, {served.reference}, which answers for a share of the seeds"
            raise WrongInput(f"{problem} (so for {whose}; or ask by another alias)") from None

    async def pictures(
        self, request: Request, how: How, alias: str | None, seeds: Sequence[int | Between]
    ) -> list[Drawn]:
        """Pictures of seeds, in their order. Raises Problem as `draw` does, and WrongInput as `shares` does."""
        shares = self.shares(how, alias, seeds)
        jobs = [
            Job(by.served, by.drawing, [seeds[place] for place in by.places], [how.label] * len(by.places))
            for by in shares
        ]
        whose: dict[int, Drawn] = {}
        for by, pictures in zip(shares, await self.draw(request, *jobs), strict=True):
            whose |= {place: Drawn(picture, by) for place, picture in zip(by.places, pictures, strict=True)}
        return [whose[place] for place in range(len(seeds))]

    async def draw(self, request: Request, *jobs: Job) -> list[list[Tensor]]:
        """The pictures of each job, when their turn has come. Raises Problem where there is no room for them, or no time,
        and WrongInput where they would take longer than a request may if nobody else waited."""
        caller, pictures = getattr(request.state, "caller", ""), sum(len(job.seeds) for job in jobs)
        self.tokens.spend(caller, pictures)
        most = self.settings.most_seconds
        try:
            self.queue.put(*jobs)
        except TooLong as long:
            self.tokens.give_back(caller, pictures)
            right = [
                *(["fewer pictures"] if pictures > 1 else []),
                *([f"steps up to {long.steps}"] if long.steps else []),
            ]
            raise WrongInput(
                f"steps: this takes about {long.seconds:.4g} s here with nobody before it, and a request has {most:g} s; "
                + (
                    f"ask for {', or '.join(right)}"
                    if right
                    else "this server's --most-seconds is too short for a picture"
                )
            ) from None
        except Full as full:
            self.tokens.give_back(caller, pictures)
            raise Problem(429, "the server has enough to draw; ask again when Retry-After says", full.again) from None
        done = asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs))
        done.add_done_callback(_looked_at)
        leaves = asyncio.ensure_future(_leaves(request))
        either: set[asyncio.Future[Any]] = {done, leaves}
        try:
            await asyncio.wait(either, timeout=most, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            if leaves.done():
                self.metrics.left.inc()
                raise Problem(LEFT, "the caller left")
            raise Problem(503, f"it took more than {most:g} s; ask for fewer pictures or steps", 1)
        finally:
            leaves.cancel()
            done.cancel()
            for job in jobs:
                if not job.done.done():
                    self.queue.leave(job)

    def answer(self, by: Sequence[Share], body: bytes, kind: str, tag: str) -> Response:
        """An answer, with who drew it; whoever keeps it asks, by its tag, whether it is still the same."""
        return Response(body, headers=self.headers(by, tag), media_type=kind)

    def headers(self, by: Sequence[Share], tag: str) -> dict[str, str]:
        """Those of an answer that these drew: with a canary there may be two, in the order of their first pictures."""
        return {
            "ETag": tag,
            "Cache-Control": f"{'private' if self.tokens else 'public'}, no-cache",
            "X-Model-Version": ", ".join(dict.fromkeys(one.served.reference for one in by)),
            "X-Model-Alias": ", ".join(dict.fromkeys(one.alias for one in by)),
        }


async def _leaves(request: Request) -> None:
    """Returns when the caller has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _looked_at(done: asyncio.Future[Any]) -> None:
    """What came of a caller who has left is nobody's: without a look at it asyncio would log it as an error."""
    if not done.cancelled():
        done.exception()


def told(by: Share) -> dict[str, Any]:
    """Who draws, and how, as JSON tells it."""
    return {
        "version": by.served.reference, "alias": by.alias, "sampler": by.drawing.sampler,
        "steps": by.drawing.sampling_steps, "guidance": by.drawing.guidance,
    }  # fmt: skip


def describe(served: Served, alias: str) -> dict[str, Any]:
    """A version as `/v1/model` tells of it."""
    model = served.model
    report: Any = served.report or {}
    return {
        "alias": alias,
        "version": served.reference,
        "image_size": model.image_size,
        "classes": model.settings.classes,
        "drawing": {name: getattr(model.drawing, name) for name in ("sampler", "sampling_steps", "churn", "guidance")},
        "weights_sha256": model.origin.weights_sha256,
        "guide_sha256": model.guide.origin.weights_sha256 if model.guide else None,
        "images_seen": model.origin.images_seen,
        "dataset_digest": model.origin.dataset_digest,
        "checked": served.checked,
        "batches": list(served.shapes),
        "measured": [
            {"pictures": shape.pictures, "seconds": shape.seconds, "same_bytes": shape.same}
            for shape in served.measured
        ],
        "figures": {
            name: report[name] for name in ("metric", "fid", "fid_std", "kid", "kid_std", "n") if name in report
        },
        "protocol": report.get("protocol"),
        "card": served.card,
    }


def in_common(all_told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is true of every picture; None for what differs from one to another."""
    return {
        name: value if all(other[name] == value for other in all_told) else None for name, value in all_told[0].items()
    }


def tag_of(served: Served, drawing: DrawSettings, *what: object) -> str:
    """What a picture's bytes follow from: weights, the way of drawing, what is drawn, and on what."""
    way = (drawing.sampler, drawing.sampling_steps, drawing.churn, drawing.guidance, served.arithmetic)
    on = tuple(sorted(served.on.items()))
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
