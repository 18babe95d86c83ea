"""What was found of one thing: a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

OK, WRONG, UNKNOWN = "ok", "wrong", "not looked at"


@dataclass(frozen=True)
class Finding:
    state: str  # OK, WRONG or UNKNOWN
    words: str  # what there is; of what is wrong, what to do too; of what was not looked at, why

    def __str__(self) -> str:
        return f"{self.state:{len(UNKNOWN)}}  {self.words}"


Findings = Iterator[Finding]
Look = Callable[[], Findings]


def ok(words: str) -> Finding:
    return Finding(OK, words)


def wrong(words: str) -> Finding:
    return Finding(WRONG, words)


def unknown(words: str) -> Finding:
    return Finding(UNKNOWN, words)
