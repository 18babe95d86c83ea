"""Bytes that can only be read from front to back, kept on disk so that they can be read in any order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from ddpm.errors import WrongInput

EXPANSION = 100  # times its own size, and
ALWAYS_ALLOWED = 2**30  # bytes: what a file may unpack to; more is taken for a bomb


class Spool:
    """A temporary file without a name: gone when nothing reads from it any more, whatever way the process ends."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as its readers)
        self._end = 0

    def add(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()  # what reads it does so past this file's buffer
        except OSError as problem:
            raise WrongInput(
                f"no room to unpack into {tempfile.gettempdir()}: {problem.strerror}; name a folder that has with TMPDIR"
            ) from None
        self._end += len(data)

    def __len__(self) -> int:
        return self._end

    def keep(self, data: bytes) -> Callable[[], bytes]:
        """Add a piece; returns what reads it again."""
        start = self._end
        self.add(data)
        return partial(self._read, start, len(data))

    def finish(self) -> IO[bytes]:
        """All that was added, to be read from its beginning."""
        self._file.seek(0)
        return self._file

    def _read(self, start: int, size: int) -> bytes:
        return read_at(self._file, start, size)


def read_at(file: IO[bytes], start: int, size: int) -> bytes:
    """A piece of an open file. Safe from several threads. Raises OSError where the file ends before it."""
    data = os.pread(file.fileno(), size, start)
    if len(data) < size:
        raise OSError(None, "the file ends too early")
    return data


def require_bounded(file: Path, unpacked: int) -> None:
    """Raise WrongInput where a file unpacks to more than it could in good faith."""
    packed = file.stat().st_size
    if unpacked > max(ALWAYS_ALLOWED, EXPANSION * packed):
        raise WrongInput(
            f"source: {file} is refused: its {packed:,} bytes unpack to more than {max(ALWAYS_ALLOWED, EXPANSION * packed):,}, "
            "taken for a bomb; unpack it by hand if you trust it, and give the folder"
        )
