"""Pictures to a published data set: content-addressed shards, then, last, the manifest that names them.

STORE/datasets/NAME/DIGEST.json    the manifest (see dataset.py)
STORE/blobs/sha256/ab/abcd…        its shards
STORE/ingested/FINGERPRINT.json    which manifest came of which files: a second ingest of the same is recognised by it
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from ddpm.data.manifest import blob_key, canonical, read_manifest
from ddpm.data.packing import PREPROCESSING, Unusable, pack, pixel_digest
from ddpm.data.sources import Picture, Source, check_source, is_published, open_source
from ddpm.data.verify import verify
from ddpm.errors import WrongInput
from ddpm.progress import Progress
from ddpm.settings import FORMAT_VERSION, IngestSettings
from ddpm.store import Store

SHARD_PICTURES = (
    4096  # aimed for; a picture's shard is chosen by the hash of its name, so few shards change with the set
)
QUARANTINE_LIMIT = 0.05


@dataclass
class _Shard:
    """What came of the pictures of one shard."""

    pixels: list[np.ndarray] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    held_out: list[bool] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)


def ingest(settings: IngestSettings, store: Store, progress: Progress, workers: int = 0) -> dict[str, Any]:
    """Publish the source's pictures as a data set; the same pictures again are recognised and not decoded.

    Args:
        workers: threads that decode; 0: one a core. The result does not depend on it.

    Returns: uri, digest, name, n (training pictures), held_out (their number), classes (number), quarantined
        [{name, reason}], duplicates [[name, …]], reused.
    Raises: WrongInput for a source that is not there, or of which more than 5% cannot be used.
    """
    if workers < 0:
        raise WrongInput(f"workers: {workers} will not do; it must be 0 (one a core) or more")
    check_source(settings.source)
    if is_published(settings.source):
        return _published(settings)
    progress.say(f"looking at {settings.source}")
    source = open_source(settings.source)
    pictures = _chosen(source.pictures, settings.max_pictures)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        fingerprint = _fingerprint(settings, source, pictures, pool.map)
        found = _recognise(store, fingerprint)
        if found is not None:
            return found
        shards = _pack_all(settings, pictures, pool.map, progress)
    manifest = _manifest(settings, source, shards, store)
    data = canonical(manifest)
    digest = hashlib.sha256(data).hexdigest()
    key = f"datasets/{settings.dataset_name}/{digest}.json"
    _publish(store, key, data)
    store.write(f"ingested/{fingerprint}.json", json.dumps({"dataset": key}).encode())
    return _facts(store.uri(key), manifest, reused=False)


def _published(settings: IngestSettings) -> dict[str, Any]:
    """The facts of a data set that is there already. Raises WrongInput where it is of another picture size."""
    _, manifest = read_manifest(settings.source)
    if manifest["image_size"] != settings.image_size:
        raise WrongInput(
            f"image_size: {settings.image_size}, but {settings.source} holds pictures of {manifest['image_size']}; give that, or other pictures"
        )
    return _facts(settings.source, manifest, reused=True)


def _chosen(pictures: list[Picture], limit: int) -> list[Picture]:
    """All pictures in the order of their names' hashes, or as many of the first as asked for: no class comes first."""
    ordered = sorted(pictures, key=lambda picture: hashlib.sha256(picture.name.encode()).digest())
    return ordered[:limit] if limit else ordered


def _fingerprint(settings: IngestSettings, source: Source, pictures: list[Picture], apply: Callable[..., Any]) -> str:
    """One digest of everything that a data set is made of: its files' bytes, names and classes, and the settings."""
    parts = [FORMAT_VERSION, PREPROCESSING, source.kind, settings.dataset_name, settings.image_size, settings.held_out]
    total = hashlib.sha256(
        json.dumps([*parts, settings.max_pictures, source.classes, source.facts], sort_keys=True).encode()
    )
    for picture, digest in zip(pictures, apply(_file_digest, pictures), strict=True):
        total.update(f"{picture.name}\0{picture.label}\0".encode() + digest)
    return total.hexdigest()


def _file_digest(picture: Picture) -> bytes:
    try:
        return hashlib.sha256(picture.read()).digest()
    except OSError:
        return b"unreadable"  # quarantined by name when its turn comes


def _recognise(store: Store, fingerprint: str) -> dict[str, Any] | None:
    """The facts of the data set that these very files became before, where all of it is still there and whole."""
    try:
        key = json.loads(store.read(f"ingested/{fingerprint}.json"))["dataset"]
        _, manifest = read_manifest(store.uri(key))
    except WrongInput:  # Missing, or damaged
        return None
    if not verify(store.uri(key))["ok"]:
        return None  # ingested again, which mends it
    return _facts(store.uri(key), manifest, reused=True)


