"""Pictures that lie in an object store already, as they do on a cluster: `s3://bucket/prefix`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ddpm.data.sources.layout import by_folders
from ddpm.data.sources.source import (
    Content,
    PassedOver,
    Source,
    is_picture,
    keep,
    no_pictures,
    within_limit,
)
from ddpm.data.sources.spec import Spec, telling
from ddpm.errors import WrongInput
from ddpm.store import Archived, Damaged, Missing, Store, open_store


@dataclass(frozen=True)
class Bucket(Spec):
    """`s3://bucket/prefix`"""

    uri: str

    @classmethod
    def recognise(cls, source: str) -> Bucket | None:
        return cls(source) if source.startswith("s3://") else None

    @classmethod
    def form(cls) -> str:
        return "s3://BUCKET/PREFIX"

    def check(self) -> None:
        require_bucket(self.uri)

    def open(self) -> Source:
        return from_bucket(self.uri)

    def title(self) -> str:
        return telling(self.uri.removeprefix("s3://").split("/"))

    def absolute(self) -> str:
        return self.uri


def require_bucket(uri: str) -> None:
    """Raise WrongInput where there is no such bucket, it cannot be listed, or no picture lies below the prefix."""
    passed_over = PassedOver()
    for key in open_store(uri).list(""):
        if is_picture(key):
            return
        passed_over.add(key)
    raise WrongInput(no_pictures(uri, passed_over))


def from_bucket(uri: str) -> Source:
    """Pictures below the prefix. The first part of a key behind it is the class; keys without one have none."""
    store = open_store(uri)
    contents: dict[str, Content] = {}
    passed_over = PassedOver()
    for entry in store.entries(""):
        if is_picture(entry.key):
            keep(contents, uri, entry.key, within_limit(entry.bytes, partial(_read, store, entry.key)))
        else:
            passed_over.add(entry.key)
    if not contents:
        raise WrongInput(no_pictures(uri, passed_over))
    return by_folders("bucket", contents, {}, passed_over)


def _read(store: Store, key: str) -> bytes:
    """An object's bytes; OSError, as of a file, where it is archived, damaged, or has gone since it was listed."""
    try:
        return store.read(key)
    except Archived:
        raise OSError(None, "archived in the bucket; restore it first") from None
    except Damaged:
        raise OSError(None, "damaged in the bucket") from None
    except Missing:
        raise FileNotFoundError(2, "No such object") from None
