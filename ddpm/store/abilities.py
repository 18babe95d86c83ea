"""What an endpoint can do, found by trying it out: not every server that speaks S3 keeps to conditions."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass

from ddpm.errors import Outage, WrongInput
from ddpm.store.base import UNFINISHED
from ddpm.store.bucket import TAKEN, Bucket
from ddpm.store.problems import code_of
from ddpm.store.transfer import part_etag

UNKNOWN_CONDITION = ("NotImplemented", "InvalidArgument", "InvalidRequest", "501", "400")


@dataclass(frozen=True)
class Abilities:
    """What an endpoint was seen to do with a bucket's objects."""

    conditional: bool  # a second PUT with If-None-Match is refused
    md5_etags: bool  # an ETag that looks like an MD5 is one


_seen: dict[tuple[str, str], Abilities] = {}  # by endpoint and bucket: asked once a process


def abilities_of(bucket: Bucket) -> Abilities:
    place = (bucket.endpoint, bucket.name)
    if place not in _seen:
        key = f"{UNFINISHED}probe-{uuid.uuid4().hex}"
        try:
            _seen[place] = _tried_out(bucket, key)
        finally:
            with contextlib.suppress(WrongInput, Outage):  # why nothing can be deleted is on its way already
                bucket.ask("delete", "delete_object", key)
    return _seen[place]


def _tried_out(bucket: Bucket, key: str) -> Abilities:
    """Two conditional PUTs of one object."""
    from botocore.exceptions import ClientError

    body = b"probe"
    etags = [part_etag(body)]

    def put(attempt: int) -> str:
        try:
            etags.append(bucket.client.put_object(**bucket.at(key), Body=body, IfNoneMatch="*")["ETag"].strip('"'))
            return "written"
        except ClientError as problem:
            if code_of(problem) in TAKEN:
                return "refused"
            if code_of(problem) in UNKNOWN_CONDITION:
                return "unknown"
            raise

    answers = [bucket.tried("write", key, put)]
    if answers == ["unknown"]:
        etags.append(bucket.ask("write", "put_object", key, Body=body)["ETag"].strip('"'))
    else:
        answers.append(bucket.tried("write", key, put))
    return Abilities(conditional=answers[-1] == "refused", md5_etags=len(set(etags)) == 1)
