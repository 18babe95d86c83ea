"""What every kind of source comes down to: pictures with names and classes, whose bytes are read one by one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ddpm.data.formats import BY_ENDING
from ddpm.errors import WrongInput

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_CLASS = -1
MAX_BYTES = 256 * 2**20  # of one picture's file, wherever it lies; more is no picture that anybody trains on

ENDINGS_SHOWN = 6

Content = str | bytes | Callable[[], bytes]  # a file's path; the bytes; or what reads them from where they lie


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as its source has it: a name that is the same on every machine, its class, and its file or bytes."""

    name: str
    label: int
    content: Content


class PassedOver:
    """Files that are not looked at, for their names do not end like a picture's: counted by ending, one of each named."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Count a file; hidden ones do not count."""
        if not is_hidden(name):
            ending = os.path.splitext(name)[1].lower()[:12]
            self._count[ending] += 1
            self._first.setdefault(ending, printable(name))

    def __len__(self) -> int:
        return sum(self._count.values())

    def __str__(self) -> str:
        """`12 .heic (a/1.heic …: HEIC, which is not read here; …), 1 .txt (notes.txt)`"""
        shown = [
            f"{count:,} {ending or 'without an ending'} ({self._first[ending]}{' …' if count > 1 else ''}"
            + (f": {BY_ENDING[ending]})" if ending in BY_ENDING else ")")
            for ending, count in self._count.most_common(ENDINGS_SHOWN)
        ]
        more = len(self._count) - len(shown)
        return ", ".join(shown) + (f" and {more} more endings" if more > 0 else "")


@dataclass(frozen=True)
class Source:
    """Pictures with their classes. `kind` and `facts` go into the manifest, so they hold no path of this machine."""

    kind: str
    classes: list[str]
    pictures: list[Picture]
    facts: dict[str, Any]
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: Sequence[str] = ()  # lines that whoever reads it in should see: how it was understood, what is not used

    def remarks(self, limit: float) -> Iterator[str]:
        """The notes, and what is passed over: with a warning, where that is more than this share of all files."""
        yield from self.notes
        passed_over, total = len(self.passed_over), len(self.passed_over) + len(self.pictures)
        if passed_over:
            yield f"passed over, for their names do not end like a picture's: {self.passed_over}"
        if passed_over > limit * total:
            yield (
                f"warning: {passed_over:,} of {total:,} files are passed over, more than quarantine_limit {limit:.3g}; "
                "look whether pictures are among them"
            )


def is_picture(name: str) -> bool:
    """By its ending; hidden files, and what lies in hidden folders, are none."""
    return name.lower().endswith(PICTURE_ENDINGS) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def no_pictures(place: object, passed_over: PassedOver) -> str:
    """What is said of a source without any, which may hold other files."""
    others = f"; there are {passed_over}" if len(passed_over) else ""
    return f"source: {place} holds no pictures ({' '.join(PICTURE_ENDINGS)}){others}; name one that does"


def printable(name: str) -> str:
    """A file's name as text that every file and terminal takes: bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def keep(contents: dict[str, Content], place: object, name: str, content: Content) -> None:
    """Add a file by its name as text. Raises WrongInput where another one's is written alike: one would hide the other."""
    if (said := printable(name)) in contents:
        raise WrongInput(f"source: {place} holds two files that are both written {said}; rename one of them")
    contents[said] = content


def within_limit(size: int, read: Callable[[], bytes]) -> Callable[[], bytes]:
    """What reads a picture of so many bytes; where they are too many, it raises OSError, and the picture is set aside."""
    return read if size <= MAX_BYTES else partial(_refuse, size)


def _refuse(size: int) -> bytes:
    raise too_large(size)


def too_large(size: int) -> OSError:
    return OSError(None, f"{size:,} bytes are too many for a picture")


def name_digest(name: str) -> bytes:
    """What a picture's place is chosen by, in the order of the set and among its shards."""
    return hashlib.sha256(name.encode()).digest()
