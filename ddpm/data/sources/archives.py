"""Pictures in an archive: zip, tar and compressed tar, read in place and never unpacked into a folder.

An archive is refused as a whole where it holds a path that leads out of it, a link, a device, or more than it could
hold in good faith: whoever made it, made it with care.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from ddpm.data.sources.source import (
    PICTURE_ENDINGS,
    Content,
    Source,
    by_folders,
    is_hidden,
    is_picture,
    printable,
    within_limit,
)
from ddpm.data.sources.spec import Spec, path_after, plain_path, telling
from ddpm.data.sources.spool import Spool, read_at
from ddpm.errors import WrongInput

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
EXPANSION = 100  # times its own size, and
ALWAYS_ALLOWED = 2**30  # bytes: what an archive may unpack to; more is taken for a bomb
# What the readers raise on damaged files; the last four come out of zipfile's own parsing of a damaged directory.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile,
    NotImplementedError, UnicodeDecodeError, IndexError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Archive(Spec):
    """`archive:/file`, or the path of a file that is called like one."""

    path: Path

    @classmethod
    def recognise(cls, source: str) -> Archive | None:
        if (said := path_after("archive", source, "file")) is not None:
            return cls(said)
        path = plain_path(source)
        return cls(path) if path is not None and is_archive(path.name) and not path.is_dir() else None

    @classmethod
    def form(cls) -> str:
        return "archive:FILE"

    def check(self) -> None:
        require_archive(self.path)

    def open(self) -> Source:
        return from_archive(self.path)

    def title(self) -> str:
        stem = re.sub(r"(\.tar)?\.[a-z0-9]+$", "", self.path.name, flags=re.IGNORECASE)
        return telling((*self.path.absolute().parent.parts, stem))

    def absolute(self) -> str:
        return f"archive:{self.path.absolute()}"

    def local_paths(self) -> tuple[Path, ...]:
        return (self.path.absolute(),)


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_ENDINGS)


def require_archive(file: Path) -> None:
    """Raise WrongInput unless the file is there and is an archive by its first bytes."""
    if not file.exists():
        raise WrongInput(f"source: there is no file {file}; name an archive ({' '.join(ARCHIVE_ENDINGS)})")
    if not file.is_file():
        raise WrongInput(f"source: {file} is no file; name an archive, or write folder:{file}")
    try:
        with file.open("rb") as opened:
            first = opened.read(512)
    except OSError as problem:
        raise WrongInput(f"source: {file} cannot be read: {problem.strerror}; ask for permission") from None
    if not (first.startswith((b"PK", *COMPRESSED)) or first[257:262] == b"ustar" or tarfile.is_tarfile(file)):
        raise WrongInput(f"source: {file} is no archive that is known here; pack it as zip, tar or tar.gz")


def from_archive(file: Path, kind: str = "archive", facts: dict[str, Any] | None = None) -> Source:
    """Pictures of an archive; its folders are the classes. Folders that hold everything else are looked through."""
    found, passed_over = members(file)
    if not found:
        raise WrongInput(f"source: {file} holds no pictures ({' '.join(PICTURE_ENDINGS)}); name an archive that does")
    return by_folders(kind, _without_wrapping(found), facts or {}, passed_over)


def members(file: Path, wanted: Callable[[str], bool] = is_picture) -> tuple[dict[str, Content], int]:
    """An archive's pictures (or what else is wanted) by name, and how many files are none."""
    require_archive(file)
    try:
        return _of_zip(file, wanted) if zipfile.is_zipfile(file) else _of_tar(file, wanted)
    except DAMAGE as problem:
        raise WrongInput(f"source: {file} is damaged: {' '.join(str(problem).split())[:120]}; fetch it again") from None


