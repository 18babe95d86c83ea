"""Objects by URI or plain path: a folder and S3 behind one small interface.

    base.py       what a store promises
    reading.py    what was written, read back and checked
    files.py      a folder
      tree.py       what lies below one
    s3.py         a prefix of a bucket, by boto3, which is imported for `s3://` only
      bucket.py     one request to it
      abilities.py  what its endpoint can do
      upload.py     an object's way up
      download.py   an object's way down
      account.py    whose account, by names of our own
      transfer.py   what both have in common: the client, tries with backoff, parts, digests
      problems.py   what went wrong, in one line

A store is a root (`/path`, `file:///path` or `s3://bucket/prefix`) and keys below it. Writes are whole or not at all;
`create` never overwrites.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ddpm.errors import WrongInput
from ddpm.places import require_place
from ddpm.store.base import Archived, Damaged, Entry, Missing, Store
from ddpm.store.files import FileStore
from ddpm.store.s3 import S3Store
from ddpm.store.transfer import HASTY

__all__ = [
    "Archived",
    "Damaged",
    "Entry",
    "FileStore",
    "Missing",
    "S3Store",
    "Store",
    "open_object",
    "open_store",
    "read_object",
]


def open_store(uri: str, hasty: bool = False) -> Store:
    """The store whose root is `uri`. Nothing is looked at yet: `Store.probe` does that. Raises WrongInput for no place.

    Args:
        hasty: whether an endpoint that does not answer at once is given up: somebody is waiting who can do without.
    """
    require_place("store", uri)
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return S3Store(uri, HASTY if hasty else None)
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc:
            raise WrongInput(f"'{uri}' names the host '{parts.netloc}'; write a plain path, or file:///absolute/path")
        return FileStore(parts.path)
    if "://" in uri:
        raise WrongInput(f"'{uri}': there is no store for {scheme}://; use a path, file:/// or s3://")
    return FileStore(uri)


def open_object(uri: str) -> tuple[Store, str]:
    """The store of the object's own folder, and its key there."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return open_store(folder or ("/" if uri.startswith("/") else ".")), name


def read_object(uri: str) -> bytes:
    """The bytes of the object at `uri`; raises Missing."""
    store, name = open_object(uri)
    return store.read(name)
