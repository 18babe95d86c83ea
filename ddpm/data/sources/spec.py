"""A source as somebody wrote it, taken apart once: what is asked of it before, and instead of, opening it."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from ddpm.data.manifest import Manifest
from ddpm.data.sources.source import Source
from ddpm.errors import WrongInput
from ddpm.places import local_path


class Spec(ABC):
    """One kind of source: how it is written, and what follows from that. A new kind is such a class and a row of KINDS."""

    has_name: ClassVar[bool] = False  # whether its title is a name of its own, which no other source goes by

    @classmethod
    @abstractmethod
    def recognise(cls, source: str) -> Self | None:
        """The source, where it is written as one of this kind; looks at nothing that it need not.

        Raises WrongInput where it is one of this kind, but incomplete.
        """

    @classmethod
    @abstractmethod
    def form(cls) -> str:
        """How one is written, as messages list it: `folder:DIR`."""

    @abstractmethod
    def check(self) -> None:
        """Raise WrongInput where it is missing or holds no pictures. Cheap; asks no site but the store that it names."""

    @abstractmethod
    def open(self) -> Source:
        """All pictures, by name; their bytes are read later, one by one. Raises WrongInput as `check` does, and for more."""

    @abstractmethod
    def title(self) -> str:
        """What it goes by, in any characters."""

    @abstractmethod
    def absolute(self) -> str:
        """The source as one writes it in any folder of this machine."""

    def remark(self, source: Source) -> str:
        """What a person should know of what was opened, in a line; empty where there is nothing to say."""
        return ""

    def local_paths(self) -> tuple[Path, ...]:
        """Absolute paths of this machine that whoever opens it must see; the cache of downloads is not among them."""
        return ()

    def published(self) -> Manifest | None:
        """The manifest, where it is a data set already, which is used as it is; None where it is to be ingested."""
        return None

    @property
    def name(self) -> str:
        """What its data set is called where nobody says otherwise.

        Many folders are called `train`, and names in other scripts come out empty: where the title is no name, six
        digits of a digest of the place keep apart what lies in different places.
        """
        letters = "".join(c for c in unicodedata.normalize("NFKD", self.title()) if not unicodedata.combining(c))
        words = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:80].rstrip("-._")
        if self.has_name and words:
            return words
        place = hashlib.sha256(os.fsencode(self.absolute().rstrip("/"))).hexdigest()
        return f"{words or 'pictures'}-{place[:6]}"


# Of a path that ends in one of these, the part before it says more.
UNTELLING = frozenset(
    "all data dataset datasets image images img imgs jpg jpeg photos pictures png raw test train training val".split()
)


def telling(parts: Sequence[str]) -> str:
    """The end of a path by which people know it: its last part, and the one before where that alone says nothing."""
    named = [part for part in parts if part.strip("/")]
    first = max(0, len(named) - 1)
    while first > 0 and named[first].lower() in UNTELLING:
        first -= 1
    return "-".join(named[first:])


def path_after(prefix: str, source: str, what: str) -> Path | None:
    """The path of `prefix:/path`, or None where it is written otherwise. Raises WrongInput where there is no path."""
    written, colon, path = source.partition(":")
    if written != prefix or not colon:
        return None
    if not path:
        raise WrongInput(f"source: '{source}' names no {what}; write {prefix}:/path")
    return local_path(path)


def plain_path(source: str) -> Path | None:
    """The path, where the source is written as nothing else, or None where it may be a name or another kind's."""
    kind, colon, _ = source.partition(":")
    if colon and "/" not in kind:
        return None
    is_path = "/" in source or source.startswith((".", "~")) or local_path(source).exists()
    return local_path(source) if is_path else None
