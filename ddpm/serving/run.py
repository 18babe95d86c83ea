"""`ddpm serve`: load what is to be served, say how it is drawn here, and serve until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import webbrowser
from typing import Any

import uvicorn

from ddpm.device import device_name
from ddpm.errors import WrongInput
from ddpm.progress import Progress
from ddpm.serving.batching import Queue
from ddpm.serving.connections import Patient
from ddpm.serving.limits import Tokens
from ddpm.serving.metrics import Metrics
from ddpm.serving.routes import create_app
from ddpm.serving.server import Server
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import Served, Versions

DRAIN_SECONDS = 5  # beyond a request's own time, for what is under way when a signal comes


def open_server(reference: str, tracking_uri: str, settings: ServeSettings, progress: Progress) -> Server:
    """A server with its versions loaded and its drawing thread at work."""
    tokens, metrics = Tokens.read(settings), Metrics()
    versions = Versions(reference, tracking_uri, settings)
    versions.open(progress.say)
    for alias, served in versions.by_alias.items():
        progress.say(f"{alias}: {served.reference}, {how(served)}")
    return Server(
        settings,
        versions,
        Queue(settings.most_waiting, settings.most_seconds, metrics.evaluated, metrics.drew),
        metrics,
        tokens,
    )


def how(served: Served) -> str:
    """How a version is drawn here, in words: the batches, and what a picture and a full batch take."""
    model, evaluations = served.model, served.model.evaluations()
    shapes = [shape for shape in served.measured if shape.pictures in served.shapes]
    least, most = shapes[0], shapes[-1]
    words = f"drawn on {device_name(model.place)} in batches of {' or '.join(str(shape.pictures) for shape in shapes)}: a request of one takes about {least.seconds * evaluations:.2g} s"
    rate = most.pictures / (most.seconds * evaluations)
    others = [str(shape.pictures) for shape in served.measured if not shape.same]
    apart = (
        f"; batches of {', '.join(others)} give other bytes here than `ddpm sample` and are not used" if others else ""
    )
    return f"{words}, and at most {rate:.3g} pictures a second are drawn{apart}"


def listen(settings: ServeSettings) -> socket.socket:
    """The socket to listen at. Raises WrongInput where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as problem:
        raise WrongInput(
            f"port: {settings.host} port {settings.port} cannot be had ({problem}); give another"
        ) from None


def config_for(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(server), log_config=None, access_log=False, server_header=False, lifespan="on", ws="none", http=Patient,
        timeout_graceful_shutdown=int(server.settings.most_seconds) + DRAIN_SECONDS,
    )  # fmt: skip


def serve(reference: str, tracking_uri: str, settings: ServeSettings, progress: Progress) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C; then nobody new is let in, and who waits gets what they wait for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of what strangers send, a line for each
    door = listen(settings)
    server = open_server(reference, tracking_uri, settings, progress)
    address = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{door.getsockname()[1]}"
    if settings.browse:
        webbrowser.open(address)  # the socket listens already
    progress.say(f"serving at {address}; Ctrl-C ends it")
    runner = uvicorn.Server(config_for(server))
    # When it has drained, uvicorn raises the signal again, for whoever handled it before: that is nobody's failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(runner.serve(sockets=[door]))
    return {"served": address, "version": server.versions.by_alias[server.versions.main].reference}
