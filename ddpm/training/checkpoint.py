"""Checkpoints: a folder of safetensors and, written last, the JSON that names their digests.

    OUT/000000012345/weights.safetensors     the raw weights
                     ema.safetensors         their moving average, from which pictures are drawn
                     ema-50000.safetensors   further averages, by their half-life in images
                     optimizer.safetensors   Adam's moments and the spike guard's state
                     checkpoint.json         settings, counters, sha256 of the others; without it there is no checkpoint
    OUT/last.json, OUT/best.json             which of them is the last, and the best

The files lie in the checkpoint's own folder rather than among the store's blobs, because no two checkpoints share
any, and so the folder goes as one. A checkpoint's URI is that of its checkpoint.json.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.meter import Spent
from ddpm.model.model import Model, Origin, suited
from ddpm.model.unet import UNet
from ddpm.settings import FORMAT_VERSION, ModelSettings, TrainSettings, pick
from ddpm.store import Damaged, Missing, Store, open_store
from ddpm.store.reading import misfit, read_json, read_tensors
from ddpm.training.guard import GuardFacts
from ddpm.training.lineage import Ancestor

MANIFEST = "checkpoint.json"
SEAL = "manifest_sha256"


class BestFacts(TypedDict):
    """The best look up to a checkpoint."""

    loss: float | None  # None: no look yet, or no held-out pictures
    epoch: int


class Standing(TypedDict):
    """How far a training has come, and what it must know to go on."""

    image_size: int
    dataset_digest: str
    dataset_uri: str
    images_seen: int
    step: int  # steps done
    epoch: float  # epochs done
    loss: float | None  # mean of the last steps; None: of no step
    best: BestFacts
    skipped_steps: int
    skipped_not_finite: NotRequired[int | None]  # of these; None: not known; earlier releases wrote none
    guard: NotRequired[GuardFacts]  # earlier releases wrote none
    micro_batch: int
    stopped: str  # why it ended before its budget was spent; empty: it has not
    spent: NotRequired[Spent]  # by then, of all processes of this training; earlier releases wrote none
    lineage: NotRequired[list[Ancestor]]  # of one that began with other weights, or went on from others


class Manifest(Standing):
    """checkpoint.json, but for its seal."""

    format_version: int
    settings: dict[str, Any]  # the model's and the training's, by name
    sha256: dict[str, str]  # by file
    average: NotRequired[int]  # the half-life chosen to draw from; without it the first


class Pointer(TypedDict):
    """last.json and best.json."""

    checkpoint: str  # the name of its folder


class _Needed(TypedDict):
    """Of checkpoint.json, what every release wrote and nobody can do without."""

    settings: dict[str, Any]
    sha256: dict[str, str]
    image_size: int
    images_seen: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: its manifest's facts and, by part, its tensors by name."""

    uri: str
    facts: Manifest
    tensors: dict[str, dict[str, Tensor]]

    @property
    def model_settings(self) -> ModelSettings:
        return pick(ModelSettings, self.facts["settings"])


def folder_at(images_seen: int) -> str:
    """The name of a checkpoint's folder."""
    return f"{images_seen:012d}"


def write_checkpoint(
    out: Store, tensors: dict[str, dict[str, Tensor]], standing: Standing, model: ModelSettings, train: TrainSettings,
) -> str:  # fmt: skip
    """Write `OUT/<images seen>/`, its manifest last; returns the folder's name."""
    folder = folder_at(standing["images_seen"])
    digests = {}
    for part, named in tensors.items():
        data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()})
        digests[f"{part}.safetensors"] = hashlib.sha256(data).hexdigest()
        out.write(f"{folder}/{part}.safetensors", data)
    settings = {**asdict(model), **asdict(train)}
    manifest: Manifest = {"format_version": FORMAT_VERSION, "settings": settings, **standing, "sha256": digests}
    out.write(f"{folder}/{MANIFEST}", _sealed(manifest))
    return folder


def _sealed(manifest: Manifest) -> bytes:
    """The manifest's bytes, with a digest of all else in it."""
    return json.dumps({**manifest, SEAL: _seal(manifest)}, indent=1, sort_keys=True).encode()


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def point(out: Store, name: str, folder: str) -> None:
    """Let OUT/NAME.json ("last" or "best") point at a checkpoint's folder."""
    out.write(f"{name}.json", json.dumps({"checkpoint": folder}).encode())


def average_part(half_lives: tuple[int, ...], half_life: int) -> str:
    """The part that holds the average of this half-life. The first one's is `ema`."""
    return "ema" if half_life == half_lives[0] else f"ema-{half_life}"


def choose_average(uri: str, half_life: int) -> None:
    """Let a checkpoint's pictures be drawn from the average of this half-life from now on."""
    facts = read_facts(uri)
    folder, _, name = checkpoint_uri(uri).rpartition("/")
    open_store(folder).write(name, _sealed({**facts, "average": half_life}))


def drawn_from(facts: Manifest, half_life: int | None = None) -> str:
    """The file from which a checkpoint's pictures are drawn: of its chosen average, or of the one of this half-life.

    Raises WrongInput for a half-life that the checkpoint has not.
    """
    half_lives = pick(TrainSettings, facts["settings"]).half_lives
    wanted = half_life or facts.get("average") or half_lives[0]
    if wanted not in half_lives:
        raise WrongInput(
            f"there is no average of half-life {wanted}; the checkpoint has {', '.join(map(str, half_lives))}"
        )
    return f"{average_part(half_lives, wanted)}.safetensors"


