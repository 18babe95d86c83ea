"""A published data set, opened by the URI of its manifest. That reads the manifest, and nothing else.

A shard's bytes are checked against their digest when the first of its pictures is asked for, once in a process; in S3's
case they are in the local cache by then. From there on pictures are read by their offsets, not mapped: a mapped file's
pages count as the process's own, and a set that is read at random would soon be in memory as a whole.

This file needs torch, numpy and safetensors only, so that the engine runs in a bare GPU image.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.data.manifest import Manifest, Shard, blob_key, digest_of, read_manifest
from ddpm.errors import WrongInput
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


class StoredSplit(Split):
    """The same of pictures that lie in a store. `take` reads what it is asked for; `images` and `labels` read all, once."""

    def __init__(self, store: Store, shards: list[Shard], image_size: int) -> None:
        shape = (3, image_size, image_size)
        self.__dict__["_shards"] = [_Shard(store, facts, shape) for facts in shards]
        self.__dict__["_shape"] = shape
        # A row's shard is the last one that starts at or before it.
        self.__dict__["_starts"] = np.cumsum([0, *(len(shard) for shard in self._shards)])

    _shards: list[_Shard]
    _shape: tuple[int, int, int]
    _starts: np.ndarray

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def nbytes(self) -> int:
        return len(self) * int(np.prod(self._shape))

    @property
    def images(self) -> Tensor:
        if "_images" not in self.__dict__:
            images = np.empty((len(self), *self._shape), dtype=np.uint8)
            for shard, start in zip(self._shards, self._starts, strict=False):
                shard.read(np.arange(len(shard)), images[start : start + len(shard)])
            self.__dict__["_images"] = torch.from_numpy(images)
        return self.__dict__["_images"]

    @property
    def labels(self) -> Tensor:
        if "_labels" not in self.__dict__:
            parts = [shard.labels for shard in self._shards]
            self.__dict__["_labels"] = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))
        return self.__dict__["_labels"]

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if "_images" in self.__dict__:
            return self.images[rows], self.labels[rows]
        asked = rows.cpu().numpy()
        asked = np.where(asked < 0, asked + len(self), asked)
        if len(asked) and (asked.min() < 0 or asked.max() >= len(self)):
            raise IndexError(f"rows {asked.min()} to {asked.max()} of {len(self)}")
        images = np.empty((len(asked), *self._shape), dtype=np.uint8)
        labels = np.empty(len(asked), dtype=np.int64)
        of_shard = np.searchsorted(self._starts, asked, side="right") - 1
        for number in np.unique(of_shard):
            places = np.flatnonzero(of_shard == number)
            shard, inside = self._shards[number], asked[places] - self._starts[number]
            shard.read(inside, images, places)
            labels[places] = shard.labels[inside]
        return torch.from_numpy(images), torch.from_numpy(labels)


class _Shard:
    """One blob of a data set, looked at when the first of its pictures is asked for. Rows that were dropped do not count."""

    def __init__(self, store: Store, facts: Shard, shape: tuple[int, int, int]) -> None:
        self.store, self.facts, self.shape = store, facts, shape
        self.rows = np.delete(np.arange(facts["n"]), facts.get("dropped", []))
        self._opened: tuple[Path, int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """int64 [n]"""
        return self._open()[2]

    def read(self, rows: np.ndarray, into: np.ndarray, places: np.ndarray | None = None) -> None:
        """These rows' pictures into the places of uint8 [b,3,H,W]: its first ones, if none are given."""
        path, offset, _ = self._open()
        size = int(np.prod(self.shape))
        with open(path, "rb", buffering=0) as file:
            for place, row in zip(range(len(rows)) if places is None else places, self.rows[rows], strict=True):
                if os.preadv(file.fileno(), [memoryview(into[place]).cast("B")], offset + int(row) * size) < size:
                    raise WrongInput(f"{path} has become shorter while it was read; ingest the data set again")

    def _open(self) -> tuple[Path, int, np.ndarray]:
        """The file, whose bytes are those that the manifest names; where its pictures begin; its labels."""
        if self._opened is None:
            path = self.store.local(blob_key(self.facts["sha256"]), self.facts["sha256"])
            with open(path, "rb") as file:
                start = 8 + int.from_bytes(
                    file.read(8), "little"
                )  # safetensors: the header's length, the header, the rest
                header = json.loads(file.read(start - 8))
                images, labels = header["images"], header["labels"]
                n = self.facts["n"]
                if images["dtype"] != "U8" or images["shape"] != [n, *self.shape] or labels["dtype"] != "I64":
                    raise WrongInput(
                        f"{path} is no shard of {n} pictures of {self.shape[-1]} pixels; ingest the data set again"
                    )
                file.seek(start + labels["data_offsets"][0])
                found = np.frombuffer(file.read(8 * n), dtype="<i8").astype(np.int64)[self.rows]
            self._opened = path, start + images["data_offsets"][0], found
        return self._opened


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
    manifest: Manifest


def open_dataset(uri: str) -> PictureSet:
    """Open the data set whose manifest is at `uri`. Its pictures are looked at when they are asked for."""
    store, manifest = read_manifest(uri)
    return PictureSet(
        uri=uri,
        digest=digest_of(uri),
        name=manifest["name"],
        image_size=manifest["image_size"],
        classes=manifest["classes"],
        train=StoredSplit(store, manifest["shards"]["train"], manifest["image_size"]),
        held_out=StoredSplit(store, manifest["shards"]["held_out"], manifest["image_size"]),
        manifest=manifest,
    )
