"""Every byte of a published data set read again and checked against its manifest."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from ddpm.data.manifest import blob_key, read_manifest
from ddpm.store import Missing


def verify(uri: str) -> dict[str, Any]:
    """`ok`, and `bad` [{object, reason}]. Raises Missing or WrongInput where the manifest itself cannot be read."""
    store, manifest = read_manifest(uri)
    size = manifest["image_size"]
    bad = []
    for side, shards in manifest["shards"].items():
        for shard in shards:
            reason = ""
            try:
                data = store.read(blob_key(shard["sha256"]))
                if hashlib.sha256(data).hexdigest() != shard["sha256"]:
                    reason = f"{len(data)} bytes whose sha256 is not its name"
                else:
                    tensors = load_tensors(data)
                    images, labels = tensors["images"], tensors["labels"]
                    if (
                        images.shape != (shard["n"], 3, size, size)
                        or images.dtype != torch.uint8
                        or len(labels) != shard["n"]
                    ):
                        reason = f"holds {images.dtype} {list(images.shape)}, not uint8 {[shard['n'], 3, size, size]}"
            except Missing:
                reason = "is not there"
            except (SafetensorError, KeyError) as problem:
                reason = f"is no shard: {problem}"
            if reason:
                bad.append({"object": store.uri(blob_key(shard["sha256"])), "reason": f"{side} shard {reason}"})
    return {"ok": not bad, "bad": bad}
