"""A published data set, opened by the URI of its manifest.

This file needs torch, numpy and safetensors only, so that the engine runs in a bare GPU image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ddpm.data.manifest import blob_key, read_manifest
from ddpm.store import Store


@dataclass(frozen=True)
class Split:
    """Pictures of one side of the split: images uint8 [n,3,H,W], labels int64 [n] (-1: none)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Of all pictures together, uncompressed."""
        return self.images.nbytes

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The images uint8 [b,3,H,W] and labels int64 [b] of these rows (int64 [b]), in memory."""
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True)
class PictureSet:
    """A data set as training and evaluation see it. `digest` names its bytes; `manifest` says where they came from."""

    uri: str
    digest: str
    name: str
    image_size: int
    classes: list[str]
    train: Split
    held_out: Split
    manifest: dict[str, Any]


def open_dataset(uri: str) -> PictureSet:
    """Open the data set whose manifest is at `uri`. Every shard's bytes are checked against their digest."""
    store, manifest = read_manifest(uri)
    return PictureSet(
        uri=uri,
        digest=uri.rsplit("/", 1)[1].removesuffix(".json"),
        name=manifest["name"],
        image_size=manifest["image_size"],
        classes=manifest["classes"],
        train=_open_split(store, manifest, "train"),
        held_out=_open_split(store, manifest, "held_out"),
        manifest=manifest,
    )


def _open_split(store: Store, manifest: dict[str, Any], split: str) -> Split:
    """The split's shards joined; a single shard stays mapped from disk."""
    images, labels = [], []
    for shard in manifest["shards"][split]:
        with safe_open(store.local(blob_key(shard["sha256"]), shard["sha256"]), framework="pt") as tensors:
            images.append(tensors.get_tensor("images"))
            labels.append(tensors.get_tensor("labels"))
    size = manifest["image_size"]
    if not images:
        return Split(torch.zeros(0, 3, size, size, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    return Split(
        images[0] if len(images) == 1 else torch.cat(images), labels[0] if len(labels) == 1 else torch.cat(labels)
    )
