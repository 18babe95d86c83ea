"""Waiting for what is away for a while: a database that is restarted, a server that is down for a minute."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import TypeVar

from ddpm.errors import Outage, WrongInput
from ddpm.numerals import number

VARIABLE = "DDPM_PATIENCE"  # seconds for which an outage is waited out
PATIENCE = 120.0
# What a database's server (PostgreSQL, PgBouncer, MySQL) or its driver says of a connection that will never do. All else
# may pass, "the database system is not yet accepting connections" among it: to wait for nothing costs the patience, to
# call an outage wrong input ends a run for good.
FOR_GOOD = (
    "authentication failed", "no password supplied", "pg_hba.conf", "does not exist", "not permitted to log in",
    "permission denied", "not currently accepting connections", "no such user", "no such database", "Access denied",
    "Unknown database", "does not support SSL", "certificate verify failed", "root certificate file", "invalid sslmode",
    "invalid port", "invalid integer value",
)  # fmt: skip
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

T = TypeVar("T")


def patience() -> float:
    """For how many seconds an outage is waited out: $DDPM_PATIENCE, or two minutes. Raises WrongInput for no such number."""
    told = os.environ.get(VARIABLE, "")
    try:
        seconds = number(told) if told else PATIENCE
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise WrongInput(f"{VARIABLE}: {told!r} will not do; it must be a number of seconds from 0 up")
    return seconds


def refused_for_good(words: str) -> bool:
    """Whether a database cannot be had by this URL, by its driver's words: they will be the same the next time."""
    return any(reason in words for reason in FOR_GOOD)


def wait_out(
    attempt: Callable[[], T], matter: Callable[[Exception], str], right: str, say: Callable[[str], None],
    seconds: float | None = None,
) -> T:  # fmt: skip
    """What `attempt` returns; while there is an outage it is tried again, at growing intervals, for `seconds`.

    Args:
        matter: says what the matter is where an exception is an outage, in words that a person knows; else nothing, and
            the exception is raised as it is.
        right: what a person can do about it.
        seconds: None: $DDPM_PATIENCE.
    Raises: Outage where it has not passed by then.
    """
    began, pause, told = time.monotonic(), FIRST_PAUSE, False
    limit = patience() if seconds is None else seconds
    while True:
        try:
            result = attempt()
        except Exception as problem:
            words = matter(problem)
            if not words:
                raise
            left = began + limit - time.monotonic()
            if left <= 0:
                waited = f" (waited {limit:g} s; {VARIABLE} says how long)" if limit else ""
                raise Outage(f"{words}{waited}; {right}") from problem
            if not told:
                say(f"{words}; waiting for up to {limit:g} s")
            told = True
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if told:
                say(f"it is back, after {time.monotonic() - began:.1f} s")
            return result
