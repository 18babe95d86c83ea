"""A folder as a store."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddpm.errors import Outage, WrongInput
from ddpm.places import local_path
from ddpm.plain_files import NoPlainFile, read_plain
from ddpm.store.base import (
    MOST_BYTES,
    UNFINISHED,
    Damaged,
    Entry,
    Missing,
    Store,
    checked_key,
    is_unfinished,
    require_digest,
)
from ddpm.store.tree import walk


class FileStore(Store):
    """A folder. `create` is a hard link to a finished temporary file, which gives exactly one winner."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(local_path(str(root)))

    def path(self, key: str) -> Path:
        return Path(self.root, checked_key(key))

    def probe(self) -> str:
        path = Path(self.root, "probe")
        os.unlink(self._finished_file(path, b""))
        return ""

    def read(self, key: str, most: int = MOST_BYTES) -> bytes:
        with self._reading(key):
            return read_plain(self.path(key), most)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Missing(f"there is no object {self.uri(key)}") from None
        except NoPlainFile as problem:
            raise Damaged(f"{self.uri(key)} is no object: {problem.strerror}; move it away") from None
        except OSError as problem:
            raise _said("read", self.path(key), problem) from None

    def _finished_file(self, path: Path, data: bytes) -> str:
        """A temporary file beside `path` with all of the data on disk. Raises WrongInput or Outage where it cannot be written."""
        name = str(path.parent / f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            with _opened_anew(Path(name)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as problem:
            with contextlib.suppress(OSError):  # it was not even begun
                os.unlink(name)
            if isinstance(problem, OSError):
                raise _said("write", path, problem) from None
            raise
        return name

    def write(self, key: str, data: bytes) -> None:
        path = self.path(key)
        name = self._finished_file(path, data)
        try:
            os.replace(name, path)
            _settle(path.parent)
        except OSError as problem:
            Path(name).unlink(missing_ok=True)
            raise _said("write", path, problem) from None

    def create(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        if path.exists():
            return False
        name = self._finished_file(path, data)
        try:
            os.link(name, path)
            _settle(path.parent)
            return True
        except FileExistsError:
            return False
        except OSError as problem:
            raise _said("write", path, problem) from None
        finally:
            os.unlink(name)

    def renew(self, key: str) -> bool:
        try:
            os.utime(self.path(key))
            return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as problem:
            raise _said("write", self.path(key), problem) from None

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def entries(self, prefix: str) -> Iterator[Entry]:
        return (entry for entry in self._files(prefix) if not is_unfinished(entry.key))

    def _files(self, prefix: str) -> Iterator[Entry]:
        """Every file below the folder, in the order of their keys."""
        base = self.path(prefix)
        found = []
        for parent, folders, names in walk(str(base), _refuse):
            for name in folders:
                if Path(
                    parent, name
                ).is_symlink():  # what lies there would be overlooked, and what it names taken for garbage
                    raise WrongInput(
                        f"cannot list {Path(parent, name)}: it is a link; move what it points at into the store"
                    )
            for name in names:
                path = Path(parent, name)
                with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                    status = path.stat()
                    found.append(Entry(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime))
        yield from sorted(found, key=lambda entry: entry.key.encode())

    def delete(self, key: str) -> None:
        path = self.path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as problem:
            raise _said("delete", path, problem) from None
        if path.parent != Path(self.root):
            with contextlib.suppress(OSError):  # it is not empty
                path.parent.rmdir()

    def delete_older(self, key: str, than: float) -> bool:
        """Moved aside, looked at, and put back where it is young: no writer's `renew` is lost in between.

        A renewal before the move is seen by the look after it, and one after the move finds nothing, so that its writer
        writes the object anew.
        """
        path = self.path(key)
        aside = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            if path.stat().st_mtime >= than:
                return False
            os.rename(path, aside)
            if aside.stat().st_mtime >= than:
                with contextlib.suppress(FileExistsError):  # written anew meanwhile
                    os.link(aside, path)
                aside.unlink()
                return False
            aside.unlink()
            return True
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise _said("delete", path, problem) from None

    def unfinished(self) -> Iterator[Entry]:
        return (entry for entry in self._files("") if is_unfinished(entry.key))

    def delete_unfinished(self, entry: Entry) -> None:
        self.delete(entry.key)

    def now(self) -> float:
        return time.time()

    def local(self, key: str, sha256: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise Missing(f"there is no object {self.uri(key)}")
        with self._reading(key):
            require_digest(path, sha256, self.uri(key))
        return path


def _settle(folder: Path) -> None:
    """Bring a folder's new name to disk, so that it is there after a power cut too."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # deleted since, with all that was in it
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened_anew(path: Path) -> BinaryIO:
    """A new file, in a folder that is made where it is not there, with the rights that the user's files have."""
    for _ in range(10):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # somebody deleted the folder's last file, and the folder
            return open(path, "xb")
    return open(path, "xb")


def _refuse(problem: OSError) -> None:
    if isinstance(problem, NotADirectoryError) and os.path.isfile(problem.filename):
        raise WrongInput(f"{problem.filename} is a file; a store is a folder, or a bucket's s3://BUCKET/PREFIX")
    if not isinstance(problem, (FileNotFoundError, NotADirectoryError)):  # a folder that is not there holds nothing
        raise _said("list", Path(problem.filename), problem)


RIGHT = {
    errno.ENOSPC: "make room there, or name another folder",
    errno.EDQUOT: "the quota is used up: make room there, or name another folder",
    errno.EACCES: "ask for permission, or name another folder",
    errno.EPERM: "ask for permission, or name a folder on a file system that has hard links",
    errno.EROFS: "name a folder that can be written",
    errno.EIO: "the disk reports an error: look at it, or name another folder",
}
# What may pass, or is the machine's fault: nothing that was asked for is wrong.
OUTAGES = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN,
    errno.EMFILE, errno.ENFILE,
)  # fmt: skip


def _said(verb: str, path: Path, problem: OSError) -> WrongInput | Outage:
    right = RIGHT.get(
        problem.errno or 0,
        f"name a folder that can be {'read' if verb in ('read', 'list') else 'written'} and has room",
    )
    kind = Outage if problem.errno in OUTAGES else WrongInput
    return kind(f"cannot {verb} {path}: {problem.strerror or problem}; {right}")
