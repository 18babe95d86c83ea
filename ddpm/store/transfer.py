"""What every transfer to and from S3 rests on: one client a process and surroundings, tries with backoff, parts, digests."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import Outage, WrongInput
from ddpm.outages import VARIABLE, patience
from ddpm.progress import announce
from ddpm.store.account import adopt
from ddpm.store.problems import ANSWERS, TryAgain, may_be_of_tls, may_mend, require_s3_answer
from ddpm.tls import mistaken

PARTS_AT_ONCE = 4
MOST_PARTS = 10_000  # S3's limit for one object

T = TypeVar("T")


@dataclass(frozen=True)
class Wire:
    """How patient one is with an endpoint."""

    tries: int = 7
    first_wait: float = 0.25  # seconds at most before the second try; then twice as long each time
    longest_wait: float = 20.0
    connect_seconds: float = 10.0
    read_seconds: float = 60.0  # without a byte
    patience: float | None = None  # seconds for which one that has answered before is waited for; None: $DDPM_PATIENCE
    part_bytes: int = 16 * 2**20  # larger objects go in parts of this size; S3 takes none below 5 MiB

    def part_size(self, size: int) -> int:
        """The size of an object's parts: a function of its own size, so that its ETag can be told from its bytes."""
        return max(self.part_bytes, -(-size // MOST_PARTS))


HASTY = Wire(tries=1, connect_seconds=3.0, read_seconds=5.0, patience=0.0)
_answered: set[str] = set()  # the endpoints that have, or did when the run was configured


def expect(endpoint: str) -> None:
    """Say of an endpoint that it has answered before: from now on its silence is an outage, which is waited out."""
    _answered.add(endpoint)


def retried(wire: Wire, endpoint: str, what: str, work: Callable[[int], T]) -> T:
    """What `work(attempt)` returns; tried again, later and later, where the problem may pass.

    There are `wire.tries`; an endpoint that has answered before and then does not is tried for `wire.patience`.

    Waits are drawn at random up to the longest allowed ("full jitter"), so that those who were refused together do not
    come back together. Raises Outage, or what TryAgain names, after the last try, and whatever else `work` raises.
    """
    began = time.monotonic()
    for attempt in itertools.count():
        try:
            result = work(attempt)
        except Exception as problem:
            reason = may_mend(problem)
            if not reason:
                if endpoint not in _answered:
                    _require_scheme(what, endpoint, problem)
                expect(endpoint)
                raise
            tried, waits = attempt + 1, not isinstance(problem, TryAgain) and endpoint in _answered
            if tried >= wire.tries:
                if not waits:
                    _require_scheme(what, endpoint, problem)
                limit = (patience() if wire.patience is None else wire.patience) if waits else 0.0
                if time.monotonic() - began >= limit:
                    kind = problem.kind if isinstance(problem, TryAgain) else Outage
                    waited = f" (waited {limit:g} s; {VARIABLE} says how long)" if limit else ""
                    raise kind(f"{what}: {reason}, {tried} times{waited}; check the endpoint, or try later") from None
                if tried == wire.tries:
                    announce(f"{what}: {reason}; waiting for up to {limit:g} s")
        else:
            expect(endpoint)
            if attempt >= wire.tries:
                announce(f"{endpoint} is back, after {time.monotonic() - began:.1f} s")
            return result
        time.sleep(random.uniform(0, min(wire.longest_wait, wire.first_wait * 2 ** min(attempt, 30))))
    raise AssertionError("a try ends in a result or an exception")


def _require_scheme(what: str, endpoint: str, problem: Exception) -> None:
    """Raise WrongInput where a connection failed since its http:// should be https://, or the other way round."""
    if may_be_of_tls(problem) and (wrong := mistaken(endpoint, str(problem))):
        raise WrongInput(f"{what}: {wrong} in AWS_ENDPOINT_URL") from None


def open_client(wire: Wire) -> Any:
    """A boto3 client by our own names (`ddpm.store.account`) and the standard AWS chain.

    It is the same one while the surroundings are the same. Safe between threads.
    """
    adopt()
    surroundings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    return _client(wire, surroundings, os.getpid())


@functools.lru_cache(maxsize=8)
def _client(wire: Wire, surroundings: tuple[tuple[str, str], ...], process: int) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        # A session of one's own: the default one keeps the credentials that it found first.
        client = boto3.session.Session().client(
            "s3",
            config=Config(
                connect_timeout=wire.connect_seconds,
                read_timeout=wire.read_seconds,
                max_pool_connections=4 * PARTS_AT_ONCE,
                retries={"mode": "standard", "total_max_attempts": 1},  # `retried` also covers what breaks in a body
                # Servers other than AWS's refuse the newer default checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        for operation in ANSWERS:
            client.meta.events.register(f"after-call.s3.{operation}", require_s3_answer)
        endpoint_of(client)  # raises ValueError for a port that is none, with half a password in its words
        return client
    except (BotoCoreError, ValueError) as problem:
        raise WrongInput(
            f"S3 cannot be used: {type(problem).__name__}; check AWS_PROFILE, AWS_ENDPOINT_URL (http://HOST:PORT) and AWS_DEFAULT_REGION"
        ) from None


def endpoint_of(client: Any) -> str:
    """Where the client sends requests, without a name or password that might stand in it."""
    parts = urlsplit(client.meta.endpoint_url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def part_etag(data: bytes | memoryview) -> str:
    """The ETag of what is put at once: the MD5 of its bytes."""
    return _md5(data).hexdigest()


def is_whole(data: bytes, answer: dict[str, Any], part_bytes: int) -> bool | None:
    """Whether these are the bytes that an answer's ETag stands for; None where one cannot tell.

    An ETag is the MD5 of an object's bytes, or of its parts' MD5s, with their number. It is neither where objects are
    encrypted with a key of KMS or of the customer, and nothing can be told where parts were of another size.
    """
    etag = str(answer.get("ETag", "")).strip('"')
    found = re.fullmatch(r"([0-9a-f]{32})(?:-([0-9]+))?", etag)
    if not found or answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer:
        return None
    if found[2] is None:
        return part_etag(data) == etag
    view = memoryview(data)
    digests = [_md5(view[start : start + part_bytes]).digest() for start in range(0, len(data), part_bytes)]
    if len(digests) != int(found[2]):
        return None
    return _md5(b"".join(digests)).hexdigest() == found[1]


def _md5(data: bytes | memoryview) -> Any:
    return hashlib.md5(data, usedforsecurity=False)
