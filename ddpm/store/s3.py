"""A prefix of a bucket as a store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from ddpm.places import cache_folder
from ddpm.store.abilities import abilities_of
from ddpm.store.base import MOST_BYTES, Damaged, Entry, Missing, Store, checked_key, is_unfinished, require_digest
from ddpm.store.bucket import Bucket
from ddpm.store.download import download, fetch
from ddpm.store.transfer import Wire, expect
from ddpm.store.upload import upload

MOST_COPIED = 5 * 2**30  # bytes that S3 copies at once
UPLOAD = "#"  # between a key and an upload's id, in the key of an unfinished entry


class S3Store(Store):
    """A prefix of a bucket. Credentials and endpoint: `ddpm.store.account`, or the standard AWS chain.

    An upload is checked by the ETag that comes back, and where that tells nothing by reading the object again; a
    download by the ETag. `create` asks for If-None-Match where the endpoint keeps to it.
    """

    def __init__(self, root: str, wire: Wire | None = None) -> None:
        self.bucket = Bucket(root, wire)
        self.root = self.bucket.root

    def probe(self) -> str:
        if abilities_of(self.bucket).conditional:
            return ""
        return (
            f"{self.bucket.endpoint} does not keep to If-None-Match: objects are created in {self.root} by looking, "
            "writing and reading back; of two writers of one name at the same moment both may think they were first "
            "(data sets are safe: equal names mean equal bytes; promote from one place at a time)"
        )

    def expect(self) -> None:
        expect(self.bucket.endpoint)

    def now(self) -> float:
        client, name = self.bucket.client, self.bucket.name
        answer = self.bucket.tried("list", "", lambda _: client.list_objects_v2(Bucket=name, MaxKeys=1))
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes) -> None:
        upload(self.bucket, checked_key(key), data, {})

    def create(self, key: str, data: bytes) -> bool:
        conditional = abilities_of(self.bucket).conditional  # asked first: it tells wrong keys from no permission
        if self.exists(key):  # spares the upload
            return False
        if conditional:
            return upload(self.bucket, checked_key(key), data, {"IfNoneMatch": "*"})
        self.write(key, data)
        return self.read(key) == data

    def renew(self, key: str) -> bool:
        try:
            if self.bucket.head(key)["ContentLength"] > MOST_COPIED:
                self.write(key, self.read(key))
            else:  # onto itself, which is allowed where something changes
                changed = {"MetadataDirective": "REPLACE", "Metadata": {"renewed": "1"}}
                self.bucket.ask("write", "copy_object", key, CopySource=self.bucket.at(key), **changed)
            return True
        except Missing:
            return False

    # -- reading ----------------------------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        try:
            self.bucket.head(key)
            return True
        except Missing:
            return False

    def read(self, key: str, most: int = MOST_BYTES) -> bytes:
        return self.bucket.tried("read", key, lambda _: fetch(self.bucket, key, most))

    def local(self, key: str, sha256: str) -> Path:
        """In the cache, by its digest: fetched once, and again where what lies there is damaged."""
        cache = cache_folder() / sha256
        if cache.is_file():
            with contextlib.suppress(Damaged):
                require_digest(cache, sha256, self.uri(key))
                return cache
        download(self.bucket, key, sha256, cache)
        return cache

    # -- listing and removing ---------------------------------------------------------------------------------------

    def _page(self, operation: str, prefix: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self.bucket.tried("list", prefix, lambda _: getattr(self.bucket.client, operation)(**arguments))

    def entries(self, prefix: str) -> Iterator[Entry]:
        # S3 lists in this order; SeaweedFS lists `a/b` before `a-b`.
        found = (entry for entry in self._objects(prefix) if not is_unfinished(entry.key))
        yield from sorted(found, key=lambda entry: entry.key)

    def _objects(self, prefix: str) -> Iterator[Entry]:
        folder = self.bucket.name_of(prefix).rstrip("/")
        arguments = {"Bucket": self.bucket.name, "Prefix": folder and folder + "/"}
        while True:
            page = self._page("list_objects_v2", prefix, arguments)
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # some consoles write an object for a folder
                    yield Entry(self.bucket.key_of(item["Key"]), item["Size"], item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        with contextlib.suppress(Missing):
            self.bucket.ask("delete", "delete_object", key)

    def delete_older(self, key: str, than: float) -> bool:
        """S3 deletes under no such condition: between the look and the deletion there is the time of one request."""
        try:
            if self.bucket.head(key)["LastModified"].timestamp() >= than:
                return False
        except Missing:
            return False
        self.delete(key)
        return True

    def unfinished(self) -> Iterator[Entry]:
        yield from (entry for entry in self._objects("") if is_unfinished(entry.key))
        arguments = {"Bucket": self.bucket.name, "Prefix": self.bucket.prefix and self.bucket.prefix + "/"}
        while True:
            try:
                page = self._page("list_multipart_uploads", "", arguments)
            except Missing:  # what some servers say where there are none
                return
            for begun in page.get("Uploads", []):
                key = f"{self.bucket.key_of(begun['Key'])}{UPLOAD}{begun['UploadId']}"
                yield Entry(key, self._uploaded_bytes(begun), begun["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _uploaded_bytes(self, begun: dict[str, Any]) -> int:
        """What an unfinished upload holds, by the first thousand of its parts."""
        place = {"Bucket": self.bucket.name, "Key": begun["Key"], "UploadId": begun["UploadId"]}
        try:
            page = self._page("list_parts", self.bucket.key_of(begun["Key"]), place)
        except Missing:  # ended since it was listed
            return 0
        return sum(part["Size"] for part in page.get("Parts", []))

    def delete_unfinished(self, entry: Entry) -> None:
        key, _, upload_id = entry.key.rpartition(UPLOAD)
        if not is_unfinished(entry.key):
            with contextlib.suppress(Missing):
                self.bucket.ask("delete", "abort_multipart_upload", key, UploadId=upload_id)
        else:
            self.delete(entry.key)
