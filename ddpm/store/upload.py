"""An object's way up to S3: at once or in parts, and checked when it is there."""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ddpm.store.base import MOST_BYTES
from ddpm.store.bucket import TAKEN, Bucket
from ddpm.store.download import fetch
from ddpm.store.problems import TryAgain, code_of
from ddpm.store.transfer import PARTS_AT_ONCE, is_whole, retried


def upload(bucket: Bucket, key: str, data: bytes, condition: dict[str, str]) -> bool:
    """Write the object, and check that it is what was sent; False where the condition was not met."""
    from botocore.exceptions import ClientError

    writer = {"writer": uuid.uuid4().hex}  # by which an attempt whose answer was lost is known for our own
    part_bytes = bucket.wire.part_size(len(data))

    def put(attempt: int) -> bool:
        try:
            if len(data) <= part_bytes:
                answer = bucket.client.put_object(**bucket.at(key), Body=data, Metadata=writer, **condition)
            else:
                answer = _put_parts(bucket, key, data, part_bytes, writer, condition)
        except ClientError as problem:
            if code_of(problem) not in TAKEN:
                raise
            return attempt > 0 and bucket.head(key).get("Metadata", {}).get("writer") == writer["writer"]
        _require_arrived(bucket, key, data, part_bytes, answer, condition)
        return True

    return bucket.tried("write", key, put)


def _require_arrived(
    bucket: Bucket, key: str, data: bytes, part_bytes: int, answer: dict[str, Any], condition: dict[str, str]
) -> None:
    """Raise TryAgain unless the object is what was sent; one that we alone created so is removed first."""
    if is_whole(data, answer, part_bytes):
        return
    if fetch(bucket, key, MOST_BYTES) != data:
        if condition:
            bucket.client.delete_object(**bucket.at(key))
        raise TryAgain("what arrived is not what was sent")


def _put_parts(
    bucket: Bucket, key: str, data: bytes, part_bytes: int, writer: dict[str, str], condition: dict[str, str]
) -> dict[str, Any]:
    """A multipart upload; one that fails is taken back."""
    begun = bucket.client.create_multipart_upload(**bucket.at(key), Metadata=writer)
    place = {**bucket.at(key), "UploadId": begun["UploadId"]}

    def send(number: int) -> dict[str, Any]:
        part = memoryview(data)[(number - 1) * part_bytes : number * part_bytes].tobytes()
        what = f"cannot write part {number} of {bucket.uri(key)} at {bucket.endpoint}"
        answer = retried(
            bucket.wire,
            bucket.endpoint,
            what,
            lambda _: bucket.client.upload_part(**place, PartNumber=number, Body=part),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            parts = list(pool.map(send, range(1, -(-len(data) // part_bytes) + 1)))
        ended: dict[str, Any] = bucket.client.complete_multipart_upload(
            **place, MultipartUpload={"Parts": parts}, **condition
        )
        return ended
    except BaseException:
        with contextlib.suppress(Exception):  # what cannot be taken back now, `ddpm gc` finds
            bucket.client.abort_multipart_upload(**place)
        raise