def alike_averages(uri: str, half_lives: tuple[int, ...]) -> list[list[int]]:
    """A checkpoint's half-lives, those together whose averages are the very same weights.

    So are those of a training so short that ema.RAMP bounds them all.
    """
    facts = read_facts(uri)
    alike: dict[str, list[int]] = {}
    for half_life in half_lives:
        file = drawn_from(facts, half_life)
        weights = facts["sha256"].get(file, file)  # of one that is not there loading tells
        alike.setdefault(weights, []).append(half_life)
    return list(alike.values())


def before(out: Store, uri: str | None) -> str | None:
    """The URI of the checkpoint before this one, or, without one, of the newest; None where there is none."""
    this = uri.rpartition("/")[0].rpartition("/")[2] if uri else ":"  # which sorts behind all digits
    folders = sorted({key.split("/")[0] for key in out.list("") if key.endswith("/" + MANIFEST)})
    earlier = [folder for folder in folders if folder.isdigit() and folder < this]
    return out.uri(f"{earlier[-1]}/{MANIFEST}") if earlier else None


def pointed(out: Store, name: str) -> str | None:
    """The URI of the checkpoint that OUT/NAME.json points at; None where there is none."""
    try:
        found = read_json(out, f"{name}.json", Pointer, "train on, which mends it, or name a checkpoint yourself")
    except Missing:
        return None
    return out.uri(f"{found['checkpoint']}/{MANIFEST}")


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


def is_checkpoint_folder(folder: Path) -> bool:
    """Whether a folder of this machine holds a checkpoint, or is one that training wrote checkpoints to."""
    return any((folder / name).exists() for name in (MANIFEST, "last.json"))


def read_facts(uri: str) -> Manifest:
    """The manifest of the checkpoint at `uri`."""
    folder, _, name = checkpoint_uri(uri).rpartition("/")
    try:
        read = read_json(open_store(folder), name, dict[str, Any], "")
        version, _ = read["format_version"], read["sha256"]
        seal = read.pop(SEAL, None)  # earlier releases wrote none
    except (Damaged, KeyError):
        raise Damaged(f"{uri} is not a checkpoint; give the URI of a {MANIFEST}") from None
    if version != FORMAT_VERSION:
        raise WrongInput(f"{uri}: format_version {version} is not known here; this release reads {FORMAT_VERSION}")
    facts = cast(Manifest, read)
    if seal is not None and seal != _seal(facts):
        raise Damaged(f"{uri} is damaged: what it says is not what was written; use another checkpoint")
    if problem := misfit(read, _Needed):
        raise Damaged(f"{uri} is damaged: {problem}; use another checkpoint")
    return facts


def read_checkpoint(uri: str, parts: tuple[str, ...] = ()) -> Checkpoint:
    """Read the parts asked for (none named: all), each checked against its digest.

    Raises Missing, or WrongInput for damaged files.
    """
    uri = checkpoint_uri(uri)
    facts = read_facts(uri)
    parts = parts or tuple(file.removesuffix(".safetensors") for file in facts["sha256"])
    store = open_store(uri.rpartition("/")[0])
    tensors = {}
    for part in parts:
        file = f"{part}.safetensors"
        if file not in facts["sha256"]:
            raise WrongInput(f"{uri} has no {file}; it has {', '.join(sorted(facts['sha256']))}")
        tensors[part] = read_tensors(store, file, "use another checkpoint", facts["sha256"][file])
    return Checkpoint(uri, facts, tensors)


def last_undamaged(out: Store) -> tuple[Checkpoint | None, str]:
    """The last checkpoint in `out` that can be read, None where there is none; and what is wrong with the very last.

    Raises WrongInput where there are some and none can be read.
    """
    damaged = ""
    try:
        uri = pointed(out, "last")
    except WrongInput as problem:
        damaged = str(problem)
        uri = before(out, None)
    while uri is not None:
        try:
            return read_checkpoint(uri), damaged
        except WrongInput as problem:  # Missing and Damaged among them
            damaged = damaged or str(problem)
            uri = before(out, uri)
    if damaged:
        raise WrongInput(f"out: no checkpoint in {out.root} can be read ({damaged}); remove it to begin anew")
    return None, ""


def load_model(uri: str, part: str = "ema") -> Model:
    """The network of a checkpoint with its averaged (`ema`) or raw (`weights`) weights, on the CPU.

    `URI#HALF-LIFE` means the average of that half-life, and without it the chosen one.
    """
    place, _, half_life = uri.partition("#")
    if half_life and not re.fullmatch("[1-9][0-9]*", half_life):
        raise WrongInput(f"{uri}: '{half_life}' is no half-life; write {place}#10000, for instance")
    file = f"{part}.safetensors" if part != "ema" else drawn_from(read_facts(place), int(half_life or 0))
    read = read_checkpoint(place, (file.removesuffix(".safetensors"),))
    facts, settings = read.facts, read.model_settings
    net = UNet(settings, facts["image_size"])
    net.load_state_dict(read.tensors[file.removesuffix(".safetensors")])
    origin = Origin(
        reference=read.uri,
        checkpoint=read.uri,
        weights_sha256=facts["sha256"][file],
        images_seen=facts["images_seen"],
        dataset_digest=facts.get("dataset_digest"),
        settings=facts["settings"],
    )
    return Model(net.eval(), settings, facts["image_size"], suited(settings), origin)
