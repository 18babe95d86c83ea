"""What nobody foresaw, in one line. Its traceback goes into a file of the user's, which the line names; $DDPM_DEBUG shows it."""

from __future__ import annotations

import errno
import os
import time
import traceback
from pathlib import Path

from ddpm.credentials import masked
from ddpm.legible import tell
from ddpm.places import cache_folder

VARIABLE = "DDPM_DEBUG"
KEPT = 20  # tracebacks
WORDS = 300  # characters of a problem's own


def said(problem: BaseException) -> str:
    """One line on a problem that is a bug of ours, or a trouble of the machine's that nobody expected."""
    words = " ".join(masked(str(problem)).split())[:WORDS]
    if isinstance(problem, MemoryError):
        return "the memory is used up; make room, or ask for less at a time"
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"{problem.filename} cannot be written: " if problem.filename else ""
        return f"{where}there is no room on the disk; make some, and the same command carries on"
    kind = type(problem).__name__
    return f"failed unexpectedly: {kind}: {words}" if words else f"failed unexpectedly: {kind}"


def keep_traceback(problem: BaseException) -> str:
    """`said`, and where the problem's traceback lies, which is written there now. Passwords of URLs are masked in it."""
    text = masked("".join(traceback.format_exception(problem)))
    if os.environ.get(VARIABLE, "") not in ("", "0"):
        tell(text, layout=True)
        return said(problem)
    try:
        return f"{said(problem)}; the traceback is in {_write(text)}, and {VARIABLE}=1 shows it"
    except OSError:
        return f"{said(problem)}; {VARIABLE}=1 shows the traceback"


def _write(text: str) -> Path:
    folder = cache_folder() / "tracebacks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path.write_text(text, errors="backslashreplace")
    for old in sorted(folder.glob("*.txt"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
