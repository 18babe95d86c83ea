"""The ways in which a step says no; the command line turns them into exit statuses."""

from collections.abc import Mapping
from typing import Any


class WrongInput(ValueError):
    """What was asked for cannot be done as asked. One line: what is wrong, and what would be right. Exit status 2."""


class Refused(RuntimeError):
    """A gate or a check did not pass. One line that says which, and by how much. Exit status 3.

    `facts`, where there are some, are what was found, whole.
    """

    def __init__(self, line: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(line)
        self.facts = facts


class Outage(RuntimeError):
    """What a step needs does not answer, or has no room, and nothing that was asked for is wrong. Exit status 1.

    One line: what is the matter, and what would mend it. Nothing is lost: the same command carries on.
    """
