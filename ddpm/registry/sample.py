"""A version's recorded sample: its first pictures, by seed, as they were drawn when it was registered.

    sample.json           seeds, how and on what they were drawn, and each picture's digest
    sample.safetensors    images uint8 [n,3,h,w]

Whoever loads the version can draw them again: `verify` says whether the weights, the settings and this machine's
arithmetic still come to the same pictures. `serve` and `promote` ask it before they trust a version.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.device import device_name, drawing_format, threads_for
from ddpm.model.model import Model
from ddpm.registry.catalogue import find
from ddpm.registry.folder import DRAWN_BY, LIST, Folder, open_folder
from ddpm.settings import FORMAT_VERSION
from ddpm.store import Damaged
from ddpm.store.reading import parse_tensors

SEEDS = range(16)  # as many as a model draws at once, so that one costs as much as all
SAMPLE, PICTURES = "sample.json", "sample.safetensors"
CHANNELS_FIRST, CHANNELS_LAST = "channels first", "channels last"
NEAR, ENOUGH = 2, 0.999  # elsewhere, this share of values must be within so many levels of 255


class Surroundings(TypedDict):
    """What a picture's bytes depend on besides its seed, the weights and the settings."""

    device: str
    machine: str  # the processor's kind
    threads: int
    torch: str
    weights: NotRequired[str]  # in which order they lie in memory; earlier releases told none: channels first


class Recorded(TypedDict):
    """sample.json."""

    format_version: int
    seeds: list[int]
    sha256: list[str]  # of each picture's values, uint8 [3,h,w]
    drawing: dict[str, str | int | float]
    surroundings: Surroundings


@dataclass(frozen=True)
class Verified:
    """Whether a version draws its recorded sample. `reproduced` is None where none was recorded, as by earlier releases.

    `says` is one line that says it, with the numbers: `same_bytes` pictures have the very bytes, and `near` is the share
    of values that are within 2 of 255.
    """

    reproduced: bool | None
    says: str
    same_bytes: int = 0
    near: float = 0.0


def surroundings(model: Model) -> Surroundings:
    """Those of the model where it draws."""
    place = model.place
    with threads_for(model.settings.base_channels, place):
        threads = torch.get_num_threads() if place.type == "cpu" else 0
    return {
        "device": device_name(place),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": threads,
        "torch": torch.__version__,
        "weights": CHANNELS_LAST if drawing_format(place) == torch.channels_last else CHANNELS_FIRST,
    }


def record(model: Model) -> tuple[dict[str, bytes], Tensor]:
    """The files of a model's sample, and its pictures uint8 [n,3,h,w]."""
    images = model.draw(SEEDS)
    recorded: Recorded = {
        "format_version": FORMAT_VERSION,
        "seeds": list(SEEDS),
        "sha256": [_digest(picture) for picture in images],
        "drawing": {name: getattr(model.drawing, name) for name in (*DRAWN_BY, "sample_batch")},
        "surroundings": surroundings(model),
    }
    return {
        SAMPLE: json.dumps(recorded, indent=1, sort_keys=True).encode(),
        PICTURES: save_tensors({"images": images.contiguous()}),
    }, images


def verify(model: Model, tracking_uri: str) -> Verified:
    """Draw the recorded sample of the registered version that `model` was loaded from (`resolve`), and compare.

    It takes as long as drawing 16 pictures. Raises Missing or Damaged where the sample's files are not as they were
    registered. A model that is no registered version has no recorded sample.
    """
    from ddpm.registry.version import downloaded
    from ddpm.tracking import open_client

    reference = model.origin.reference
    if not reference.startswith("models:/"):
        return Verified(None, f"{reference} is no registered version, and no sample of it was recorded")
    client = open_client(tracking_uri)
    version = find(client, reference)
    with downloaded(client, version, (LIST, SAMPLE, PICTURES)) as files:
        return verify_with(model, open_folder(files, reference, version.tags))


def verify_with(model: Model, folder: Folder) -> Verified:
    """The same with the version's folder at hand."""
    if not folder.lists(SAMPLE):
        return Verified(None, f"{folder.name} was registered by an earlier release, and has no recorded sample")
    recorded = folder.json(SAMPLE, Recorded)
    name = f"model: {folder.name} is not whole: its {PICTURES}"
    theirs = parse_tensors(folder.read(PICTURES), name, folder.right).get("images")
    seeds = recorded["seeds"]
    if theirs is None or theirs.dtype != torch.uint8 or [_digest(picture) for picture in theirs] != recorded["sha256"]:
        raise Damaged(f"{name} holds other pictures than its {SAMPLE} names; {folder.right}")
    mine = model.draw(seeds)
    if mine.shape != theirs.shape:
        return Verified(
            False, f"it draws pictures of {mine.shape[-1]} px, and its recorded sample is of {theirs.shape[-1]} px"
        )
    same = sum(_digest(picture) == sha256 for picture, sha256 in zip(mine, recorded["sha256"], strict=True))
    near = float(((mine.int() - theirs.int()).abs() <= NEAR).float().mean())
    here, there = surroundings(model), Surroundings(**{"weights": CHANNELS_FIRST, **recorded["surroundings"]})
    words = f"{same} of {len(seeds)} pictures of its recorded sample have the same bytes, and {near:.2%} of values are within {NEAR} of 255"
    if here == there:
        return Verified(same == len(seeds), f"{words}; as it was recorded, on {here['device']}", same, near)
    other = "; ".join(
        f"{field} {now}, recorded with {then}" for field, now in here.items() if (then := dict(there)[field]) != now
    )
    return Verified(near >= ENOUGH, f"{words} (needed here: {ENOUGH:.1%}; {other})", same, near)


def _digest(picture: Tensor) -> str:
    return hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest()
