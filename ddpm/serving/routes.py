"""The server's paths. docs/serving.md tells of them; `ddpm serve` runs it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from torch import Tensor

from ddpm import settings as names
from ddpm.model.model import label_of
from ddpm.model.sampling import Between
from ddpm.pictures import grid, png
from ddpm.serving.jobs import Job
from ddpm.serving.limits import Door
from ddpm.serving.problems import REFUSALS, Problem, handle_problems
from ddpm.serving.server import Drawn, Server, Share, describe, first, in_common, is_known, tag_of, told
from ddpm.serving.v2 import v2_routes
from ddpm.serving.wishes import MOST_SEED, Alias, Asked, Frames, Pictures, Single, Whole, Wish, order

FILES = Path(__file__).parent / "page"
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
FRAME_MS = 120  # for which a frame of a picture that appears is shown, and the last one longer
LAST_MS = 1500
SeedInPath = Annotated[Whole, InPath(ge=0, le=MOST_SEED, description="the picture's number", examples=[7])]
PNG = {"content": {"image/png": {}}, "description": "a PNG"}
WEBP = {"content": {"image/webp": {}}, "description": "an animated WebP, lossless"}
SAME = {"description": "the picture that If-None-Match names"}


def create_app(server: Server) -> FastAPI:
    """The application. What it serves is loaded before; with its end, what waits is drawn and the threads end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.versions.follow()
        yield
        await asyncio.to_thread(server.versions.close)
        await asyncio.to_thread(server.queue.close)

    app = FastAPI(
        title="Free Midjourney", version="1", docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False,
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

    def who(how: Asked, seed: int) -> Share:
        [by] = server.shares(how, how.alias, [seed])
        return by

    @app.post(
        "/v1/images",
        tags=["pictures"],
        responses={200: {**PNG, "model": Pictures}, **REFUSALS},
        response_class=Response,
    )
    async def images(request: Request, wish: Wish, alias: Annotated[Alias, Query()] = None) -> Response:
        """Pictures by seeds: one as PNG, several in a grid, or as JSON."""
        asked = order(wish, server.settings)
        drawn = await server.pictures(request, wish, alias, asked.seeds)
        shares = [one.by for one in drawn]
        each = [tag_of(by.served, by.drawing, seed, wish.label) for by, seed in zip(shares, asked.seeds, strict=True)]
        tag = tag_of(shares[0].served, shares[0].drawing, asked.form, each)
        if asked.form == "png":
            return server.answer(shares, png(_rows(drawn[0].picture)), "image/png", tag)
        if asked.form == "grid":
            whole = png(grid(torch.stack([one.picture for one in drawn])))
            return server.answer(shares, whole, "image/png", tag)
        images = [_as_json(one, seed, wish.label) for one, seed in zip(drawn, asked.seeds, strict=True)]
        body = {**in_common([told(by) for by in shares]), "images": images}
        return JSONResponse(body, headers=server.headers(shares, tag))

    @app.get(
        "/v1/images/{seed}.png", tags=["pictures"], responses={200: PNG, 304: SAME, **REFUSALS}, response_class=Response
    )
    async def image(request: Request, seed: SeedInPath, how: Annotated[Single, Query()]) -> Response:
        """The picture of a seed, the same file as `ddpm sample` writes."""
        by = who(how, seed)
        tag = tag_of(by.served, by.drawing, "png", [seed], how.label)
        if is_known(request, tag):
            return Response(status_code=304, headers=server.headers([by], tag))
        [[drawn]] = await server.draw(request, Job(by.served, by.drawing, [seed], [how.label]))
        answer = server.answer([by], png(_rows(drawn)), "image/png", tag)
        if how.download:
            answer.headers["Content-Disposition"] = f'attachment; filename="{seed}.png"'
        return answer

    async def denoising(request: Request, seed: int, how: Frames, kind: str) -> Response:
        if how.frames > server.settings.most_frames:
            raise Problem(422, f"frames: {how.frames} are too many; ask for at most {server.settings.most_frames}")
        by = who(how, seed)
        tag = tag_of(by.served, by.drawing, kind, [seed], how.label, how.frames)
        if is_known(request, tag):
            return Response(status_code=304, headers=server.headers([by], tag))
        [[states]] = await server.draw(request, Job(by.served, by.drawing, [seed], [how.label], how.frames))
        body = _webp(states) if kind == "webp" else png(grid(states, columns=len(states)))
        return server.answer([by], body, f"image/{kind}", tag)

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
            "name": versions.name or now[versions.main].reference, "main": versions.main, "canary": versions.canary(now)[0],
            "samplers": list(names.SAMPLERS), "limits": limits, "versions": [describe(served, alias) for alias, served in now.items()],
        }  # fmt: skip

    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, bool]:
        """Whether the process answers."""
        return {"alive": True}

    @app.get("/readyz", tags=["operations"])
    async def readyz(request: Request) -> dict[str, Any]:
        """Whether pictures are drawn, of which version, and what is the matter with others."""
        state = versions.state
        header = request.headers.get("authorization", "")
        if not (server.tokens.name_of(header) if server.tokens else server.settings.is_loopback):
            state = state.without_reasons()
        return {
            "ready": True, "serving": {alias: served.reference for alias, served in versions.by_alias.items()},
            "refused": state.refused, "registry": state.registry or "answers", "alias": state.alias or ("found" if versions.name else "none is followed"),
            "canary": versions.canary(versions.by_alias)[1], "waiting": server.queue.waiting,
        }  # fmt: skip

    @app.get("/metrics", tags=["operations"], responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """The same and more, for Prometheus."""
        return Response(server.metrics.text(versions, server.queue), media_type=CONTENT_TYPE_LATEST)

    app.include_router(v2_routes(server))
    for path, (file, kind) in PAGE.items():
        app.add_api_route(path, _sends(FILES / file, kind), include_in_schema=False, response_class=Response)
    return app


def _sends(file: Path, kind: str) -> Any:
    data = file.read_bytes()

    async def send() -> Response:
        return Response(data, headers={"Cache-Control": "no-cache"}, media_type=kind)

    return send


def _rows(picture: Tensor) -> Any:
    """[3,h,w] as a picture file has it: [h,w,3]."""
    return picture.permute(1, 2, 0).numpy()


def _as_json(drawn: Drawn, seed: int | Between, label: int | None) -> dict[str, Any]:
    data, classes = png(_rows(drawn.picture)), drawn.by.served.model.settings.classes
    return {
        **told(drawn.by),
        "seed": first(seed),
        "share": seed.share if isinstance(seed, Between) else None,
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