def _pack_all(
    settings: IngestSettings, pictures: list[Picture], apply: Callable[..., Any], progress: Progress
) -> list[_Shard]:
    def packed(picture: Picture) -> np.ndarray | str:
        try:
            return pack(picture.read(), settings.image_size)
        except Unusable as problem:
            return str(problem)
        except OSError as problem:
            return f"cannot be read: {problem.strerror}"

    count = 1
    while count * SHARD_PICTURES < len(pictures):
        count *= 2
    shards = [_Shard() for _ in range(count)]
    for done, (picture, result) in enumerate(zip(pictures, apply(packed, pictures), strict=True), 1):
        number = int.from_bytes(hashlib.sha256(picture.name.encode()).digest()[-4:], "big") % count
        shard = shards[number]
        if isinstance(result, str):
            shard.quarantined.append({"name": picture.name, "reason": result})
        else:
            shard.pixels.append(result)
            shard.labels.append(picture.label)
            shard.names.append(picture.name)
            share = int.from_bytes(pixel_digest(result)[:8], "big") / 2**64
            shard.held_out.append(share < settings.held_out)
        progress.update("ingesting", done, len(pictures), f"{done:,} of {len(pictures):,} pictures")
    _require_few_quarantined(shards, len(pictures))
    return shards


def _require_few_quarantined(shards: list[_Shard], total: int) -> None:
    bad = sorted((entry for shard in shards for entry in shard.quarantined), key=lambda entry: entry["name"])
    if len(bad) == total or len(bad) > QUARANTINE_LIMIT * total:
        first = ", ".join(f"{entry['name']} ({entry['reason']})" for entry in bad[:3])
        raise WrongInput(
            f"source: {len(bad)} of {total} pictures cannot be used, more than {QUARANTINE_LIMIT:.0%}: {first}…; mend or remove them"
        )


def _manifest(settings: IngestSettings, source: Source, shards: list[_Shard], store: Store) -> dict[str, Any]:
    """Write the shards, and describe them. No times and no paths: the same pictures give the same digest anywhere."""
    written: dict[str, list[dict[str, Any]]] = {"train": [], "held_out": []}
    by_pixels: dict[bytes, list[str]] = {}
    for shard in shards:
        for side, wanted in (("train", False), ("held_out", True)):
            chosen = [i for i, held_out in enumerate(shard.held_out) if held_out is wanted]
            if chosen:
                written[side].append(
                    _write_shard(store, [shard.pixels[i] for i in chosen], [shard.labels[i] for i in chosen])
                )
        for name, pixels in zip(shard.names, shard.pixels, strict=True):
            by_pixels.setdefault(pixel_digest(pixels), []).append(name)
    return {
        "format_version": FORMAT_VERSION,
        "name": settings.dataset_name,
        "image_size": settings.image_size,
        "classes": source.classes,
        "source": {"kind": source.kind, **source.facts},
        "preprocessing": PREPROCESSING,
        "held_out_fraction": settings.held_out,
        "max_pictures": settings.max_pictures,
        "n": sum(entry["n"] for entry in written["train"]),
        "held_out": sum(entry["n"] for entry in written["held_out"]),
        "shards": written,
        "quarantined": sorted(
            (entry for shard in shards for entry in shard.quarantined), key=lambda entry: entry["name"]
        ),
        "duplicates": sorted(sorted(names) for names in by_pixels.values() if len(names) > 1),
    }


def _write_shard(store: Store, pixels: list[np.ndarray], labels: list[int]) -> dict[str, Any]:
    data = save_tensors(
        {"images": torch.from_numpy(np.stack(pixels)), "labels": torch.tensor(labels, dtype=torch.int64)}
    )
    sha256 = hashlib.sha256(data).hexdigest()
    _publish(store, blob_key(sha256), data)
    return {"sha256": sha256, "bytes": len(data), "n": len(labels)}


def _publish(store: Store, key: str, data: bytes) -> None:
    """Create an object whose name is its digest; what lies there already is the same, or else damaged, and mended."""
    if not store.create(key, data) and store.read(key) != data:
        store.write(key, data)


def _facts(uri: str, manifest: dict[str, Any], reused: bool) -> dict[str, Any]:
    return {
        "uri": uri,
        "digest": uri.rsplit("/", 1)[1].removesuffix(".json"),
        "name": manifest["name"],
        "n": manifest["n"],
        "held_out": manifest["held_out"],
        "classes": len(manifest["classes"]),
        "quarantined": manifest["quarantined"],
        "duplicates": manifest["duplicates"],
        "reused": reused,
    }
