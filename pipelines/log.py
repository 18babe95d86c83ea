"""A run's log.txt: what happened in words, and what the libraries print, without kfp's own dumps.

A log that cannot be written ends no run: that is said once, on the terminal.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType

from ddpm.legible import logged, tell

# What kfp says of its own work, each time: all of it is in the compiled file and in the steps' own words.
KFP_TALK = re.compile(
    r"\[KFP Executor [^]]*\]: (Looking for component|Loading KFP component|Wrote executor output)"
    r"|- INFO - (Executing task|Streamed logs)|have no effect in the current local runner|_warn_local_only_noops\("
    r"|custom or non-Python base image|^\s*warnings\.warn\($|^-{40,}$"
)
KFP_INPUT = re.compile(r"(?P<step>\[[^]]*\]) \[KFP Executor [^]]*\]: Got executor_input:$")


class Log:
    """The file, to which lines are appended. Where the last line of an earlier run was cut off, ours begins a new one."""

    def __init__(self, path: Path) -> None:
        self._path, self._troubled = path, False
        self._dumping: set[str] = set()  # the steps whose input kfp is printing
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._append(b"\n")

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, line: str) -> str:
        """Append a line; what of it was kept, which is nothing of kfp's dumps."""
        text = logged(line.rstrip())
        if self._is_dump(text) or KFP_TALK.search(text):
            return ""
        if text:
            self._append(text.encode(errors="replace") + b"\n")
        return text

    def _is_dump(self, text: str) -> bool:
        """Whether the line belongs to the JSON of a task's input, which ends with a bracket at the margin."""
        if found := KFP_INPUT.match(text):
            self._dumping.add(found["step"])
            return True
        step, _, rest = text.partition("] ")
        step += "]"
        if step not in self._dumping:
            return False
        if rest == "}":
            self._dumping.discard(step)
            return True
        if rest == "{" or rest.startswith("    "):
            return True
        self._dumping.discard(step)
        return False

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._file, data) :]
            self._troubled = False
        except OSError as problem:
            if not self._troubled:
                tell(f"{self._path} cannot be written ({problem.strerror}); the run goes on without it")
            self._troubled = True
