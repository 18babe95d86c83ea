"""How a data set lies in a store, and how its manifest is read.

STORE/datasets/NAME/DIGEST.json          the manifest: what the pictures are, which shards hold them
STORE/blobs/sha256/ab/abcd…              a shard: safetensors, images uint8 [n,3,H,W] and labels int64 [n]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

from ddpm.errors import WrongInput
from ddpm.settings import FORMAT_VERSION
from ddpm.store import Damaged, Store, open_store
from ddpm.store.reading import misfit, parse_json

SIDES = ("train", "held_out")


class Shard(TypedDict):
    """A blob of pictures. `dropped`: the rows that do not count, for their pixels are there already."""

    sha256: str
    bytes: int
    n: int
    dropped: NotRequired[list[int]]


class Quarantined(TypedDict):
    """A picture that was set aside."""

    name: str
    reason: str


class Essentials(TypedDict):
    """What nothing can be done without. Counts are of pictures; `shards` are by side, "train" and "held_out"."""

    format_version: int
    name: str
    image_size: int
    classes: list[str]
    source: dict[str, Any]  # its kind, and what its kind says of it
    n: int  # training pictures
    held_out: int
    shards: dict[str, list[Shard]]


class Manifest(Essentials):
    """What a data set is. Sizes are in pixels."""

    preprocessing: str
    min_side: int
    original_sizes: list[list[int]]  # [width, height, count] as they came
    held_out_fraction: float
    max_pictures: int
    available: NotRequired[int]  # pictures that the source holds, where max_pictures is fewer
    quarantined: list[Quarantined]
    duplicates: list[list[str]]  # names of pictures that have the same pixels
    duplicates_dropped: bool


def taken(manifest: Manifest) -> str:
    """`600 of 8,189 pictures (max_pictures)` where fewer were taken than there are; empty where all were, or nobody knows."""
    available = manifest.get("available")
    return f"{manifest['max_pictures']:,} of {available:,} pictures (max_pictures)" if available else ""


def blob_key(sha256: str) -> str:
    """Where a blob lies in its store."""
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def canonical(manifest: Mapping[str, object]) -> bytes:
    """The manifest's bytes, which its digest is taken over: sorted keys, no white space that depends on taste."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def store_of(uri: str) -> tuple[Store, str]:
    """The store that a data set lies in, and its manifest's key there. Raises WrongInput where `uri` is no data set's."""
    parts = uri.rsplit("/", 3)
    if len(parts) != 4 or parts[1] != "datasets" or not parts[3].endswith(".json"):
        raise WrongInput(
            f"'{uri}' is not a data set's URI; give STORE/datasets/NAME/DIGEST.json, as `ddpm ingest` prints it"
        )
    return open_store(parts[0] or "/"), "/".join(parts[1:])


def digest_of(uri: str) -> str:
    """The digest that a data set's URI names."""
    return uri.rsplit("/", 1)[1].removesuffix(".json")


def read_manifest(uri: str) -> tuple[Store, Manifest]:
    """The store that a data set lies in, and its manifest.

    Raises Missing where there is none, WrongInput where what is there is no manifest or not the one its name says.
    """
    store, key = store_of(uri)
    data, digest = store.read(key), digest_of(uri)
    if hashlib.sha256(data).hexdigest() != digest:
        raise WrongInput(f"{uri} is damaged: its sha256 is not the digest in its name; ingest it again")
    right = "remove it, or name one that `ddpm ingest` printed"
    manifest = parse_json(data, dict[str, Any], uri, right)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise WrongInput(f"{uri}: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
    if (problem := misfit(manifest, Essentials)) or (problem := _without_a_side(manifest)):
        raise Damaged(f"{uri} is damaged: {problem}; {right}")
    return store, cast(Manifest, manifest)


def _without_a_side(manifest: Mapping[str, Any]) -> str:
    return next((f"it holds no 'shards.{side}'" for side in SIDES if side not in manifest["shards"]), "")
