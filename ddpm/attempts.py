"""What the attempts at a run's steps leave while they are at work, and when they fail: who looks later finds it here.

RUN/attempts/SESSION/STEP.json   an attempt that has begun; with its end, once it has failed. Gone when the step succeeds.
RUN/lost/SESSION/STEP-1.json     the first attempt, once there is a second: what came to nothing has taken its time

A session is one run of the pipeline, by its runner's id: a run that is carried on by its name has several, and what
failed in one says nothing of the next. An attempt that is over, and says nothing of its end, was killed.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, TypedDict, cast

from ddpm.store import Missing, Store
from ddpm.store.reading import read_json

KILLED = (
    "killed without a word: by its memory's or time's end, with its node, or by somebody; it would carry on from there"
)
STOPPED = "stopped from outside (SIGTERM): evicted, out of time, or ended by somebody; it would carry on from there"
SECOND = "transfer-"  # how the key of a step begins that a second set goes through
REFUSED = "refused"  # instead of a step: the run was refused before it could be opened, and may be another's


class Failure(TypedDict):
    """How an attempt ended."""

    step: str  # as its facts are kept: search-0 is the search's worker 0
    attempt: int  # from 1
    at: str  # when, as "2026-01-31 12:00:00 UTC"; of one that was killed, when it began
    error: str  # one line
    status: int  # its exit status: 2 is wrong input, which no further attempt mends; 137 for one that was killed


class Lost(TypedDict):
    """An attempt that came to nothing."""

    key: str  # the step, as its facts are kept
    seconds: float | None  # how long it was at work; None: it was killed, or is from before that was kept


class Attempt:
    """One attempt at a step, from its beginning on."""

    def __init__(self, folder: Store, key: str, step: str, number: int) -> None:
        self._folder, self._key, self._began = folder, key, time.monotonic()
        self._facts: dict[str, Any] = {"step": step, "attempt": number, "at": _now()}
        self._write()

    def failed(self, error: str, status: int, folder: Store | None = None) -> None:
        """Keep how it ended, through another store of the same folder where one is named."""
        self._folder = folder or self._folder
        seconds = round(time.monotonic() - self._began, 2)
        self._facts |= {"at": _now(), "error": " ".join(error.split()), "status": status, "seconds": seconds}
        self._write()

    def succeeded(self) -> None:
        self._folder.delete(self._key)

    def _write(self) -> None:
        self._folder.write(self._key, json.dumps(self._facts, indent=1).encode())


class Attempts:
    """The attempts of one session. `folder` is the run's."""

    def __init__(self, folder: Store, session: str) -> None:
        self._folder, self._session = folder, session or "by-hand"
        self._below = f"attempts/{self._session}"

    def begin(self, key: str, step: str = "") -> Attempt:
        """The next attempt at a step whose facts are kept under `key`."""
        name = f"{self._below}/{key}.json"
        try:
            before = _read(self._folder, name)
        except Missing:
            return Attempt(self._folder, name, step or key, 1)
        self._folder.write(
            f"lost/{self._session}/{key}-{before['attempt']}.json", json.dumps(before, indent=1).encode()
        )
        return Attempt(self._folder, name, step or key, before["attempt"] + 1)

    def failures(self, over: bool = True) -> list[Failure]:
        """The last attempts at what has not succeeded, in the order in which they ended.

        Args:
            over: whether nobody is at work any more. Else only what has said how it ended is among them.
        """
        found = [_read(self._folder, key) for key in self._folder.list(self._below)]
        killed = {"error": KILLED, "status": 137}
        whole = [{**killed, **facts} for facts in found if over or "error" in facts]
        ended = [cast("Failure", {name: facts[name] for name in Failure.__annotations__}) for facts in whole]
        return sorted(ended, key=lambda failure: failure["at"])

    def was_refused(self) -> bool:
        """Whether the session ended before it opened its run, which may be another's of the same name."""
        return self._folder.exists(f"{self._below}/{REFUSED}.json")


def lost(folder: Store, over: bool = True) -> list[Lost]:
    """The attempts of all a run's sessions that came to nothing. `folder` is the run's.

    Args:
        over: whether nobody is at work any more. Else what has not said how it ended may be at work still.
    """
    left = [key for key in folder.list("attempts/") if not key.endswith(f"/{REFUSED}.json")]
    gone = [_read(folder, key) for key in folder.list("lost/")]
    gone += [facts for facts in (_read(folder, key) for key in left) if over or "error" in facts]
    return [{"key": facts["step"], "seconds": facts.get("seconds")} for facts in gone]


def _read(folder: Store, key: str) -> dict[str, Any]:
    return read_json(folder, key, dict[str, Any], "remove it")


# What a person, or whoever tries steps again, should know of an exit status.
FOR_GOOD = {
    2: "wrong input: tried again it would end the same",
    3: "refused by a check: a person should look at it first",
}


def in_words(failure: Failure) -> str:
    """The failure as a line. What another attempt does not mend says so: the policies by which runners try again cannot
    tell, for they see one exit status of all."""
    for_good = FOR_GOOD.get(failure["status"], "")
    why = f"{failure['error']} ({for_good})" if for_good else failure["error"]
    return f"{failure['step']}, attempt {failure['attempt']}, {failure['at']}: {why}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
