"""A published data set, opened by the URI of its manifest.

    STORE/datasets/NAME/DIGEST.json          the manifest: what the pictures are, which shards hold them
    STORE/blobs/sha256/ab/abcd…              a shard: safetensors, images uint8 [n,3,H,W] and labels int64 [n]

This file needs torch, numpy and safetensors only, so that the engine runs in a bare GPU image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.settings import FORMAT_VERSION
from ddpm.store import Store, open_store


@dataclass(frozen=True)
class Split:
    """Pictures of one side of the split: images uint8 [n,3,H,W], labels int64 [n] (-1: none)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


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


def blob_key(sha256: str) -> str:
    """Where a blob lies in its store."""
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


def canonical(manifest: dict[str, Any]) -> bytes:
    """The manifest's bytes, which its digest is taken over: sorted keys, no white space that depends on taste."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(uri: str) -> tuple[Store, dict[str, Any]]:
    """The store that a data set lies in, and its manifest.

    Raises Missing where there is none, WrongInput where what is there is no manifest or not the one its name says.
    """
    parts = uri.rsplit("/", 3)
    if len(parts) != 4 or parts[1] != "datasets" or not parts[3].endswith(".json"):
        raise WrongInput(
            f"'{uri}' is not a data set's URI; give STORE/datasets/NAME/DIGEST.json, as `ddpm ingest` prints it"
        )
    store = open_store(parts[0] or "/")
    data = store.read("/".join(parts[1:]))
    digest = parts[3].removesuffix(".json")
    if hashlib.sha256(data).hexdigest() != digest:
        raise WrongInput(f"{uri} is damaged: its sha256 is not the digest in its name; ingest it again")
    manifest = json.loads(data)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise WrongInput(
            f"{uri}: format_version {manifest.get('format_version')} is not known here; this release reads {FORMAT_VERSION}"
        )
    return store, manifest


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
