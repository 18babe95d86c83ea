"""Pictures to a published data set: content-addressed shards, then, last, the manifest that names them.

STORE/datasets/NAME/DIGEST.json    the manifest (see manifest.py)
STORE/blobs/sha256/ab/abcd…        its shards
STORE/ingested/…                   which shards came of which files (see shards.py): what is there is not decoded again
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NotRequired, TypedDict, TypeVar

from ddpm.data import sources
from ddpm.data.manifest import Manifest, Quarantined, Shard, blob_key, canonical, digest_of, taken
from ddpm.data.packing import PREPROCESSING
from ddpm.data.shards import (
    SIDES,
    Record,
    bucket_key,
    buckets,
    count_sizes,
    publish,
    publish_bucket,
    read_record,
    recipe,
)
from ddpm.data.sources import Picture, Source
from ddpm.data.sources.source import name_digest
from ddpm.data.workers import Packed, Workers
from ddpm.errors import WrongInput
from ddpm.processors import processors
from ddpm.progress import Progress
from ddpm.settings import FORMAT_VERSION, IngestSettings
from ddpm.store import Store

NAMED = 3  # pictures that cannot be used, in the line that says that there are too many
BATCH = 32  # pictures that a worker is sent at once, so that sending costs next to nothing
READERS = 16  # pictures read at once where each comes from elsewhere, as from a bucket
T = TypeVar("T")
R = TypeVar("R")


class DatasetFacts(TypedDict):
    """What came of an ingest."""

    uri: str  # of the manifest
    digest: str
    name: str
    n: int  # training pictures
    held_out: int  # the number of those held out
    classes: int  # their number
    taken: NotRequired[str]  # where there are more: "600 of 8,189 pictures (max_pictures)"
    quarantined: list[Quarantined]
    duplicates: list[list[str]]  # names of pictures that have the same pixels
    reused: bool  # whether nothing had to be decoded


def ingest(settings: IngestSettings, store: Store, progress: Progress, workers: int = 0) -> DatasetFacts:
    """Publish the source's pictures as a data set; what of it is published already is recognised and not decoded.

    Args:
        workers: processes that decode; 0: one a core. The result does not depend on it.

    Raises: WrongInput for a source that is not there, or of which more than `quarantine_limit` cannot be used.
    """
    if workers < 0:
        raise WrongInput(f"workers: {workers} will not do; it must be 0 (one a core) or more")
    spec = sources.parse(settings.source)
    spec.check()
    if (manifest := spec.published()) is not None:
        return _published(settings, manifest)
    progress.say(f"looking at {settings.source}")
    source = spec.open()
    if not source.pictures:
        raise WrongInput(f"source: {settings.source} holds no pictures; name one that does")
    if remark := spec.remark(source):
        progress.say(remark)
    for line in source.remarks(settings.quarantine_limit):
        progress.say(line)
    pictures = _chosen(source.pictures, settings.max_pictures)
    count = min(workers or processors(), -(-len(pictures) // BATCH)) or 1
    with Workers(count, settings.image_size, settings.smallest_side) as pool:
        records, reused = _Work(settings, store, progress, pool, count, pictures).run()
    _renew(store, records)
    manifest = _manifest(settings, source, records)
    data = canonical(manifest)
    digest = hashlib.sha256(data).hexdigest()
    key = f"datasets/{settings.dataset_name}/{digest}.json"
    reused = reused and store.exists(key)
    publish(store, key, data)
    store.renew(key)  # so that the latest of a name is the one that was ingested last
    return _facts(store.uri(key), manifest, reused)


def _renew(store: Store, records: Sequence[Record]) -> None:
    """Make all shards young, so that no `ddpm gc` takes one before the manifest that names it is there."""
    for record in records:
        for shard in record.shards.values():
            if not store.renew(blob_key(shard["sha256"])):
                raise WrongInput(
                    f"{store.uri(blob_key(shard['sha256']))} was removed while it was needed, perhaps by `ddpm gc`; run the same again: it goes on from here"
                )


def _published(settings: IngestSettings, manifest: Manifest) -> DatasetFacts:
    """The facts of a data set that is there already. Raises WrongInput where it is of another picture size."""
    if manifest["image_size"] != settings.image_size:
        raise WrongInput(
            f"image_size: {settings.image_size}, but {settings.source} holds pictures of {manifest['image_size']}; give that, or other pictures"
        )
    return _facts(settings.source, manifest, reused=True)


def _chosen(pictures: list[Picture], limit: int) -> list[Picture]:
    """All pictures, or as many as asked for, the first by the hashes of their names: no class comes first."""
    return sorted(pictures, key=lambda picture: name_digest(picture.name))[:limit] if limit else pictures


class _Work:
    """The pictures of one ingest on their way into records: decoded by all workers while others are being published."""

    def __init__(
        self, settings: IngestSettings, store: Store, progress: Progress, workers: Workers, count: int, pictures: Sequence[Picture],
    ) -> None:  # fmt: skip
        self.settings, self.store, self.progress, self.workers = settings, store, progress, workers
        self.total = len(pictures)
        self.buckets = list(buckets(pictures, settings.image_size))
        self.threads = max(2 * count, READERS if any(callable(picture.content) for picture in pictures) else 0)
        self.quarantined: list[Quarantined] = []

    def run(self) -> tuple[list[Record], bool]:
        """A record for each bucket, and whether all were there already."""
        with ThreadPoolExecutor(self.threads) as decoding, ThreadPoolExecutor(1) as publishing:
            try:
                found = self._recognise(decoding)
                self._require_few_quarantined([entry for record in found if record for entry in record.quarantined])
                todo = [number for number, record in enumerate(found) if record is None]
                for number, record in zip(todo, self._make(todo, decoding, publishing), strict=True):
                    found[number] = record
            except BaseException:
                decoding.shutdown(wait=False, cancel_futures=True)
                publishing.shutdown(wait=False, cancel_futures=True)
                raise
        return [record for record in found if record is not None], not todo

    def _recognise(self, pool: ThreadPoolExecutor) -> list[Record | None]:
        """The records of the buckets that are done. Files are only read for it where there may be some."""
        if next(iter(self.store.list(f"ingested/{recipe(self.settings)}")), None) is None:
            return [None] * len(self.buckets)
        digests = self._packed("looking for what is done", self.buckets, pool, decode=False)
        keys = (
            bucket_key(self.settings, bucket, [found.file_sha256 for found in packed])
            for bucket, packed in zip(self.buckets, digests, strict=True)
        )
        return list(_in_order(pool, lambda key: read_record(self.store, key), keys, self.threads))

    def _make(
        self, todo: Sequence[int], decoding: ThreadPoolExecutor, publishing: ThreadPoolExecutor
    ) -> Iterator[Record]:
        """The buckets decoded, each published while the next one is on its way."""
        chosen = [self.buckets[number] for number in todo]
        underway: Future[Record] | None = None
        for bucket, packed in zip(chosen, self._packed("ingesting", chosen, decoding, decode=True), strict=True):
            if underway is not None:
                yield underway.result()
            underway = publishing.submit(publish_bucket, self.store, self.settings, bucket, packed)
            del packed
        if underway is not None:
            yield underway.result()

    def _packed(
        self, task: str, chosen: Sequence[Sequence[Picture]], pool: ThreadPoolExecutor, decode: bool
    ) -> Iterator[list[Packed]]:
        """What became of each bucket's pictures. All workers are busy across the buckets' borders."""
        total, done, began = sum(len(bucket) for bucket in chosen), 0, time.monotonic()
        batches = (batch for bucket in chosen for batch in _batches(bucket))
        results = _in_order(pool, lambda batch: self.workers.work(batch, decode), batches, 2 * self.threads)
        for bucket in chosen:
            packed: list[Packed] = []
            while len(packed) < len(bucket):
                found = next(results)
                if decode:
                    names = (bucket[len(packed) + i].name for i in range(len(found)))
                    bad = [
                        Quarantined(name=n, reason=f.reason)
                        for n, f in zip(names, found, strict=True)
                        if f.pixels is None
                    ]
                    self._require_few_quarantined(bad)
                packed += found
                done += len(found)
                rate = done / max(time.monotonic() - began, 1e-9)
                left = time.strftime("%H:%M:%S", time.gmtime((total - done) / rate))
                self.progress.update(task, done, total, f"{done:,} of {total:,} pictures · {rate:,.0f}/s · {left} left")
            yield packed

    def _require_few_quarantined(self, more: list[Quarantined]) -> None:
        """Raise as soon as it is certain that there are too many."""
        self.quarantined += more
        bad, limit = self.quarantined, self.settings.quarantine_limit
        if bad and (len(bad) == self.total or len(bad) > limit * self.total):
            first = ", ".join(f"{entry['name']} ({entry['reason']})" for entry in bad[:NAMED])
            first += f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
            raise WrongInput(
                f"source: {len(bad)} of {self.total} pictures cannot be used, more than quarantine_limit {limit:.3g} allows: {first}; mend or remove them, or raise it"
            )


def _batches(pictures: Sequence[Picture]) -> Iterator[list[Picture]]:
    """In order, some at a time; those that come from elsewhere one by one, for how long each takes nobody knows."""
    for elsewhere, group in itertools.groupby(pictures, key=lambda picture: callable(picture.content)):
        alike, size = list(group), 1 if elsewhere else BATCH
        yield from (alike[first : first + size] for first in range(0, len(alike), size))


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """The results of work that is done side by side, at most so many items ahead of what is taken."""
    underway: deque[Future[R]] = deque()
    for item in items:
        underway.append(pool.submit(work, item))
        if len(underway) >= ahead:
            yield underway.popleft().result()
    while underway:
        yield underway.popleft().result()


def _manifest(settings: IngestSettings, source: Source, records: Sequence[Record]) -> Manifest:
    """No times and no paths: the same pictures give the same digest anywhere."""
    duplicates = _duplicates(records)
    dropped = {name for names in duplicates for name in names[1:]} if settings.drop_duplicates else set()
    shards: dict[str, list[Shard]] = {side: [] for side in SIDES}
    for record in records:
        for side, shard in record.shards.items():
            rows = [row for row, name in enumerate(record.names[side]) if name in dropped] if dropped else []
            shards[side].append({**shard, "dropped": rows})
    kept = {side: sum(shard["n"] - len(shard.get("dropped", [])) for shard in shards[side]) for side in SIDES}
    manifest: Manifest = {
        "format_version": FORMAT_VERSION,
        "name": settings.dataset_name,
        "image_size": settings.image_size,
        "classes": source.classes,
        "source": {"kind": source.kind, **source.facts},
        "preprocessing": PREPROCESSING,
        "min_side": settings.smallest_side,
        "original_sizes": count_sizes(size for record in records for size in record.sizes),
        "held_out_fraction": settings.held_out,
        "max_pictures": settings.max_pictures,
        "n": kept["train"],
        "held_out": kept["held_out"],
        "shards": shards,
        "quarantined": sorted(
            (entry for record in records for entry in record.quarantined), key=lambda entry: entry["name"]
        ),
        "duplicates": duplicates,
        "duplicates_dropped": settings.drop_duplicates,
    }
    if 0 < settings.max_pictures < len(source.pictures):
        manifest["available"] = len(source.pictures)
    return manifest


def _duplicates(records: Sequence[Record]) -> list[list[str]]:
    """The names, sorted, of pictures that have the same pixels."""
    by_pixels: dict[bytes, list[str]] = {}
    for record in records:
        for side, digests in record.digests.items():
            for digest, name in zip(digests, record.names[side], strict=True):
                by_pixels.setdefault(bytes.fromhex(digest), []).append(name)
    return sorted(sorted(names) for names in by_pixels.values() if len(names) > 1)


def _facts(uri: str, manifest: Manifest, reused: bool) -> DatasetFacts:
    facts: DatasetFacts = {
        "uri": uri,
        "digest": digest_of(uri),
        "name": manifest["name"],
        "n": manifest["n"],
        "held_out": manifest["held_out"],
        "classes": len(manifest["classes"]),
        "quarantined": manifest["quarantined"],
        "duplicates": manifest["duplicates"],
        "reused": reused,
    }
    if words := taken(manifest):
        facts["taken"] = words
    return facts
