"""What a store promises, whatever it is made of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ddpm.errors import WrongInput

MOST_BYTES = 2**36  # of one object that is read at once: 64 GiB, more than the weights of any model here
UNFINISHED = ".writing-"  # begins the last part of a key that is no object yet: `list` passes over it


class Missing(WrongInput):
    """There is no such object."""


class Damaged(WrongInput):
    """The object is there, and its bytes are not those that were written."""


class Archived(WrongInput):
    """The object is there, and can be read when it has been restored from where it is archived."""


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it. `modified` is in seconds since 1970, by the store's clock."""

    key: str
    bytes: int
    modified: float


class Store(ABC):
    """Objects below one root. Keys are relative, with forward slashes. One store may be used by several threads.

    Every method raises WrongInput, in one line, for what no second try would mend: no such bucket or folder, keys that
    are wrong, no permission. It raises Outage where there is no room, the disk fails, or the endpoint stays away; it is
    not caught with what is damaged or missing, for nothing is known of the object then.
    """

    root: str

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    @abstractmethod
    def probe(self) -> str:
        """Try whether objects can be written here, before work is done for it. Leaves nothing behind.

        Returns: empty, or one line that says what `create` does instead where the store cannot exclude racing writers.
        """

    def expect(self) -> None:  # noqa: B027 (a folder is never waited for)
        """Say that it has answered before, as when a run was configured: from now on its silence is waited out."""

    @abstractmethod
    def read(self, key: str, most: int = MOST_BYTES) -> bytes:
        """The object's bytes; raises Missing, Archived, or Damaged where the store can tell that they are others.

        What has more bytes than `most` is not read, nor, in a folder, what is no plain file: it is Damaged. Whatever `entries` lists can be read, by other programs' keys too.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Create or replace the object, atomically."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write the object only where none is; False, and nothing written, where one is. Of racing writers one wins."""

    @abstractmethod
    def renew(self, key: str) -> bool:
        """Let the object count as written just now, so that `ddpm gc` spares it; False where there is none."""

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """All objects below the folder `prefix`, sorted by key."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of all objects below the folder `prefix`, sorted."""
        return (entry.key for entry in self.entries(prefix))

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; it is no error where there is none."""

    @abstractmethod
    def delete_older(self, key: str, than: float) -> bool:
        """Remove the object if it was written or renewed before `than` (`Entry.modified`); whether it was removed."""

    @abstractmethod
    def unfinished(self) -> Iterator[Entry]:
        """What writers that were killed left below the root: it is no object, and takes room."""

    @abstractmethod
    def delete_unfinished(self, entry: Entry) -> None:
        """Remove one of them."""

    @abstractmethod
    def now(self) -> float:
        """The store's own clock, which ages are counted by."""

    @abstractmethod
    def local(self, key: str, sha256: str) -> Path:
        """A path on this machine's disk from which the object can be mapped. Raises Damaged where the bytes are others."""


def checked_key(key: str) -> str:
    """The key as it is. Raises WrongInput where it would leave the store."""
    parts = PurePosixPath(key)
    if parts.is_absolute() or ".." in parts.parts or "\0" in key:
        raise WrongInput(f"'{key}' is not a key below a store: keys are relative and hold no '..'")
    return key


def is_unfinished(key: str) -> bool:
    return key.rpartition("/")[2].startswith(UNFINISHED)


def require_digest(path: Path, sha256: str, uri: str) -> None:
    """Raise Damaged unless the file's bytes have this digest."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise Damaged(f"{uri}: its bytes are damaged (sha256 {found[:12]}…, expected {sha256[:12]}…); publish it again")
