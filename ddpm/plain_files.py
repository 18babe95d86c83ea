"""Files by a name that somebody else chose: read where they are plain files of a size that is stated, and not otherwise.

Under such a name may lie a pipe that nobody writes to, a device that never ends, or more than the memory holds.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

NAMED_BYTES = 64 * 2**20  # that a file may have which a person names on the command line: a report, a table, a list
STANDARD_INPUT = "-"
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


class NoPlainFile(OSError):
    """It is something else, or too large; `strerror` says which."""


def require_plain(path: str | Path) -> None:
    """Raise NoPlainFile for what is neither a plain file nor a folder; OSError where there is nothing."""
    if "\0" in str(path):
        raise NoPlainFile(errno.EINVAL, "no file's name holds a NUL")
    if found := KINDS.get(stat.S_IFMT(os.stat(path).st_mode)):
        raise NoPlainFile(errno.EINVAL, f"it is {found}, and no plain file")


def read_plain(path: str | Path, most: int = NAMED_BYTES) -> bytes:
    """A file's bytes, and never more than its size says.

    Raises OSError where it cannot be read: NoPlainFile where it is a pipe, a device or a socket, has more bytes than
    `most`, or states no size and holds something all the same, as the kernel's own files, which may never end.
    """
    require_plain(path)  # first: to open a device may already do something
    with open(path, "rb", opener=_at_once) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise NoPlainFile(errno.EINVAL, "it is no plain file")
        if facts.st_size > most:
            raise NoPlainFile(errno.EFBIG, f"it has {facts.st_size:,} bytes, and {most:,} are the most that are read")
        if not facts.st_size and _holds_something(file.fileno()):
            raise NoPlainFile(errno.EINVAL, "it states no size, as the kernel's own files, and may never end")
        return file.read(facts.st_size)


def read_named(path: str | Path) -> bytes:
    """What a person names on the command line: a plain file, or `-`, standard input. Raises OSError as `read_plain` does."""
    if str(path) != STANDARD_INPUT:
        return read_plain(Path(path).expanduser())
    if sys.stdin is None:
        raise NoPlainFile(errno.EBADF, "standard input is closed")
    data = sys.stdin.buffer.read(NAMED_BYTES + 1)
    if len(data) > NAMED_BYTES:
        raise NoPlainFile(errno.EFBIG, f"it has more than {NAMED_BYTES:,} bytes, which are the most that are read")
    return data


def _holds_something(handle: int) -> bool:
    try:
        return bool(os.read(handle, 1))
    except BlockingIOError:  # not yet
        return True


def why(problem: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, in a few words."""
    if isinstance(problem, OSError):
        return problem.strerror or type(problem).__name__
    return "it is no text in UTF-8"


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that has taken the file's place makes nobody wait
