"""An object's way down from S3: into memory or to the disk, in ranges where it is large, and checked when it is here."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ddpm.errors import Outage, WrongInput
from ddpm.store.abilities import abilities_of
from ddpm.store.base import UNFINISHED, Damaged, require_digest
from ddpm.store.bucket import TAKEN, Bucket
from ddpm.store.files import OUTAGES, FileStore
from ddpm.store.problems import TryAgain, code_of
from ddpm.store.transfer import PARTS_AT_ONCE, is_whole


def fetch(bucket: Bucket, key: str, most: int) -> bytes:
    """One try at an object's bytes, checked by its ETag. Raises TryAgain, what botocore does, or Damaged for too many."""
    answer = bucket.client.get_object(**bucket.at(key))
    size = answer["ContentLength"]
    if size > most:
        answer["Body"].close()
        raise Damaged(
            f"{bucket.uri(key)} is no object: it has {size:,} bytes, and {most:,} are the most that are read; move it away"
        )
    part_bytes = bucket.wire.part_size(size)
    if size > 2 * part_bytes:
        answer["Body"].close()
        data = bytearray(size)

        def keep(start: int, part: bytes) -> None:
            data[start : start + len(part)] = part

        _fetch_parts(bucket, key, size, part_bytes, answer["ETag"], keep)
        whole: bytes = bytes(data)
    else:
        whole = answer["Body"].read()
    whole_as_said = is_whole(whole, answer, part_bytes)
    if len(whole) != size or (whole_as_said is False and abilities_of(bucket).md5_etags):
        raise TryAgain("its bytes are damaged: their MD5 is not its ETag", Damaged)
    return whole


def _fetch_parts(
    bucket: Bucket, key: str, size: int, part_bytes: int, etag: str, keep: Callable[[int, bytes], None]
) -> None:
    """Ranges of one and the same object, several at a time; each is tried again by itself."""

    def fetch_part(start: int) -> None:
        keep(start, _fetch_range(bucket, key, start, min(part_bytes, size - start), size, etag))

    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        for _ in pool.map(fetch_part, range(0, size, part_bytes)):
            pass


def _fetch_range(bucket: Bucket, key: str, start: int, length: int, size: int, etag: str) -> bytes:
    """Bytes of an object that is `size` long. Raises TryAgain where it is another one by now."""
    from botocore.exceptions import ClientError

    span = f"{start}-{start + length - 1}"

    def ask(attempt: int) -> tuple[bytes, str]:
        answer = bucket.client.get_object(**bucket.at(key), Range=f"bytes={span}", IfMatch=etag)
        data, (said, _, total) = answer["Body"].read(), str(answer.get("ContentRange", "")).partition("/")
        if said != f"bytes {span}" or len(data) != length:
            raise TryAgain("the answer is not the range that was asked for")
        return data, total

    try:
        data, total = bucket.tried("read", key, ask)
    except ClientError as problem:
        if code_of(problem) not in TAKEN:
            raise
        raise TryAgain("it was written anew while it was read") from None
    if total != str(size):  # not for this range alone: whoever asked for it is to begin anew
        raise TryAgain("its size is not the one that was said before")
    return data


def download(bucket: Bucket, key: str, sha256: str, path: Path) -> None:
    """Part by part to the disk, so that memory stays flat; named only when its digest is right."""
    folder = FileStore(path.parent)
    folder.probe()
    aside = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")

    def fill(attempt: int) -> None:
        answer = bucket.head(key)
        size = answer["ContentLength"]
        with open(aside, "wb") as file:
            file.truncate(size)
            handle, lock = file.fileno(), threading.Lock()

            def keep(start: int, part: bytes) -> None:
                with lock:
                    os.pwrite(handle, part, start)

            _fetch_parts(bucket, key, size, bucket.wire.part_size(size), answer["ETag"], keep)
            os.fsync(handle)
        require_digest(aside, sha256, bucket.uri(key))

    try:
        try:
            bucket.tried("read", key, fill)
        except Damaged:  # on the way, or where it lies: a second look tells
            bucket.tried("read", key, fill)
        os.replace(aside, path)
    except OSError as problem:
        kind = Outage if problem.errno in OUTAGES else WrongInput
        raise kind(
            f"cannot write {path}: {problem.strerror}; make room there, or set DDPM_CACHE to another folder"
        ) from None
    finally:
        aside.unlink(missing_ok=True)
