"""A study in a file: Optuna's journal, one record a line, to which several processes append.

Whoever dies while it writes, or meets a full disk, leaves half a line. Optuna would append the next record to it, and
then read neither. Here the file is cut back to its last whole line, under the lock, before anything is read or
appended: nobody was told that the half was kept. What is broken elsewhere is no accident of ours, and is said.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from ddpm.errors import Outage, WrongInput
from ddpm.plain_files import NoPlainFile, read_plain

FIRST = b'{"op_code"'  # begins every record
JOURNAL_BYTES = 2**32  # that a journal has at most
# What a person mends while the run waits to be carried on. All else is a wrong path.
RIGHT = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "the quota is used up: make room there",
    errno.EIO: "the disk reports an error: look at it",
    errno.ESTALE: "mount the file system again",
}


class Journal(JournalFileBackend):
    """Optuna's file of records, which mends its own end. `say` hears of that."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))
        self.path, self._say = path, say
        data = read_plain(path, JOURNAL_BYTES)
        _require_records(path, data)
        if not data.endswith(b"\n"):  # or another process is about to end the line: the lock tells
            with self._opened() as file:
                self._mend(file)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append the records; each is there whole, or not at all. Raises Outage where the file cannot be written."""
        try:
            with self._opened() as file:
                self._mend(file)
                for log in logs:
                    _append(file, json.dumps(log, separators=(",", ":")).encode() + b"\n")
                os.fsync(file.fileno())
        except OSError as problem:
            right = RIGHT.get(problem.errno or 0, "see that it is there and can be written")
            raise Outage(f"the study's journal {self.path} cannot be written ({problem.strerror}); {right}") from None

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except ValueError:
            _require_records(self.path, read_plain(self.path, JOURNAL_BYTES))
            raise

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """The file, to append to, and ours alone for the while. One that is gone is not made anew: it would be another."""
        self._lock.acquire()
        try:
            with open(self.path, "r+b", buffering=0, opener=_appending) as file:
                yield file
        finally:
            self._lock.release()

    def _mend(self, file: FileIO) -> None:
        """Cut the file back to its last whole line."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size == 0 or file.read(1) == b"\n":
            return
        file.seek(0)
        whole = file.readall().rfind(b"\n") + 1
        file.truncate(whole)
        os.fsync(file.fileno())
        self._say(
            f"the study's journal {self.path} ended in half a record, as after a full disk or a crash; cut back to its last whole one"
        )


def _appending(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND)


def _append(file: FileIO, line: bytes) -> None:
    """Write a line at the end; where that does not come off, what there is of it is taken back."""
    end = file.seek(0, os.SEEK_END)
    written = 0
    try:
        while written < len(line):
            written += file.write(line[written:])
    except OSError:
        file.truncate(end)
        raise


def _require_records(path: Path, data: bytes) -> None:
    """Raise WrongInput unless every line is a record, but for half a one at the end."""
    *lines, rest = data.split(b"\n")
    torn = rest.strip(b"\0")  # with which some file systems fill what was not written before a crash
    if not lines and not torn.startswith(FIRST[: len(torn)]):
        raise _no_journal(path)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and "op_code" in record and "worker_id" in record:
            continue
        if number == 1:
            raise _no_journal(path)
        raise _damaged(path, f"line {number} of {len(lines)} is no record of Optuna's")


def _damaged(path: Path, what: str) -> WrongInput:
    return WrongInput(
        f"study_storage: {path} is damaged: {what}; put a copy of it back, or name another path and another run_name"
    )


def _no_journal(path: Path) -> WrongInput:
    return WrongInput(f"study_storage: {path} is no journal of Optuna's; name another path")


def open_journal(path: Path, say: Callable[[str], None]) -> JournalStorage:
    """The journal of this path, made where it is not there.

    Raises WrongInput where it is something else, is damaged, or cannot be written; Outage where there is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise _no_journal(path)
        return JournalStorage(Journal(path, say))
    except NoPlainFile as problem:
        raise WrongInput(
            f"study_storage: {path} is no journal of Optuna's: {problem.strerror}; name another path"
        ) from None
    except OSError as problem:
        if right := RIGHT.get(problem.errno or 0):
            raise Outage(f"study_storage: {path} cannot be written ({problem.strerror}); {right}") from None
        raise WrongInput(
            f"study_storage: {path} cannot be written ({problem.strerror}); name a path that can, or a database URL"
        ) from None
    except WrongInput:
        raise
    except (ValueError, LookupError, TypeError, AttributeError):  # what Optuna's replay of them comes upon
        raise _damaged(path, "its records do not belong together") from None
