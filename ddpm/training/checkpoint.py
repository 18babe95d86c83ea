"""Checkpoints: a folder of safetensors and, written last, the JSON that names their digests.

    OUT/000000012345/weights.safetensors     the raw weights
                     ema.safetensors         their moving average, from which pictures are drawn
                     optimizer.safetensors   Adam's moments and the spike guard's state
                     checkpoint.json         settings, counters, sha256 of the three; without it there is no checkpoint
    OUT/last.json, OUT/best.json             which of them is the last, and the best

The files lie in the checkpoint's own folder rather than among the store's blobs, because no two checkpoints share
any, and so the folder goes as one. A checkpoint's URI is that of its checkpoint.json.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ddpm.errors import WrongInput
from ddpm.model.unet import UNet
from ddpm.settings import FORMAT_VERSION, ModelSettings, TrainSettings, pick
from ddpm.store import Missing, Store, open_store

MANIFEST = "checkpoint.json"
PARTS = ("weights", "ema", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: its manifest's facts and, by part, its tensors by name."""

    uri: str
    facts: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]

    @property
    def model_settings(self) -> ModelSettings:
        return pick(ModelSettings, self.facts["settings"])


@dataclass(frozen=True)
class Model:
    """A network with its weights, and what one must know to draw pictures from it."""

    net: nn.Module
    settings: ModelSettings
    image_size: int
    facts: dict[str, Any]


def write_checkpoint(
    out: Store, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any], model: ModelSettings, train: TrainSettings,
) -> str:  # fmt: skip
    """Write `OUT/<images seen>/`, its manifest last; returns the folder's name. `facts` must hold images_seen."""
    folder = f"{facts['images_seen']:012d}"
    digests = {}
    for part in PARTS:
        data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors[part].items()})
        digests[f"{part}.safetensors"] = hashlib.sha256(data).hexdigest()
        out.write(f"{folder}/{part}.safetensors", data)
    settings = {**asdict(model), **asdict(train)}
    manifest = {"format_version": FORMAT_VERSION, "settings": settings, **facts, "sha256": digests}
    out.write(f"{folder}/{MANIFEST}", json.dumps(manifest, indent=1, sort_keys=True).encode())
    return folder


def point(out: Store, name: str, folder: str) -> None:
    """Let OUT/NAME.json ("last" or "best") point at a checkpoint's folder."""
    out.write(f"{name}.json", json.dumps({"checkpoint": folder}).encode())


def pointed(out: Store, name: str) -> str | None:
    """The URI of the checkpoint that OUT/NAME.json points at; None where there is none."""
    try:
        return out.uri(json.loads(out.read(f"{name}.json"))["checkpoint"] + "/" + MANIFEST)
    except Missing:
        return None


def prune_checkpoints(out: Store, keep: set[str]) -> None:
    """Delete all checkpoint folders but those named. The manifest goes first: what is left half is no checkpoint."""
    keys = [key for key in out.list("") if key.split("/")[0].isdigit() and key.split("/")[0] not in keep]
    for key in sorted(keys, key=lambda key: not key.endswith(MANIFEST)):
        out.delete(key)


def checkpoint_uri(uri: str) -> str:
    """The checkpoint meant by a URI: of a checkpoint.json, of its folder, or of an OUT folder (its last one)."""
    if uri.endswith(".json"):
        return uri
    store = open_store(uri)
    if store.exists(MANIFEST):
        return store.uri(MANIFEST)
    last = pointed(store, "last")
    if last is None:
        raise Missing(
            f"there is no checkpoint at {store.root}; give the URI of a {MANIFEST}, or of a folder that training wrote"
        )
    return last


def read_facts(uri: str) -> dict[str, Any]:
    """The manifest of the checkpoint at `uri`."""
    folder, _, name = checkpoint_uri(uri).rpartition("/")
    try:
        facts = json.loads(open_store(folder).read(name))
        version, _ = facts["format_version"], facts["sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise WrongInput(f"{uri} is not a checkpoint; give the URI of a {MANIFEST}") from None
    if version != FORMAT_VERSION:
        raise WrongInput(f"{uri}: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
    return facts


def read_checkpoint(uri: str, parts: tuple[str, ...] = PARTS) -> Checkpoint:
    """Read the parts asked for, each checked against its digest. Raises Missing, or WrongInput for damaged files."""
    uri = checkpoint_uri(uri)
    facts = read_facts(uri)
    store = open_store(uri.rpartition("/")[0])
    tensors = {}
    for part in parts:
        data = store.read(f"{part}.safetensors")
        if hashlib.sha256(data).hexdigest() != facts["sha256"].get(f"{part}.safetensors"):
            raise WrongInput(
                f"{store.uri(part)}.safetensors is damaged: its sha256 is not the one in {MANIFEST}; use another checkpoint"
            )
        tensors[part] = load_tensors(data)
    return Checkpoint(uri, facts, tensors)


def load_model(uri: str, part: str = "ema") -> Model:
    """The network of a checkpoint with its averaged (`ema`) or raw (`weights`) weights, on the CPU."""
    read = read_checkpoint(uri, (part,))
    net = UNet(read.model_settings, read.facts["image_size"])
    net.load_state_dict(read.tensors[part])
    return Model(net.eval(), read.model_settings, read.facts["image_size"], {**read.facts, "checkpoint": read.uri})
