"""The server of pictures: its routes. docs/serving.md tells of them; `ddpm serve` runs it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from torch import Tensor

from ddpm import settings as names
from ddpm.device import device_name
from ddpm.model.model import label_of
from ddpm.model.sampling import Between
from ddpm.pictures import grid, png
from ddpm.serving.batching import Full, Job, Queue
from ddpm.serving.limits import Door, Tokens
from ddpm.serving.metrics import Metrics
from ddpm.serving.problems import LEFT, Problem, handle_problems
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import Served, Versions, describe
from ddpm.serving.wishes import (
    MOST_SEED,
    Alias,
    Asked,
    Frames,
    How,
    Pictures,
    ProblemBody,
    Single,
    Wish,
    drawing_of,
    order,
)
from ddpm.settings import DrawSettings

PAGE = Path(__file__).parent / "page"
FRAME_MS = 120  # for which a frame of a picture that appears is shown, and the last one longer
LAST_MS = 1500
SeedInPath = Annotated[int, InPath(ge=0, le=MOST_SEED, description="the picture's number", examples=[7])]
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemBody, "description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "the body is no JSON",
        401: "no token, or a wrong one", 408: "the body did not come", 413: "the body is too large", 421: "not this server's name",
        422: "what was asked for will not do", 429: "too much is waiting; Retry-After says when to ask again",
        503: "it took too long, or the server is stopping",
    }.items()
}  # fmt: skip
PNG = {"content": {"image/png": {}}, "description": "a PNG"}
WEBP = {"content": {"image/webp": {}}, "description": "an animated WebP, lossless"}
SAME = {"description": "the picture that If-None-Match names"}


@dataclass
class Server:
    """What the routes use."""

    settings: ServeSettings
    versions: Versions
    queue: Queue
    metrics: Metrics
    tokens: Tokens

    async def draw(
        self, request: Request, served: Served, drawing: DrawSettings, seeds: Sequence[int | Between], label: int | None, frames: int = 0
    ) -> list[Tensor]:  # fmt: skip
        """Pictures, when their turn has come. Raises Problem where there is no room for them, or no time."""
        caller = getattr(request.state, "caller", "")
        self.tokens.spend(caller, len(seeds))
        try:
            job = self.queue.put(Job(served, drawing, seeds, [label] * len(seeds), frames))
        except Full as full:
            self.tokens.give_back(caller, len(seeds))
            raise Problem(429, "the server has enough to draw; ask again when Retry-After says", full.again) from None
        done = asyncio.ensure_future(asyncio.wrap_future(job.done))
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


def tag_of(served: Served, drawing: DrawSettings, *what: object) -> str:
    """What a picture's bytes follow from: weights, the way of drawing, what is drawn, and on what."""
    way = (drawing.sampler, drawing.sampling_steps, drawing.churn, drawing.guidance, served.arithmetic)
    on = (torch.__version__, device_name(served.model.place))
    parts = (served.model.origin.weights_sha256 or served.reference, way, on, *what)
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the caller has it: by If-None-Match, which compares weakly."""
    told = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return tag in told or told == ["*"]


def create_app(server: Server) -> FastAPI:
    """The application. What it serves is loaded before; with its end, what waits is drawn and the threads end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.versions.follow()
        yield
        await asyncio.to_thread(server.versions.close)
        await asyncio.to_thread(server.queue.close)

    app = FastAPI(
        title="Free Midjourney", version="1", docs_url=None, redoc_url=None, lifespan=lifespan,
        description="A number becomes a picture. The same seed is the same picture, byte for byte, whatever shares its batch.",
    )  # fmt: skip
    handle_problems(app)
    app.add_middleware(Door, server.settings, server.tokens, server.metrics)
    if server.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=server.settings.cors_origins.split(), allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "if-none-match"],
            expose_headers=["etag", "retry-after", "x-model-version", "x-model-alias"],
        )  # fmt: skip
    versions = server.versions

    def drawn_by(how: How, alias: str, served: Served) -> DrawSettings:
        server.metrics.of_version.labels(alias, served.reference).inc()
        return drawing_of(served.model, how, server.settings)

    def who(how: Asked, seed: int) -> tuple[str, Served, DrawSettings]:
        [(alias, (served, _))] = versions.of(how.alias, [seed]).items()
        return alias, served, drawn_by(how, alias, served)

    @app.post(
        "/v1/images",
        tags=["pictures"],
        responses={200: {**PNG, "model": Pictures}, **REFUSALS},
        response_class=Response,
    )
    async def images(request: Request, wish: Wish, alias: Annotated[Alias, Query()] = None) -> Response:
        """Pictures by seeds: one as PNG, several in a grid, or as JSON."""
        asked = order(wish, server.settings)
        drawn: dict[int, tuple[Served, Tensor]] = {}  # by the seed's place
        heads: list[tuple[str, Served, DrawSettings]] = []
        tags: list[str] = []
        # With a canary two versions share the seeds; the first one's stands for the whole where there is room for one.
        for name, (served, places) in versions.of(alias, [_first(seed) for seed in asked.seeds]).items():
            drawing, seeds = drawn_by(wish, name, served), [asked.seeds[place] for place in places]
            pictures = await server.draw(request, served, drawing, seeds, wish.label)
            drawn |= {place: (served, picture) for place, picture in zip(places, pictures, strict=True)}
            heads.append((name, served, drawing))
            tags.append(tag_of(served, drawing, places, seeds, wish.label))
        alias, served, drawing = heads[0]
        tag = tag_of(served, drawing, asked.form, tags)
        whole = [drawn[place] for place in range(len(asked.seeds))]
        if asked.form == "png":
            return server.answer(alias, served, png(_rows(whole[0][1])), "image/png", tag)
        if asked.form == "grid":
            return server.answer(
                alias, served, png(grid(torch.stack([picture for _, picture in whole]))), "image/png", tag
            )
        found = [
            _as_json(picture, seed, wish.label, by) for (by, picture), seed in zip(whole, asked.seeds, strict=True)
        ]
        body = {
            "version": served.reference, "alias": alias, "sampler": drawing.sampler, "steps": drawing.sampling_steps,
            "guidance": drawing.guidance, "images": found,
        }  # fmt: skip
        return JSONResponse(body, headers=server.headers(alias, served, tag))

    @app.get(
        "/v1/images/{seed}.png", tags=["pictures"], responses={200: PNG, 304: SAME, **REFUSALS}, response_class=Response
    )
    async def image(request: Request, seed: SeedInPath, how: Annotated[Single, Query()]) -> Response:
        """The picture of a seed, the same file as `ddpm sample` writes."""
        alias, served, drawing = who(how, seed)
        tag = tag_of(served, drawing, "png", [seed], how.label)
        if is_known(request, tag):
            return Response(status_code=304, headers=server.headers(alias, served, tag))
        [drawn] = await server.draw(request, served, drawing, [seed], how.label)
        answer = server.answer(alias, served, png(_rows(drawn)), "image/png", tag)
        if how.download:
            answer.headers["Content-Disposition"] = f'attachment; filename="{seed}.png"'
        return answer

    async def denoising(request: Request, seed: int, how: Frames, kind: str) -> Response:
        if how.frames > server.settings.most_frames:
            raise Problem(422, f"frames: {how.frames} are too many; ask for at most {server.settings.most_frames}")
        alias, served, drawing = who(how, seed)
        tag = tag_of(served, drawing, kind, [seed], how.label, how.frames)
        if is_known(request, tag):
            return Response(status_code=304, headers=server.headers(alias, served, tag))
        [states] = await server.draw(request, served, drawing, [seed], how.label, how.frames)
        body = _webp(states) if kind == "webp" else png(grid(states, columns=len(states)))
        return server.answer(alias, served, body, f"image/{kind}", tag)

    @app.get(
        "/v1/denoising/{seed}.png",
        tags=["pictures"],
        responses={200: PNG, 304: SAME, **REFUSALS},
        response_class=Response,
    )
    async def strip(request: Request, seed: SeedInPath, how: Annotated[Frames, Query()]) -> Response:
        """The picture appearing, from noise to what it shows, as a row of states."""
        return await denoising(request, seed, how, "png")

    @app.get(
        "/v1/denoising/{seed}.webp",
        tags=["pictures"],
        responses={200: WEBP, 304: SAME, **REFUSALS},
        response_class=Response,
    )
    async def animation(request: Request, seed: SeedInPath, how: Annotated[Frames, Query()]) -> Response:
        """The picture appearing, as an animation that runs once and ends with the picture."""
        return await denoising(request, seed, how, "webp")

    @app.get("/v1/model", tags=["model"], responses=REFUSALS)
    async def model() -> dict[str, Any]:
        """What is served: each version's drawing settings, figures with their protocol, card and batches."""
        now = versions.by_alias
        limits = {
            name: getattr(server.settings, name) for name in ("most_n", "most_steps", "most_frames", "most_seconds")
        }
        return {
            "name": versions.name or now[versions.main].reference, "main": versions.main, "canary": server.settings.canary,
            "samplers": list(names.SAMPLERS), "limits": limits, "versions": [describe(served, alias) for alias, served in now.items()],
        }  # fmt: skip

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, bool]:
        """Whether the process answers."""
        return {"alive": True}

    @app.get("/readyz", tags=["operations"])
    async def readyz() -> dict[str, Any]:
        """Whether pictures are drawn, of which version, and what is the matter with others."""
        state = versions.state
        return {
            "ready": True, "serving": {alias: served.reference for alias, served in versions.by_alias.items()},
            "refused": state.refused, "registry": state.registry or "answers", "alias": state.alias or ("found" if versions.name else "none is followed"),
            "waiting": server.queue.waiting,
        }  # fmt: skip

    @app.get("/metrics", tags=["operations"], responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """The same and more, for Prometheus."""
        return Response(server.metrics.text(versions, server.queue), media_type=CONTENT_TYPE_LATEST)

    for path, file in {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}.items():
        app.add_api_route(path, _sends(PAGE / file), include_in_schema=False, response_class=FileResponse)
    return app


def _sends(file: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(file, headers={"Cache-Control": "no-cache"})

    return send


def _first(seed: int | Between) -> int:
    return seed.first if isinstance(seed, Between) else seed


def _rows(picture: Tensor) -> Any:
    """[3,h,w] as a picture file has it: [h,w,3]."""
    return picture.permute(1, 2, 0).numpy()


def _as_json(picture: Tensor, seed: int | Between, label: int | None, served: Served) -> dict[str, Any]:
    data, classes = png(_rows(picture)), served.model.settings.classes
    return {
        "seed": _first(seed),
        "share": seed.share if isinstance(seed, Between) else None,
        "version": served.reference,
        "label": (label_of(seed, classes) if label is None else label) if classes else None,
        "sha256": hashlib.sha256(data).hexdigest(),
        "png": base64.b64encode(data).decode(),
    }


def _webp(states: Tensor) -> bytes:
    """Frames [f,3,h,w] as an animation that runs once; lossless, so that its last frame is the picture."""
    frames = [Image.fromarray(_rows(state)) for state in states]
    times, buffer = [FRAME_MS] * (len(frames) - 1) + [LAST_MS], io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=times, loop=1, lossless=True)
    return buffer.getvalue()
