"""Where pictures come from.

digits · flowers102 · dalle-dogs · celeba · cifar10   by name (named.py); all but digits are downloaded, once
NAME:/path                       the same from files already on disk: the distribution's own, or plain pictures
NAME@REVISION                    another revision than the pinned one (dalle-dogs)
folder:/path, or /path           any pictures: a folder a class, or all in one
archive:/file.zip, or /file.zip  the same in a zip, a tar or a compressed tar
parquet:/path/*.parquet          a column of encoded pictures, found by its type
s3://bucket/prefix               pictures that lie in a bucket
STORE/datasets/NAME/DIGEST.json  a data set that is published already: used as it is
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ddpm.data.manifest import read_manifest
from ddpm.data.sources.archives import from_archive, is_archive, require_archive
from ddpm.data.sources.buckets import from_bucket, require_bucket
from ddpm.data.sources.folders import from_folder, require_pictures
from ddpm.data.sources.named import NAMED, WITH_REVISIONS
from ddpm.data.sources.parquet import from_parquet, require_parquet
from ddpm.data.sources.source import Picture, Source
from ddpm.errors import WrongInput

__all__ = [
    "NAMED",
    "Origin",
    "Picture",
    "Source",
    "check_source",
    "is_published",
    "open_source",
    "parse_source",
]

KINDS = ("folder", "archive", "parquet")


class Origin(NamedTuple):
    """A source as written, taken apart: "folder", "archive", "parquet", "bucket" or a name; its path; its revision."""

    kind: str
    path: Path | None = None
    revision: str = ""


def is_published(source: str) -> bool:
    """Whether a source is written as a data set's URI."""
    return re.search(r"/datasets/[^/]+/[0-9a-f]{64}\.json$", source) is not None


def parse_source(source: str) -> Origin:
    """Take a source apart. Raises WrongInput for one that is unknown, or incomplete."""
    if source.startswith("s3://"):
        return Origin("bucket")
    kind, colon, path = source.partition(":")
    if colon and (kind in KINDS or kind in NAMED):
        if not path:
            what = "file" if kind == "archive" else "files" if kind == "parquet" else "folder"
            raise WrongInput(f"source: '{source}' names no {what}; write {kind}:/path")
        return Origin(kind, Path(path).expanduser())
    name, at, revision = source.partition("@")
    if name in NAMED and (not at or (name in WITH_REVISIONS and revision)):
        return Origin(name, None, revision)
    if colon and "/" not in kind:
        raise WrongInput(
            f"source: there is no kind '{kind}'; there are folder:DIR, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX and {', '.join(f'{name}[:DIR]' for name in NAMED)}"
        )
    if "/" in source or source.startswith((".", "~")) or Path(source).exists():
        there = Path(source).expanduser()
        return Origin("archive" if is_archive(there.name) and not there.is_dir() else "folder", there)
    raise WrongInput(
        f"source: there is none named '{source}'; there are {', '.join(NAMED)}, or give a folder: folder:DIR"
    )


def check_source(source: str) -> None:
    """Raise WrongInput for a source that is unknown, missing or holds no pictures. Cheap; asks no other site."""
    if is_published(source):
        read_manifest(source)
        return
    kind, path, _ = parse_source(source)
    if kind == "bucket":
        require_bucket(source)
    elif kind == "folder" and path is not None:
        require_pictures(path)
    elif kind == "archive" and path is not None:
        require_archive(path)
    elif kind == "parquet":
        require_parquet(str(path))
    elif path is not None and not path.exists():
        raise WrongInput(
            f"source: there is no folder {path}; give one that holds {kind}, or write {kind} alone to have it downloaded"
        )


def open_source(source: str) -> Source:
    """All pictures of a source, by name; their bytes are read later, one by one."""
    kind, path, revision = parse_source(source)
    if kind == "bucket":
        return from_bucket(source)
    if kind == "folder" and path is not None:
        return from_folder(path)
    if kind == "archive" and path is not None:
        return from_archive(path)
    if kind == "parquet":
        return from_parquet(require_parquet(str(path)))
    return NAMED[kind](path, revision)
