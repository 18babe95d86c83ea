"""Objects by URI or plain path: a folder and S3 behind one small interface.

A store is a root (`/path`, `file:///path` or `s3://bucket/prefix`) and keys below it. Writes are whole or not at all;
`create` never overwrites. boto3 is imported for `s3://` only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ddpm.errors import WrongInput


class Missing(WrongInput):
    """There is no such object."""


class Store(ABC):
    """Objects below one root. Keys are relative, with forward slashes."""

    root: str

    def uri(self, key: str) -> str:
        return f"{self.root}/{key}"

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The object's bytes; raises Missing."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Create or replace the object, atomically."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write the object only where none is; False, and nothing written, where one is. Of racing writers one wins."""

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """Keys of all objects below the folder `prefix`, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; it is no error where there is none."""

    @abstractmethod
    def local(self, key: str, sha256: str) -> Path:
        """A path on this machine's disk from which the object can be mapped. Raises WrongInput where the bytes are others."""


class FileStore(Store):
    """A folder. `create` is a hard link to a finished temporary file, which gives exactly one winner."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).expanduser().absolute())

    def path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        if parts.is_absolute() or ".." in parts.parts:
            raise WrongInput(f"'{key}' is not a key below a store: keys are relative and hold no '..'")
        return Path(self.root, key)

    def read(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Missing(f"there is no object {self.uri(key)}") from None

    def _finished_file(self, path: Path, data: bytes) -> str:
        """A temporary file beside `path` with all of the data on disk. Raises WrongInput where it cannot be written."""
        name = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            name = str(path.parent / f".writing-{uuid.uuid4().hex}")
            with open(name, "xb") as file:  # with the rights that the user's files have
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as problem:
            if name:
                Path(name).unlink(missing_ok=True)
            if isinstance(problem, OSError):
                raise WrongInput(
                    f"cannot write {path}: {problem.strerror}; name a folder that can be written and has room"
                ) from None
            raise
        return name

    def write(self, key: str, data: bytes) -> None:
        path = self.path(key)
        os.replace(self._finished_file(path, data), path)

    def create(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        if path.exists():
            return False
        name = self._finished_file(path, data)
        try:
            os.link(name, path)
            return True
        except FileExistsError:
            return False
        finally:
            os.unlink(name)

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        base = self.path(prefix)
        for path in sorted(base.rglob("*")):
            if path.is_file() and not path.name.startswith(".writing-"):
                yield path.relative_to(self.root).as_posix()

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def local(self, key: str, sha256: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise Missing(f"there is no object {self.uri(key)}")
        _require_digest(path, sha256, self.uri(key))
        return path


class S3Store(Store):
    """A prefix of a bucket. Credentials and endpoint come from the standard AWS chain (AWS_ENDPOINT_URL and the like)."""

    def __init__(self, root: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(root)
        if not parts.netloc:
            raise WrongInput(f"'{root}' names no bucket; write s3://BUCKET/PREFIX")
        self.root = root.rstrip("/")
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/")
        # "when_required": servers other than AWS's refuse the newer default checksums.
        self.client = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "max_attempts": 6},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextlib.contextmanager
    def _plainly(self, operation: str, key: str) -> Iterator[None]:
        """Says the usual failures of an S3 operation in one line."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as problem:
            code = problem.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise Missing(f"there is no object {self.uri(key)}") from None
            if code in ("NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
                raise WrongInput(
                    f"{operation} {self.uri(key)}: {code}; check the bucket's name and the credentials"
                ) from None
            raise
        except BotoCoreError as problem:
            raise WrongInput(
                f"{operation} {self.uri(key)}: {problem}; check the endpoint and the credentials"
            ) from None

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        with self._plainly(operation, key):
            return getattr(self.client, operation)(Bucket=self.bucket, Key=self._key(key), **arguments)

    def read(self, key: str) -> bytes:
        return self._call("get_object", key)["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        self._call("put_object", key, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        if self.exists(key):  # some servers ignore the condition: there this look leaves only the race open
            return False
        try:
            self._call("put_object", key, Body=data, IfNoneMatch="*")
            return True
        except ClientError as problem:
            code = problem.response.get("Error", {}).get("Code", "")
            if code in ("PreconditionFailed", "412"):
                return False
            if code in ("ConditionalRequestConflict", "409"):  # another writer is at it: look again at what it left
                return self.create(key, data)
            raise

    def exists(self, key: str) -> bool:
        try:
            self._call("head_object", key)
            return True
        except Missing:
            return False

    def list(self, prefix: str) -> Iterator[str]:
        folder = self._key(prefix).rstrip("/")
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=folder and folder + "/"
        )
        skip = len(self.prefix) + 1 if self.prefix else 0
        with self._plainly("list_objects_v2", prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    yield item["Key"][skip:]

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def local(self, key: str, sha256: str) -> Path:
        cache = Path(os.environ.get("DDPM_CACHE", Path.home() / ".cache" / "ddpm"), sha256)
        if not cache.is_file():
            FileStore(cache.parent).write(cache.name, self.read(key))
        try:
            _require_digest(cache, sha256, self.uri(key))
        except WrongInput:
            cache.unlink(missing_ok=True)
            raise
        return cache


def _require_digest(path: Path, sha256: str, uri: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WrongInput(
            f"{uri}: its bytes are damaged (sha256 {found[:12]}…, expected {sha256[:12]}…); publish it again"
        )


def open_store(uri: str) -> Store:
    """The store whose root is `uri`."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return S3Store(uri)
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
    return open_store(folder if folder or not uri.startswith("/") else "/"), name


def read_object(uri: str) -> bytes:
    """The bytes of the object at `uri`; raises Missing."""
    store, name = open_object(uri)
    return store.read(name)
