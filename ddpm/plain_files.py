"""Files by a name that somebody else chose: read where they are plain files of a size that is stated, and not otherwise.

Under such a name may lie a pipe that nobody writes to, a device that never ends, or more than the memory holds.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

NAMED_BYTES = 64 * 2**20  # that a file may have which a person names on the command line: a report, a table, a list
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


class NoPlainFile(OSError):
    """It is something else, or too large; `strerror` says which."""


def require_plain(path: str | Path) -> None:
    """Raise NoPlainFile for what is neither a plain file nor a folder; OSError where there is nothing."""
    if found := KINDS.get(stat.S_IFMT(os.stat(path).st_mode)):
        raise NoPlainFile(errno.EINVAL, f"it is {found}, and no plain file")


def read_plain(path: str | Path, most: int = NAMED_BYTES) -> bytes:
    """A file's bytes, and never more than its size says.

    Raises OSError where it cannot be read: NoPlainFile where it is a pipe, a device or a socket, or has more bytes than
    `most`.
    """
    require_plain(path)  # first: to open a device may already do something
    with open(path, "rb", opener=_at_once) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise NoPlainFile(errno.EINVAL, "it is no plain file")
        if facts.st_size > most:
            raise NoPlainFile(errno.EFBIG, f"it has {facts.st_size:,} bytes, and {most:,} are the most that are read")
        return file.read(facts.st_size)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that has taken the file's place makes nobody wait
