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

from ddpm.data.formats import what_it_is
from ddpm.data.sources import zips
from ddpm.data.sources.layout import by_folders
from ddpm.data.sources.source import (
    Content,
    PassedOver,
    Source,
    is_picture,
    no_pictures,
    printable,
    within_limit,
)
from ddpm.data.sources.spec import Spec, path_after, plain_path, telling
from ddpm.data.sources.spool import Spool, read_at, require_bounded
from ddpm.errors import WrongInput

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
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
        # Of a file without a size, as the kernel's own are, nothing is read: it may never end.
        first = b""
        if file.stat().st_size:
            with file.open("rb") as opened:
                first = opened.read(512)
    except OSError as problem:
        raise WrongInput(f"source: {file} cannot be read: {problem.strerror}; ask for permission") from None
    if not first:
        raise WrongInput(f"source: {file} is empty; fetch it again")
    if not (first.startswith((b"PK", *COMPRESSED)) or first[257:262] == b"ustar" or tarfile.is_tarfile(file)):
        found = what_it_is(first) or "no archive that is known here; pack it as zip, tar or tar.gz"
        raise WrongInput(f"source: {file} is {found}")


def from_archive(file: Path, kind: str = "archive", facts: dict[str, Any] | None = None) -> Source:
    """Pictures of an archive; its folders are the classes. Folders that hold everything else are looked through."""
    found, passed_over = members(file)
    if not found:
        raise WrongInput(no_pictures(file, passed_over))
    return by_folders(kind, found, facts or {}, passed_over)


def members(file: Path, wanted: Callable[[str], bool] = is_picture) -> tuple[dict[str, Content], PassedOver]:
    """An archive's pictures (or what else is wanted) by name, and the files that are none."""
    require_archive(file)
    try:
        return _of_zip(file, wanted) if zipfile.is_zipfile(file) else _of_tar(file, wanted)
    except DAMAGE as problem:
        raise WrongInput(f"source: {file} is damaged: {' '.join(str(problem).split())[:120]}; fetch it again") from None


def _of_zip(file: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, Content], PassedOver]:
    opened = file.open("rb")
    found: dict[str, Content] = {}
    passed_over, total = PassedOver(), 0
    for entry in zipfile.ZipFile(opened).infolist():
        said = zips.name_as_text(entry)
        name = _plain_name(file, entry.filename if said is None else said)
        total += entry.file_size
        require_bounded(file, total)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _refused(file, entry.filename, "is a link")
        if entry.is_dir() or (said or "").endswith("\\"):
            continue
        if not wanted(name):
            passed_over.add(name)
            continue
        if said is None:
            raise _refused(file, name, "is a name in a code page that the archive does not state", RENAME)
        if entry.flag_bits & 1:
            raise WrongInput(f"source: {file}: {name} is encrypted; pack the pictures without a password")
        _require_new(file, name, found)
        found[name] = zips.member(opened, entry)
    return found, passed_over


def _of_tar(file: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, Content], PassedOver]:
    opened = _plain(file)
    size = opened.seek(0, 2)
    opened.seek(0)
    found: dict[str, Content] = {}
    passed_over = PassedOver()
    with tarfile.open(fileobj=opened, mode="r:") as archive:
        for entry in archive:
            name = _plain_name(file, entry.name)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise _refused(file, entry.name, "is a link" if entry.issym() or entry.islnk() else "is no plain file")
            if not wanted(name):
                passed_over.add(name)
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
                require_bounded(file, len(spool) + len(piece))
                spool.add(piece)
    except OSError as problem:  # bz2's way to say that it is damaged
        raise EOFError(str(problem)) from None
    return spool.finish()


PACK = "pack the pictures themselves, by relative paths"
DRIVE = re.compile("[A-Za-z]:")  # as a whole: `a:b/1.png` lies in a folder that is called a:b
RENAME = "pack it anew with names in UTF-8, or unpack it and give the folder"


def _refused(file: Path, name: str, reason: str, right: str = PACK) -> WrongInput:
    return WrongInput(f"source: {file} is refused: '{printable(name)}' {reason}; {right}")


def _plain_name(file: Path, name: str) -> str:
    """A member's name as a relative path with forward slashes, whoever packed it: `./a\\b.png` is a/b.png.

    Raises WrongInput where it leads out of the archive.
    """
    parts = printable(name.replace("\\", "/")).split("/")  # then, for `printable` writes bytes with backslashes
    if len(parts) > 1 and (not parts[0] or DRIVE.fullmatch(parts[0])):
        raise _refused(file, name, "is an absolute path")
    if ".." in parts:
        raise _refused(file, name, "leads out of it")
    return "/".join(part for part in parts if part not in ("", "."))


def _require_new(file: Path, name: str, found: dict[str, Content]) -> None:
    if name in found:
        raise _refused(file, name, "is there twice")
