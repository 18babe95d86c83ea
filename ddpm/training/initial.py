"""Weights of another training to begin with. The clock and the optimizer start anew.

    INIT/weights.safetensors     the raw weights, or the only ones that there are
         ema-50000.safetensors   their averages, by half-life in images
         init.json               what they are, and their digests, written last

A run copies what `init_from` names into a folder of its own, once: all its trials begin with the same weights, whatever
becomes of an alias or of a folder meanwhile. So it does with what `guide` names, and its pictures have one guide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.errors import WrongInput
from ddpm.model.model import Model, Origin
from ddpm.model.unet import UNet
from ddpm.settings import FORMAT_VERSION, DrawSettings, ModelSettings, TrainSettings, pick
from ddpm.store import Damaged, open_store
from ddpm.store.reading import read_json, read_tensors, sealed_json
from ddpm.training.checkpoint import average_part, drawn_from, read_checkpoint, read_facts
from ddpm.training.lineage import Ancestor

RECORD, WEIGHTS = "init.json", "weights"
RIGHT = "give the run another name"
MEANING = ("objective", "schedule", "timesteps")  # settings by which weights mean something else
SHAPING = ("channel_mults", "base_channels", "blocks", "attention_resolution", "classes", "augment")

Named = dict[str, Tensor]


class InitialFacts(TypedDict):
    """init.json."""

    format_version: int
    origin: dict[str, Any]  # an Origin's fields
    image_size: int
    drawn: int | None
    sha256: dict[str, str]  # by part


@dataclass(frozen=True)
class Initial:
    """A network's weights by name, and their averages by half-life, where there are some.

    `drawn` is the half-life of the average that its pictures are drawn from. Without averages (of a registered version,
    an exported folder, one average of a checkpoint), the weights are those that pictures are drawn from.

    Raises WrongInput where a weight is not finite, Damaged where averages are of another network than the weights.
    """

    origin: Origin
    image_size: int
    weights: Named
    averages: dict[int, Named]
    drawn: int | None = None

    def __post_init__(self) -> None:
        shapes = {name: tensor.shape for name, tensor in self.weights.items()}
        for named in (self.weights, *self.averages.values()):
            if {name: tensor.shape for name, tensor in named.items()} != shapes:
                raise Damaged(f"{self.origin.reference} is damaged: its averages are of another network; use another")
            if not all(bool(tensor.isfinite().all()) for tensor in named.values()):
                raise WrongInput(f"{self.origin.reference} has weights that are not finite; use another")

    @property
    def settings(self) -> ModelSettings:
        return pick(ModelSettings, self.origin.settings)

    def average(self, half_life: int) -> Named:
        """The average of this half-life, or, where there is none, the one that is drawn from."""
        drawn = self.weights if self.drawn is None else self.averages[self.drawn]
        return self.averages.get(half_life, drawn)


@dataclass(frozen=True)
class Agreement:
    """Which tensors two networks have in common, by name and shape: all in the order of their networks."""

    taken: list[str]
    anew: list[str]  # of the new network alone
    left: list[str]  # of the other alone


# -- where they come from ----------------------------------------------------------------------------------------------


def of_model(model: Model) -> Initial:
    """The weights that a model draws with, which stand for their averages too."""
    return Initial(model.origin, model.image_size, dict(model.net.state_dict()), {})


def of_checkpoint(reference: str) -> Initial:
    """A checkpoint's raw weights and averages; of URI#HALF-LIFE that average alone.

    Raises Missing, or WrongInput for what is damaged or is no checkpoint.
    """
    place, _, asked = reference.partition("#")
    if asked and not re.fullmatch("[1-9][0-9]*", asked):
        raise WrongInput(f"{reference}: '{asked}' is no half-life; write {place}#10000, for instance")
    facts = read_facts(place)
    half_lives = pick(TrainSettings, facts["settings"]).half_lives
    parts = {half_life: average_part(half_lives, half_life) for half_life in half_lives}
    alone = drawn_from(facts, int(asked)).removesuffix(".safetensors") if asked else ""
    read = read_checkpoint(place, (alone,) if alone else (WEIGHTS, *parts.values()))
    origin = Origin(
        reference=f"{read.uri}#{asked}" if asked else read.uri,
        checkpoint=read.uri,
        weights_sha256=facts["sha256"][f"{alone or WEIGHTS}.safetensors"],
        images_seen=facts["images_seen"],
        dataset_digest=facts.get("dataset_digest"),
        settings=facts["settings"],
    )
    averages = {} if alone else {half_life: read.tensors[part] for half_life, part in parts.items()}
    drawn = None if alone else facts.get("average") or half_lives[0]
    return Initial(origin, facts["image_size"], read.tensors[alone or WEIGHTS], averages, drawn)


def as_model(initial: Initial) -> Model:
    """A model that draws with these weights."""
    net = UNet(initial.settings, initial.image_size)
    net.load_state_dict(initial.weights if initial.drawn is None else initial.averages[initial.drawn])
    return Model(net, initial.settings, initial.image_size, DrawSettings(), initial.origin)


def is_initial(place: str) -> bool:
    """Whether weights are kept there."""
    return open_store(place).exists(RECORD)


def write_initial(place: str, initial: Initial) -> None:
    """Keep them in a folder of their own, whole or not at all."""
    out = open_store(place)
    parts = {WEIGHTS: initial.weights, **{f"ema-{half}": named for half, named in initial.averages.items()}}
    digests = {}
    for part, named in parts.items():
        data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()})
        digests[part] = hashlib.sha256(data).hexdigest()
        out.write(f"{part}.safetensors", data)
    facts: InitialFacts = {
        "format_version": FORMAT_VERSION, "origin": asdict(initial.origin), "image_size": initial.image_size,
        "drawn": initial.drawn, "sha256": digests,
    }  # fmt: skip
    out.write(RECORD, sealed_json(facts))


def read_initial(place: str) -> Initial:
    """What `write_initial` kept there. Raises Missing where there is nothing, Damaged where it is not what was written."""
    kept = open_store(place)
    facts = read_json(kept, RECORD, InitialFacts, RIGHT)
    if facts["format_version"] != FORMAT_VERSION:
        raise WrongInput(
            f"{kept.uri(RECORD)}: format_version {facts['format_version']} is not known here; this release reads {FORMAT_VERSION}"
        )
    tensors = {
        part: read_tensors(kept, f"{part}.safetensors", RIGHT, sha256) for part, sha256 in facts["sha256"].items()
    }
    averages = {int(part.removeprefix("ema-")): named for part, named in tensors.items() if part != WEIGHTS}
    return Initial(Origin(**facts["origin"]), facts["image_size"], tensors[WEIGHTS], averages, facts["drawn"])


# -- whether they fit --------------------------------------------------------------------------------------------------


def agree(initial: Initial, model: ModelSettings, image_size: int, partial: bool) -> Agreement:
    """Which tensors a network of this kind takes over.

    Raises WrongInput where the weights mean something else, as with another objective, or where tensors do not agree and
    that was not asked for (`partial`).
    """
    reference, theirs = initial.origin.reference, initial.settings
    for name in MEANING[: 1 if theirs.objective == "edm" else None]:
        if getattr(theirs, name) != getattr(model, name):
            raise WrongInput(
                f"init_from: {reference} was trained with {name} {getattr(theirs, name)}, not {getattr(model, name)}, and its weights mean something else; give {name} {getattr(theirs, name)}, or other weights"
            )
    own, given = shapes_of(model, image_size), {name: tensor.shape for name, tensor in initial.weights.items()}
    found = Agreement(
        [name for name, shape in own.items() if given.get(name) == shape],
        [name for name, shape in own.items() if given.get(name) != shape],
        [name for name, shape in given.items() if own.get(name) != shape],
    )
    if not found.taken:
        raise WrongInput(f"init_from: {reference} has no tensor in common with this network; give its settings")
    if (found.anew or found.left) and not partial:
        raise WrongInput(
            f"init_from: {reference} is another network: {_differences(initial, model, image_size)}; only {len(found.taken)} tensors agree, of {len(given)} there and {len(own)} here; give its settings, or init_partial=true, which takes those and begins the others anew"
        )
    return found


def shapes_of(model: ModelSettings, image_size: int) -> Mapping[str, torch.Size]:
    """The shape of each tensor of such a network, in order; none is built."""
    with torch.device("meta"):
        return {name: weight.shape for name, weight in UNet(model, image_size).named_parameters()}


def ancestor_of(initial: Initial, agreement: Agreement) -> Ancestor:
    """What a training that begins so keeps of it."""
    origin = initial.origin
    return {
        "how": "init_from", "reference": origin.reference, "weights_sha256": origin.weights_sha256,
        "images_seen": origin.images_seen, "dataset_digest": origin.dataset_digest,
        "taken": len(agreement.taken), "anew": agreement.anew, "left": agreement.left,
    }  # fmt: skip


def _differences(initial: Initial, model: ModelSettings, image_size: int) -> str:
    """In which settings two networks differ: theirs, and not ours."""
    theirs = initial.settings
    found = [
        f"{name} {getattr(theirs, name)}, not {getattr(model, name)}"
        for name in SHAPING
        if getattr(theirs, name) != getattr(model, name)
        and not (name == "augment" and theirs.augment and model.augment)  # any probability makes the same network
    ]
    found += [f"image_size {initial.image_size}, not {image_size}"] if initial.image_size != image_size else []
    return ", ".join(found) or "its tensors have other names or shapes"
