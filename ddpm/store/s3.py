"""A prefix of a bucket as a store."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import WrongInput
from ddpm.store.base import (
    UNFINISHED,
    Damaged,
    Entry,
    Missing,
    Store,
    checked_key,
    is_unfinished,
    require_digest,
)  # fmt: skip
from ddpm.store.files import FileStore
from ddpm.store.problems import TryAgain, code_of, said
from ddpm.store.transfer import PARTS_AT_ONCE, Wire, endpoint_of, is_whole, open_client, part_etag, retried

T = TypeVar("T")
GONE = ("NoSuchKey", "404", "NotFound", "NoSuchUpload")
TAKEN = ("PreconditionFailed", "412")
UNKNOWN_CONDITION = ("NotImplemented", "InvalidArgument", "InvalidRequest", "501", "400")
UPLOAD = "#"  # between a key and an upload's id, in the key of an unfinished entry


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint was seen to do with a bucket's objects."""

    conditional: bool  # a second PUT with If-None-Match is refused
    md5_etags: bool  # an ETag that looks like an MD5 is one


_endpoints: dict[tuple[str, str], Endpoint] = {}  # by endpoint and bucket: asked once a process


class S3Store(Store):
    """A prefix of a bucket. Credentials and endpoint come from the standard AWS chain (AWS_ENDPOINT_URL and the like).

    An upload is checked by the ETag that comes back, and where that tells nothing by reading the object again; a
    download by the ETag. `create` asks for If-None-Match where the endpoint keeps to it.
    """

    def __init__(self, root: str, wire: Wire | None = None) -> None:
        parts = urlsplit(root)
        if not parts.netloc:
            raise WrongInput(f"'{root}' names no bucket; write s3://BUCKET/PREFIX")
        self.root = root.rstrip("/")
        self.bucket, self.prefix = parts.netloc, root.removeprefix(f"s3://{parts.netloc}").strip("/")
        self.wire = wire or Wire()
        self.client = open_client(self.wire)

    # -- one request ------------------------------------------------------------------------------------------------

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{checked_key(key)}" if self.prefix else checked_key(key)

    def _relative(self, name: str) -> str:
        return name[len(self.prefix) + 1 :] if self.prefix else name

    def _tried(self, verb: str, key: str, work: Callable[[int], T]) -> T:
        """`work(attempt)` with retries; what they do not mend is raised as Missing or WrongInput."""
        from botocore.exceptions import BotoCoreError, ClientError

        what = f"cannot {verb} {self.uri(key)} at {endpoint_of(self.client)}"
        try:
            return retried(self.wire, what, work)
        except ClientError as problem:
            if code_of(problem) in GONE:
                raise Missing(f"there is no object {self.uri(key)}") from None
            if code_of(problem) in TAKEN:
                raise
            raise WrongInput(f"{what}: {said(problem)}") from None
        except BotoCoreError as problem:
            raise WrongInput(f"{what}: {said(problem)}") from None

    def _ask(self, verb: str, operation: str, key: str, **arguments: Any) -> Any:
        call = getattr(self.client, operation)
        return self._tried(verb, key, lambda _: call(Bucket=self.bucket, Key=self._key(key), **arguments))

    def now(self) -> float:
        answer = self._tried("list", "", lambda _: self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1))
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    # -- conditional writes -----------------------------------------------------------------------------------------

    def probe(self) -> str:
        if self._endpoint().conditional:
            return ""
        return (
            f"{endpoint_of(self.client)} does not keep to If-None-Match: objects are created in {self.root} by looking, "
            "writing and reading back; of two writers of one name at the same moment both may think they were first "
            "(data sets are safe: equal names mean equal bytes; promote from one place at a time)"
        )

    def _endpoint(self) -> Endpoint:
        place = (endpoint_of(self.client), self.bucket)
        if place not in _endpoints:
            key = f"{UNFINISHED}probe-{uuid.uuid4().hex}"
            try:
                _endpoints[place] = self._probed(key)
            finally:
                with contextlib.suppress(WrongInput):  # why nothing can be deleted is on its way already
                    self.delete(key)
        return _endpoints[place]

    def _probed(self, key: str) -> Endpoint:
        """Two conditional PUTs of one object."""
        from botocore.exceptions import ClientError

        place, body = {"Bucket": self.bucket, "Key": self._key(key)}, b"probe"
        etags = [part_etag(body)]

        def put(attempt: int) -> str:
            try:
                etags.append(self.client.put_object(**place, Body=body, IfNoneMatch="*")["ETag"].strip('"'))
                return "written"
            except ClientError as problem:
                if code_of(problem) in TAKEN:
                    return "refused"
                if code_of(problem) in UNKNOWN_CONDITION:
                    return "unknown"
                raise

        answers = [self._tried("write", key, put)]
        if answers == ["unknown"]:
            etags.append(self._ask("write", "put_object", key, Body=body)["ETag"].strip('"'))
        else:
            answers.append(self._tried("write", key, put))
        return Endpoint(conditional=answers[-1] == "refused", md5_etags=len(set(etags)) == 1)

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes) -> None:
        self._put(key, data, {})

    def create(self, key: str, data: bytes) -> bool:
        conditional = self._endpoint().conditional  # asked first: its answer tells wrong keys from no permission
        if self.exists(key):  # spares the upload
            return False
        if conditional:
            return self._put(key, data, {"IfNoneMatch": "*"})
        self._put(key, data, {})
        return self.read(key) == data

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> bool:
        """Upload and check; False where the condition was not met."""
        from botocore.exceptions import ClientError

        writer = {"writer": uuid.uuid4().hex}  # by which an attempt whose answer was lost is known for our own
        part_bytes = self.wire.part_size(len(data))

        def put(attempt: int) -> bool:
            try:
                if len(data) <= part_bytes:
                    answer = self.client.put_object(
                        Bucket=self.bucket, Key=self._key(key), Body=data, Metadata=writer, **condition
                    )
                else:
                    answer = self._put_parts(key, data, part_bytes, writer, condition)
            except ClientError as problem:
                if code_of(problem) not in TAKEN:
                    raise
                return attempt > 0 and self._head(key).get("Metadata", {}).get("writer") == writer["writer"]
            self._require_arrived(key, data, part_bytes, answer, condition)
            return True

        return self._tried("write", key, put)

    def _require_arrived(
        self, key: str, data: bytes, part_bytes: int, answer: dict[str, Any], condition: dict[str, str]
    ) -> None:
        """Raise TryAgain unless the object is what was sent; one that we alone created so is removed first."""
        if is_whole(data, answer, part_bytes):
            return
        if self._fetch(key) != data:
            if condition:
                self.client.delete_object(Bucket=self.bucket, Key=self._key(key))
            raise TryAgain("what arrived is not what was sent")

    def _put_parts(
        self, key: str, data: bytes, part_bytes: int, writer: dict[str, str], condition: dict[str, str]
    ) -> dict[str, Any]:
        """A multipart upload; one that fails is taken back."""
        place = {"Bucket": self.bucket, "Key": self._key(key)}
        upload = {**place, "UploadId": self.client.create_multipart_upload(**place, Metadata=writer)["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            part = memoryview(data)[(number - 1) * part_bytes : number * part_bytes].tobytes()
            what = f"cannot write part {number} of {self.uri(key)} at {endpoint_of(self.client)}"
            answer = retried(self.wire, what, lambda _: self.client.upload_part(**upload, PartNumber=number, Body=part))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                parts = list(pool.map(send, range(1, -(-len(data) // part_bytes) + 1)))
            return self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with contextlib.suppress(Exception):  # what cannot be taken back now, `ddpm gc` finds
                self.client.abort_multipart_upload(**upload)
            raise

    def renew(self, key: str) -> bool:
        try:
            answer = self._head(key)
            source = {"Bucket": self.bucket, "Key": self._key(key)}
            if answer["ContentLength"] > 5 * 2**30:  # S3 copies no more at once
                self.write(key, self.read(key))
            else:
                self._ask(
                    "write",
                    "copy_object",
                    key,
                    CopySource=source,
                    MetadataDirective="REPLACE",
                    Metadata={"renewed": "1"},
                )
            return True
        except Missing:
            return False

    # -- reading ----------------------------------------------------------------------------------------------------

    def _head(self, key: str) -> dict[str, Any]:
        return self._ask("read", "head_object", key)

    def exists(self, key: str) -> bool:
        try:
            self._head(key)
            return True
        except Missing:
            return False

    def read(self, key: str) -> bytes:
        def fetch(attempt: int) -> bytes:
            return self._fetch(key)

        return self._tried("read", key, fetch)

    def _fetch(self, key: str) -> bytes:
        """One try at an object's bytes, checked by its ETag."""
        answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
        size = answer["ContentLength"]
        part_bytes = self.wire.part_size(size)
        if size > 2 * part_bytes:
            answer["Body"].close()
            data = bytearray(size)

            def keep(start: int, part: bytes) -> None:
                data[start : start + len(part)] = part

            self._fetch_parts(key, size, part_bytes, answer["ETag"], keep)
            whole: bytes = bytes(data)
        else:
            whole = answer["Body"].read()
        whole_as_said = is_whole(whole, answer, part_bytes)
        if len(whole) != size or (whole_as_said is False and self._endpoint().md5_etags):
            raise TryAgain("its bytes are damaged: their MD5 is not its ETag", Damaged)
        return whole

    def _fetch_parts(self, key: str, size: int, part_bytes: int, etag: str, keep: Callable[[int, bytes], None]) -> None:
        """Ranges of one and the same object, several at a time; each is tried again by itself."""

        def fetch(start: int) -> None:
            keep(start, self._range(key, start, min(part_bytes, size - start), size, {"IfMatch": etag}))

        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            for _ in pool.map(fetch, range(0, size, part_bytes)):
                pass

    def _range(self, key: str, start: int, length: int, size: int, condition: dict[str, str]) -> bytes:
        """Bytes of an object that is `size` long."""
        span = f"{start}-{start + length - 1}"

        def fetch(attempt: int) -> tuple[bytes, str]:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key), Range=f"bytes={span}", **condition)
            data, (said, _, total) = answer["Body"].read(), str(answer.get("ContentRange", "")).partition("/")
            if said != f"bytes {span}" or len(data) != length:
                raise TryAgain("the answer is not the range that was asked for")
            return data, total

        from botocore.exceptions import ClientError

        try:
            data, total = self._tried("read", key, fetch)
        except ClientError as problem:
            if not condition or code_of(problem) not in TAKEN:
                raise
            raise TryAgain("it was written anew while it was read") from None
        if total != str(size):  # not for this range alone: whoever asked for it is to begin anew
            raise TryAgain("its size is not the one that was said before")
        return data

    def read_range(self, key: str, start: int, length: int) -> bytes:
        def fetch(attempt: int) -> bytes:
            size = self._head(key)["ContentLength"]
            inside = min(length, size - start)
            return self._range(key, start, inside, size, {}) if inside > 0 else b""

        return self._tried("read", key, fetch)

    def local(self, key: str, sha256: str) -> Path:
        """In the cache, by its digest: fetched once, and again where what lies there is damaged."""
        cache = Path(os.environ.get("DDPM_CACHE") or Path.home() / ".cache" / "ddpm", sha256)
        if cache.is_file():
            with contextlib.suppress(Damaged):
                require_digest(cache, sha256, self.uri(key))
                return cache
        self._download(key, sha256, cache)
        return cache

    def _download(self, key: str, sha256: str, path: Path) -> None:
        """Part by part to the disk, so that memory stays flat; named only when its digest is right."""
        folder = FileStore(path.parent)
        folder.probe()
        aside = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")

        def fetch(attempt: int) -> None:
            answer = self._head(key)
            size = answer["ContentLength"]
            with open(aside, "wb") as file:
                file.truncate(size)
                handle, lock = file.fileno(), threading.Lock()

                def keep(start: int, part: bytes) -> None:
                    with lock:
                        os.pwrite(handle, part, start)

                self._fetch_parts(key, size, self.wire.part_size(size), answer["ETag"], keep)
                os.fsync(handle)
            require_digest(aside, sha256, self.uri(key))

        try:
            try:
                self._tried("read", key, fetch)
            except Damaged:  # on the way, or where it lies: a second look tells
                self._tried("read", key, fetch)
            os.replace(aside, path)
        except OSError as problem:
            raise WrongInput(
                f"cannot write {path}: {problem.strerror}; make room there, or set DDPM_CACHE to another folder"
            ) from None
        finally:
            aside.unlink(missing_ok=True)

    # -- listing and removing ---------------------------------------------------------------------------------------

    def _page(self, operation: str, prefix: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._tried("list", prefix, lambda _: getattr(self.client, operation)(**arguments))

    def entries(self, prefix: str) -> Iterator[Entry]:
        return (entry for entry in self._objects(prefix) if not is_unfinished(entry.key))

    def _objects(self, prefix: str) -> Iterator[Entry]:
        folder = self._key(prefix).rstrip("/")
        arguments = {"Bucket": self.bucket, "Prefix": folder and folder + "/"}
        while True:
            page = self._page("list_objects_v2", prefix, arguments)
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # some consoles write an object for a folder
                    yield Entry(self._relative(item["Key"]), item["Size"], item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        with contextlib.suppress(Missing):
            self._ask("delete", "delete_object", key)

    def delete_older(self, key: str, than: float) -> bool:
        """S3 deletes under no such condition: between the look and the deletion there is the time of one request."""
        try:
            if self._head(key)["LastModified"].timestamp() >= than:
                return False
        except Missing:
            return False
        self.delete(key)
        return True

    def unfinished(self) -> Iterator[Entry]:
        yield from (entry for entry in self._objects("") if is_unfinished(entry.key))
        arguments = {"Bucket": self.bucket, "Prefix": self.prefix and self.prefix + "/"}
        while True:
            try:
                page = self._page("list_multipart_uploads", "", arguments)
            except Missing:  # what some servers say where there are none
                return
            for upload in page.get("Uploads", []):
                key = f"{self._relative(upload['Key'])}{UPLOAD}{upload['UploadId']}"
                yield Entry(key, self._uploaded_bytes(upload), upload["Initiated"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _uploaded_bytes(self, upload: dict[str, Any]) -> int:
        """What an unfinished upload holds, by the first thousand of its parts."""
        place = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        try:
            page = self._tried("list", self._relative(upload["Key"]), lambda _: self.client.list_parts(**place))
        except Missing:  # ended since it was listed
            return 0
        return sum(part["Size"] for part in page.get("Parts", []))

    def delete_unfinished(self, entry: Entry) -> None:
        key, _, upload = entry.key.rpartition(UPLOAD)
        if not is_unfinished(entry.key):
            with contextlib.suppress(Missing):
                self._ask("delete", "abort_multipart_upload", key, UploadId=upload)
        else:
            self.delete(entry.key)
