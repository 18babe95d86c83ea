"""The ways in which a step says no; the command line turns them into exit statuses."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ddpm.credentials import masked


class WrongInput(ValueError):
    """What was asked for cannot be done as asked. One line: what is wrong, and what would be right. Exit status 2.

    A password that a URL in the line has, others' words among them, is masked.
    """

    def __init__(self, line: str) -> None:
        super().__init__(masked(line))


class Refused(RuntimeError):
    """A gate or a check did not pass. One line that says which, and by how much. Exit status 3.

    `facts`, where there are some, are what was found, whole.
    """

    def __init__(self, line: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(masked(line))
        self.facts = facts


class Outage(RuntimeError):
    """What a step needs does not answer, or has no room, and nothing that was asked for is wrong. Exit status 1.

    One line: what is the matter, and what would mend it. Nothing is lost: the same command carries on.
    """

    def __init__(self, line: str) -> None:
        super().__init__(masked(line))


STATUS: dict[type[Exception], int] = {WrongInput: 2, Refused: 3, Outage: 1}


def status_of(problem: Exception) -> int:
    """The exit status of what ends with this; 1 for what nobody foresaw."""
    return next((status for kind, status in STATUS.items() if isinstance(problem, kind)), 1)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean NAME?)` where one of the known names is close to what was written, else nothing."""
    close = difflib.get_close_matches(word.lower(), [*known], n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""
