"""Which picture lies in which shard, and what is remembered of the shards that are published.

Pictures are dealt into buckets by the hashes of their names: a bucket that would be too large is halved by the next bit.
So a picture that is new or changed touches its own bucket, and all others stay as they are, whatever the set's size;
and no more than one bucket's pixels need be in memory. A bucket becomes a shard of training pictures and one of
held-out ones, and a record of them:

STORE/ingested/RECIPE/BUCKET.json   RECIPE: of how pixels are made; BUCKET: of its pictures' names, classes and bytes

A run that was stopped, and a set that has grown, find the records of the buckets that are done, and decode the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from safetensors.numpy import save as save_tensors

from ddpm.data.manifest import Quarantined, Shard, blob_key, canonical
from ddpm.data.packing import MADE_BY, PREPROCESSING
from ddpm.data.sources import Picture
from ddpm.data.sources.source import name_digest
from ddpm.data.workers import Packed
from ddpm.errors import WrongInput
from ddpm.settings import FORMAT_VERSION, IngestSettings
from ddpm.store import Store

SHARD_BYTES = 32 * 2**20  # at most, of a bucket's pixels, and
SHARD_PICTURES = 4096  # at most, so that small pictures too come in pieces that can be shared and resumed
SIDES = ("train", "held_out")


def buckets(pictures: Sequence[Picture], image_size: int) -> Iterator[list[Picture]]:
    """The pictures, each bucket's in the order of their names' hashes."""
    limit = max(1, min(SHARD_PICTURES, SHARD_BYTES // (3 * image_size**2)))
    ordered = sorted(((name_digest(picture.name), picture) for picture in pictures), key=lambda pair: pair[0])

    def halve(first: int, end: int, prefix: int, bits: int) -> Iterator[list[Picture]]:
        if end - first <= limit or bits == 256:
            if end > first:
                yield [picture for _, picture in ordered[first:end]]
            return
        upper = (2 * prefix + 1) << (255 - bits)
        low, high = first, end
        while low < high:  # the first one whose next bit is set
            middle = (low + high) // 2
            low, high = (middle + 1, high) if int.from_bytes(ordered[middle][0], "big") < upper else (low, middle)
        yield from halve(first, low, 2 * prefix, bits + 1)
        yield from halve(low, end, 2 * prefix + 1, bits + 1)

    return halve(0, len(ordered), 0, 0)


@dataclass
class Record:
    """What came of a bucket. Rows of a side are in the order of `names` and `digests` (of the pixels, in hex)."""

    shards: dict[str, Shard] = field(default_factory=dict)  # by side
    names: dict[str, list[str]] = field(default_factory=dict)
    digests: dict[str, list[str]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)  # [width, height, count] of the usable pictures as they came


def recipe(settings: IngestSettings) -> str:
    """A digest of everything but the pictures that a shard's bytes follow from."""
    parts = [FORMAT_VERSION, PREPROCESSING, MADE_BY, settings.image_size, settings.smallest_side, settings.held_out]
    return hashlib.sha256(canonical({"recipe": parts})).hexdigest()


def bucket_key(settings: IngestSettings, pictures: Sequence[Picture], files: Sequence[str]) -> str:
    """Where the record of these pictures, whose files have these sha256s, lies in a store."""
    rows = [[p.name, p.label, sha256] for p, sha256 in zip(pictures, files, strict=True)]
    return f"ingested/{recipe(settings)}/{hashlib.sha256(canonical({'pictures': rows})).hexdigest()}.json"


def read_record(store: Store, key: str) -> Record | None:
    """The record, if it and the shards that it names are there and whole; else None: the bucket is to be made again."""
    try:
        sha256, _, data = store.read(key).partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != sha256:
            return None
        record = Record(**json.loads(data))
        for shard in record.shards.values():
            if hashlib.sha256(store.read(blob_key(shard["sha256"]))).hexdigest() != shard["sha256"]:
                return None
    except WrongInput:  # Missing, or damaged
        return None
    return record


def publish_bucket(
    store: Store, settings: IngestSettings, pictures: Sequence[Picture], packed: Sequence[Packed]
) -> Record:
    """Write the bucket's shards, and then the record that names them."""
    record = Record()
    for side in SIDES:
        chosen = [
            i for i, found in enumerate(packed) if found.pixels is not None and side_of(found.digest, settings) == side
        ]
        if chosen:
            data = save_tensors(
                {
                    "images": np.stack([found.pixels for i in chosen if (found := packed[i]).pixels is not None]),
                    "labels": np.array([pictures[i].label for i in chosen], dtype=np.int64),
                }
            )
            sha256 = hashlib.sha256(data).hexdigest()
            publish(store, blob_key(sha256), data)
            record.shards[side] = {"sha256": sha256, "bytes": len(data), "n": len(chosen)}
            record.names[side] = [pictures[i].name for i in chosen]
            record.digests[side] = [packed[i].digest.hex() for i in chosen]
    record.quarantined = [
        Quarantined(name=picture.name, reason=found.reason)
        for picture, found in zip(pictures, packed, strict=True)
        if found.pixels is None
    ]
    record.sizes = count_sizes((*found.size, 1) for found in packed if found.pixels is not None)
    data = canonical(asdict(record))
    key = bucket_key(settings, pictures, [found.file_sha256 for found in packed])
    store.write(key, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    return record


def count_sizes(sizes: Iterable[Sequence[int]]) -> list[list[int]]:
    """[width, height, count], sorted, each size once, of such entries."""
    counts: Counter[tuple[int, int]] = Counter()
    for width, height, count in sizes:
        counts[width, height] += count
    return [[width, height, count] for (width, height), count in sorted(counts.items())]


def side_of(digest: bytes, settings: IngestSettings) -> str:
    """By the pixels, so that it stays as the set grows, and all duplicates of a picture are on one side."""
    return "held_out" if int.from_bytes(digest[:8], "big") / 2**64 < settings.held_out else "train"


def publish(store: Store, key: str, data: bytes) -> None:
    """Create an object whose name is its digest; what lies there already is the same, or else damaged, and mended."""
    if not store.create(key, data) and store.read(key) != data:
        store.write(key, data)
