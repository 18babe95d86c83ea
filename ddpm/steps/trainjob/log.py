"""The log of a training's first node, passed on into the step's own as it grows; and the last lines of others that failed."""

from __future__ import annotations

import sys
import time
from typing import Any

from ddpm.legible import tell
from ddpm.steps.trainjob.api import TrainJobs, index_of

MARGIN = 60  # seconds by which each look overlaps the one before
LAST_LINES = 20


class Log:
    """Looked at again and again. Each line has the time of its writing before it, by which what was passed on is known."""

    def __init__(self, jobs: TrainJobs) -> None:
        self._jobs = jobs
        self._pod, self._looked = "", 0.0
        self._last, self._told = "", set[str]()  # the latest time, and the lines that have it

    def pass_on(self, pods: list[Any]) -> None:
        """What the first node has written since the last look."""
        first = next((pod for pod in pods if index_of(pod) == 0 and _has_begun(pod)), None)
        if first is None:
            return
        since: dict[str, int] = {}
        if first.metadata.uid == self._pod:
            since = {"since_seconds": int(time.monotonic() - self._looked) + MARGIN}
        looked = time.monotonic()
        for line in self._jobs.log(first.metadata.name, **since).splitlines():
            self._pass_on(line)
        self._pod, self._looked = first.metadata.uid, looked

    def _pass_on(self, line: str) -> None:
        at, _, words = line.partition(" ")
        if at < self._last or (at == self._last and line in self._told):
            return
        if at != self._last:
            self._last, self._told = at, set()
        self._told.add(line)
        tell(words, sys.stdout)

    def last_words(self, pods: list[Any]) -> None:
        """The last lines of every other node that has failed."""
        for pod in pods:
            if index_of(pod) and pod.status.phase == "Failed":
                for line in self._jobs.log(pod.metadata.name, tail_lines=LAST_LINES).splitlines():
                    tell(f"node {index_of(pod)}: {line.partition(' ')[2]}", sys.stdout)


def _has_begun(pod: Any) -> bool:
    return pod.status.phase in ("Running", "Succeeded", "Failed")
