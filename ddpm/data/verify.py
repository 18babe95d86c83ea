"""Every byte of a published data set read again and checked against its manifest."""

from __future__ import annotations

import hashlib
from typing import TypedDict

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from ddpm.data.manifest import Shard, blob_key, read_manifest
from ddpm.progress import Progress
from ddpm.store import Damaged, Missing, Store


class BadShard(TypedDict):
    """A shard that is not what its manifest says."""

    object: str  # its URI
    reason: str


class Verified(TypedDict):
    """Whether a data set is whole."""

    ok: bool
    bad: list[BadShard]


def verify(uri: str, progress: Progress | None = None) -> Verified:
    """Read all of a data set's shards. Raises Missing or WrongInput where the manifest itself cannot be read."""
    store, manifest = read_manifest(uri)
    size = manifest["image_size"]
    bad: list[BadShard] = []
    shards = [(side, shard) for side in manifest["shards"] for shard in manifest["shards"][side]]
    for done, (side, shard) in enumerate(shards, 1):
        reason = _what_is_wrong(store, shard, size, len(manifest["classes"]))
        if reason:
            bad.append({"object": store.uri(blob_key(shard["sha256"])), "reason": f"{side} shard {reason}"})
        if progress is not None:
            progress.update("verifying", done, len(shards), f"{done:,} of {len(shards):,} shards")
    return {"ok": not bad, "bad": bad}


def _what_is_wrong(store: Store, shard: Shard, size: int, classes: int) -> str:
    """Nothing, or the reason why this is not the shard that the manifest describes."""
    try:
        data = store.read(blob_key(shard["sha256"]))
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            return f"{len(data)} bytes whose sha256 is not its name"
        tensors = load_tensors(data)
        images, labels = tensors["images"], tensors["labels"]
    except Missing:
        return "is not there"
    except Damaged as problem:
        return f"is damaged: {problem}"
    except (SafetensorError, KeyError) as problem:
        return f"is no shard: {problem}"
    if images.shape != (shard["n"], 3, size, size) or images.dtype != np.uint8:
        return f"holds {images.dtype} {list(images.shape)}, not uint8 {[shard['n'], 3, size, size]}"
    if labels.shape != (shard["n"],) or labels.min(initial=-1) < -1 or labels.max(initial=-1) >= classes:
        return f"holds labels {list(labels.shape)} that are not {shard['n']} of the {classes} classes"
    return ""
