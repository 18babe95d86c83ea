"""Who may ask, by which name, how much: what every request passes before anything is made of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from ddpm.errors import WrongInput
from ddpm.fields import shown
from ddpm.plain_files import read_plain, why
from ddpm.serving.metrics import Metrics
from ddpm.serving.problems import Problem, as_response
from ddpm.serving.settings import ServeSettings

# ASGI's own words for what passes here.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
TOKENS = "DDPM_SERVE_TOKENS"
OPEN = (
    "/",
    "/page.css",
    "/page.js",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/v2/health/live",
    "/v2/health/ready",
)  # to be had without a token: no picture is
PROBES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")  # asked by address, not by name
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
BODY_SECONDS = 10.0  # in which a body must have come
LINE = re.compile(r"(?P<name>\S+)\s+sha256:(?P<digest>[0-9a-f]{64})")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'",
    ),
)


class Tokens:
    """Bearer tokens, known by their digests alone, and what each has asked for in the last minute."""

    def __init__(self, lines: str, per_minute: int = 0) -> None:
        self.per_minute = per_minute
        self._names: dict[str, str] = {}
        for number, line in enumerate(lines.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            parts = LINE.fullmatch(line.strip())
            if not parts:
                raise WrongInput(
                    f"tokens: line {number} will not do; write NAME sha256:DIGEST, with 64 hexadecimal digits"
                )
            self._names[parts["digest"]] = parts["name"]
        self._left: dict[str, tuple[float, float]] = {}  # of each name: what it may ask for yet, and when that was
        self._lock = threading.Lock()

    @classmethod
    def read(cls, settings: ServeSettings) -> Tokens:
        """Those of the file or of the environment. Raises WrongInput where a stranger could ask, or the file cannot be read."""
        lines = os.environ.get(TOKENS, "")
        if settings.tokens_file:
            try:
                lines = read_plain(settings.tokens_file).decode()
            except (OSError, UnicodeDecodeError) as problem:
                raise WrongInput(
                    f"tokens_file: {settings.tokens_file} cannot be read: {why(problem)}; give a text file"
                ) from None
        found = cls(lines, settings.per_minute)
        if not (found or settings.is_loopback or settings.anyone):
            raise WrongInput(
                f"host: others reach {settings.host}, and there are no tokens; give some (docs/serving.md), or --anyone true"
            )
        return found

    def __bool__(self) -> bool:
        return bool(self._names)

    def name_of(self, header: str) -> str | None:
        """Whose token an Authorization header holds."""
        kind, _, token = header.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for known, name in self._names.items():  # all are compared, in a time that does not tell which was close
            if hmac.compare_digest(known, digest):
                found = name
        return found if kind.lower() == "bearer" else None

    def spend(self, name: str, pictures: int) -> None:
        """Count pictures against a token's minute. Raises Problem, 429, where it has none left."""
        if not (self and self.per_minute):
            return
        if pictures > self.per_minute:
            raise Problem(
                422, f"n: {pictures} pictures are more than this token's {self.per_minute} a minute; ask for fewer"
            )
        with self._lock:
            now = time.monotonic()
            left, at = self._left.get(name, (float(self.per_minute), now))
            left = min(self.per_minute, left + (now - at) * self.per_minute / 60)
            if left < pictures:
                again = (pictures - left) * 60 / self.per_minute
                raise Problem(
                    429, f"this token has {self.per_minute} pictures a minute; ask again in {again:.0f} s", again
                )
            self._left[name] = (left - pictures, now)

    def give_back(self, name: str, pictures: int) -> None:
        """What a caller spent on pictures that there was no room for."""
        with self._lock:
            if name in self._left:
                left, at = self._left[name]
                self._left[name] = (min(float(self.per_minute), left + pictures), at)


class Door:
    """What every request passes: the name it asks by, its token, the size of its body; and what is counted of it."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, tokens: Tokens, metrics: Metrics) -> None:
        self.app, self.settings, self.tokens, self.metrics = app, settings, tokens, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        head = scope["method"] == "HEAD"
        if head:  # what GET would answer, of which uvicorn sends the head alone
            scope = {**scope, "method": "GET"}

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            try:
                self._look_at(scope)
                receive = await self._with_body(scope, receive)
            except Problem as problem:
                await as_response(problem.status, problem.detail, scope["path"], problem.headers)(
                    scope, receive, answer
                )
            else:
                await self.app(scope, receive, answer)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            method = "HEAD" if head else scope["method"]
            method = method if method in METHODS else "other"  # callers may make up any
            self.metrics.requests.labels(path, method, status).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - began)

    def _look_at(self, scope: Scope) -> None:
        """Raise Problem for a host that is not ours, and for who has no token."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
        hosts = self.settings.hosts
        if scope["path"] not in PROBES and "*" not in hosts and name.strip("[]").lower() not in hosts:
            raise Problem(421, "this server does not answer by that name; --allowed-hosts says by which it does")
        given = Counter(name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if twice := [name for name, times in given.items() if times > 1]:
            raise Problem(422, f"{shown(twice[0])}: it is there more than once; say it once")
        preflight = scope["method"] == "OPTIONS"
        if self.tokens and scope["path"] not in OPEN and not preflight:
            caller = self.tokens.name_of(headers.get(b"authorization", ""))
            if caller is None:
                raise Problem(
                    401, "a token is needed; send Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"}
                )
            scope.setdefault("state", {})["caller"] = caller

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """The whole body is read here, as far as it may be, and handed on; what comes later comes as it comes."""
        most = self.settings.most_body
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = Problem(413, f"the body may have {most} bytes; send fewer seeds, or a range by seed and n")
        if stated.isdigit() and int(stated[:20]) > most:
            raise too_large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        break  # the caller has left; the application is told so
                    parts.append(message.get("body", b""))
                    if sum(map(len, parts)) > most:
                        raise too_large
                    if not message.get("more_body"):
                        message = {}
                        break
        except TimeoutError:
            raise Problem(408, f"the body did not come within {BODY_SECONDS:.0f} s; send it at once") from None
        body = b"".join(parts)
        if twice := _key_there_twice(body):
            raise Problem(422, f"{shown(twice)}: it is there more than once; say it once")
        ready: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        if message:
            ready.append(message)

        async def again() -> Message:
            return ready.pop(0) if ready else await receive()

        return again


def _key_there_twice(body: bytes) -> str:
    """A key that an object of a JSON body has twice, of which every reader would take another one; empty: there is none."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        twice.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)

    try:
        json.loads(body, object_pairs_hook=look)
    except (ValueError, RecursionError):  # the application says so, whatever the body is to be
        return ""
    return twice[0] if twice else ""
