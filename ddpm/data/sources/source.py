"""What every kind of source comes down to: pictures with names and classes, whose bytes are read one by one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
NO_CLASS = -1
MAX_BYTES = 256 * 2**20  # of one picture's file, wherever it lies; more is no picture that anybody trains on

Content = str | bytes | Callable[[], bytes]  # a file's path; the bytes; or what reads them from where they lie


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as its source has it: a name that is the same on every machine, its class, and its file or bytes."""

    name: str
    label: int
    content: Content


@dataclass(frozen=True)
class Source:
    """Pictures with their classes. `kind` and `facts` go into the manifest, so they hold no path of this machine."""

    kind: str
    classes: list[str]
    pictures: list[Picture]
    facts: dict[str, Any]
    passed_over: int = 0  # files that were not looked at, for their names do not end like a picture's


def is_picture(name: str) -> bool:
    """By its ending; hidden files, and what lies in hidden folders, are none."""
    return name.lower().endswith(PICTURE_ENDINGS) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def printable(name: str) -> str:
    """A file's name as text that every file and terminal takes: bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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


def by_folders(kind: str, contents: Mapping[str, Content], facts: dict[str, Any], passed_over: int = 0) -> Source:
    """Pictures by their paths, `class/…/file` or `file`: the first folders are the classes; beside them, there is none."""
    classes = sorted({name.split("/")[0] for name in contents if "/" in name})
    number = {name: index for index, name in enumerate(classes)}
    pictures = [
        Picture(name, number[name.split("/")[0]] if "/" in name else NO_CLASS, content)
        for name, content in sorted(contents.items())
    ]
    return Source(kind, classes, pictures, facts, passed_over)