def _of_zip(file: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, Content], int]:
    archive = zipfile.ZipFile(file)
    found: dict[str, Content] = {}
    passed_over = total = 0
    for entry in archive.infolist():
        _require_inside(file, entry.filename)
        total += entry.file_size
        _require_bounded(file, total)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _refused(file, entry.filename, "is a link")
        if entry.is_dir():
            continue
        name = printable(entry.filename)
        if not wanted(name):
            passed_over += not is_hidden(name)
            continue
        if entry.flag_bits & 1:
            raise WrongInput(f"source: {file}: {name} is encrypted; pack the pictures without a password")
        _require_new(file, name, found)
        found[name] = within_limit(entry.file_size, partial(_zip_member, archive, entry))
    return found, passed_over


def _zip_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A member's bytes; raises OSError where they are damaged."""
    try:
        return archive.read(entry)
    except DAMAGE as problem:
        raise OSError(None, f"damaged in the archive: {' '.join(str(problem).split())[:80]}") from None


def _of_tar(file: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, Content], int]:
    opened = _plain(file)
    size = opened.seek(0, 2)
    opened.seek(0)
    found: dict[str, Content] = {}
    passed_over = 0
    with tarfile.open(fileobj=opened, mode="r:") as archive:
        for entry in archive:
            _require_inside(file, entry.name)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise _refused(file, entry.name, "is a link" if entry.issym() or entry.islnk() else "is no plain file")
            name = printable(entry.name.removeprefix("./"))
            if not wanted(name):
                passed_over += not is_hidden(name)
                continue
            if entry.offset_data + entry.size > size:
                raise WrongInput(f"source: {file} is damaged: it ends within {name}; fetch it again")
            _require_new(file, name, found)
            found[name] = within_limit(entry.size, partial(read_at, opened, entry.offset_data, entry.size))
            archive.members = []  # type: ignore[attr-defined]  # else it keeps them all, for nothing
        # A header that is damaged, or not there, ends the list as the end mark does: only that one is the end.
        opened.seek(archive.offset)
        if opened.read(512) != bytes(512):
            raise WrongInput(f"source: {file} is damaged: no end mark after byte {archive.offset:,}; fetch it again")
    return found, passed_over


COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def _plain(file: Path) -> IO[bytes]:
    """A tar file that can be read in any order: itself, or, where it is compressed, what it unpacks to."""
    opened = file.open("rb")
    first = opened.read(6)
    opener = next((opener for mark, opener in COMPRESSED.items() if first.startswith(mark)), None)
    if opener is None:
        return opened
    spool = Spool()
    try:
        with opened, opener(file) as unpacked:
            while piece := unpacked.read(2**20):
                _require_bounded(file, len(spool) + len(piece))
                spool.add(piece)
    except OSError as problem:  # bz2's way to say that it is damaged
        raise EOFError(str(problem)) from None
    return spool.finish()


def _refused(file: Path, name: str, reason: str) -> WrongInput:
    return WrongInput(
        f"source: {file} is refused: '{printable(name)}' {reason}; pack the pictures themselves, by relative paths"
    )


def _require_inside(file: Path, name: str) -> None:
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:2] == ":":
        raise _refused(file, name, "is an absolute path")
    if ".." in plain.split("/"):
        raise _refused(file, name, "leads out of it")


def _require_new(file: Path, name: str, found: dict[str, Content]) -> None:
    if name in found:
        raise _refused(file, name, "is there twice")


def _require_bounded(file: Path, unpacked: int) -> None:
    packed = file.stat().st_size
    if unpacked > max(ALWAYS_ALLOWED, EXPANSION * packed):
        raise WrongInput(
            f"source: {file} is refused: its {packed:,} bytes unpack to more than {max(ALWAYS_ALLOWED, EXPANSION * packed):,}, "
            "taken for a bomb; unpack it by hand if you trust it, and give the folder"
        )


def _without_wrapping(found: dict[str, Content]) -> dict[str, Content]:
    """An archive often holds one folder that holds the class folders: that one is no class."""
    while True:
        parts = [name.split("/", 2) for name in found]
        if len({part[0] for part in parts}) != 1 or min(len(part) for part in parts) < 3:
            return found
        found = {name.split("/", 1)[1]: content for name, content in found.items()}
