"""What generated pictures are measured against: a data set's real pictures as an extractor sees them.

Whatever depends on the real pictures alone (features, their statistics, radii and noise floors) is computed once for a
data set's digest and an extractor's weights, and kept in the store; features in pieces, which several processes share.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypedDict, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.errors import Refused
from ddpm.evaluation.extractors.features import Extractor
from ddpm.evaluation.extractors.table import EXTRACTORS
from ddpm.evaluation.figures.fidelity import KID_SUBSETS, Statistics, frechet, kid, kid_subset, statistics
from ddpm.evaluation.figures.precision_recall import NEIGHBOURS, radii
from ddpm.evaluation.figures.uncertainty import Floor, noise_floor
from ddpm.evaluation.report import Measurement, NoiseFloor
from ddpm.progress import Progress
from ddpm.randomness import generator, key
from ddpm.settings import EvaluateSettings
from ddpm.store import Missing, Store
from ddpm.store.reading import parse_json, parse_tensors, read_json, read_tensors, sealed_json, sealed_tensors

PIECE = 256  # real pictures whose features make one object of the store
NOISE = 64  # pictures of noise that are measured beside the generated ones
ANEW = "remove it: it is made anew"
VERSION = 2  # of how features are taken and kept: part of their name


class NoiseKid(TypedDict):
    """As it is kept."""

    kid: float


class Side:
    """An extractor, and the real pictures (rows of the training split) that it never trained on."""

    def __init__(self, extractor: Extractor, data: PictureSet, rows: Tensor, store: Store, progress: Progress) -> None:
        self.extractor, self.rows = extractor, rows
        self._data, self._store, self._progress = data, store, progress
        parts = (VERSION, data.digest, extractor.name, extractor.layer, extractor.weights_sha256)
        self._name = f"features/{hashlib.sha256(' '.join(map(str, parts)).encode()).hexdigest()}"

    @cached_property
    def train(self) -> Tensor:
        """Features float32 [n,d] of all training pictures."""
        return self._features("train", self._data.train.images)

    @cached_property
    def train_flipped(self) -> Tensor:
        """The same of the pictures mirrored left to right."""
        return self._features("train-flipped", self._data.train.images.flip(-1))

    @cached_property
    def held_out(self) -> Tensor:
        """Of the held-out pictures."""
        return self._features("held_out", self._data.held_out.images)

    @cached_property
    def held_out_flipped(self) -> Tensor:
        return self._features("held_out-flipped", self._data.held_out.images.flip(-1))

    @cached_property
    def real(self) -> Tensor:
        """Features of the training pictures that figures are taken against."""
        return self.train[self.rows]

    @cached_property
    def statistics(self) -> Statistics:
        """The mean and covariance of `real`."""

        def make() -> bytes:
            found = statistics(self.real)
            return sealed_tensors({"mu": torch.from_numpy(found.mu), "sigma": torch.from_numpy(found.sigma)})

        found = self._tensors("statistics.safetensors", make)
        return Statistics(found["mu"].numpy(), found["sigma"].numpy())

    @cached_property
    def radii(self) -> Tensor:
        """Each real picture's distance to its third neighbour."""
        return self._tensors("radii.safetensors", lambda: sealed_tensors({"radii": radii(self.real)}))["radii"]

    def floor(self, n: int) -> Floor:
        """What n real pictures score against others."""
        name = f"floor-{n}.json"
        kept = self._kept(name, lambda: sealed_json(asdict(noise_floor(self.real, n))))
        return parse_json(kept, Floor, self._store.uri(f"{self._name}/{name}"), ANEW)

    def _tensors(self, name: str, make: Callable[[], bytes]) -> dict[str, Tensor]:
        return parse_tensors(self._kept(name, make), self._store.uri(f"{self._name}/{name}"), ANEW)

    @cached_property
    def noise_kid(self) -> float:
        """KID of pictures of noise: what nothing tells from noise has no less."""

        def make() -> bytes:
            found = self.extractor.features(uniform_noise(NOISE, self._data.image_size, "noise"))
            return sealed_json({"kid": kid(found, self.real, kid_subset(NOISE, len(self.rows)))[0]})

        name = f"noise-{NOISE}.json"
        return parse_json(self._kept(name, make), NoiseKid, self._store.uri(f"{self._name}/{name}"), ANEW)["kid"]

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The object from the store; made and put there where it is not."""
        at = f"{self._name}/{name}"
        try:
            return self._store.read(at)
        except Missing:
            self._store.create(at, make())
            return self._store.read(at)

    def _features(self, split: str, images: Tensor) -> Tensor:
        """From pieces in the store. Missing ones are made, by each process in its own order."""
        if not len(images):
            return torch.zeros(0, self.extractor.layer)
        pieces = images.split(PIECE)
        names = [f"{self._name}/{split}/{number:05d}.safetensors" for number in range(len(pieces))]
        order = torch.randperm(len(pieces), generator=generator("cpu", os.getpid())).tolist()
        task, note = "features of real pictures", f"{self.extractor.name}, {split}"
        for done, number in enumerate(order):
            if not self._store.exists(names[number]):
                self._progress.update(task, done, len(order), note)
                self._store.create(names[number], sealed_tensors({"features": self.extractor.features(pieces[number])}))
        self._progress.drop(task)
        return torch.cat([read_tensors(self._store, name, ANEW)["features"] for name in names])


@dataclass(frozen=True)
class Reference:
    """What generated pictures are measured against. Several sides' figures are averaged."""

    extractor: str  # its name in settings
    metric: str  # "fid_classifier", or "fid_" and Inception's layer
    sides: list[Side]
    data: PictureSet
    base: Measurement  # but for n
    knows_classes: bool  # whether logits are of the data set's own classes

    def prepare(self) -> None:
        """Make, or find in the store, what every FID and KID goes by: the real pictures' features and their statistics."""
        for side in self.sides:
            _ = side.statistics

    def subset(self, n: int) -> int:
        """The size of KID's subsets for n generated pictures."""
        return kid_subset(n, min(len(side.rows) for side in self.sides))

    def measurement(self, n: int) -> Measurement:
        """The measurement half of the protocol, for n generated pictures."""
        return {**self.base, "n": n, "kid_subsets": KID_SUBSETS, "kid_subset_size": self.subset(n)}

    def noise_floor(self, n: int) -> NoiseFloor:
        """What n real pictures score against others; `fid_std` is None where it is not known."""
        floors = [side.floor(n) for side in self.sides]
        fid, fid_std, kid = np.mean([(floor.fid, floor.fid_std, floor.kid) for floor in floors], axis=0).tolist()
        measured = min(floor.measured_n for floor in floors)
        known = None if math.isnan(fid_std) else fid_std
        return {"fid": fid, "fid_std": known, "kid": kid, "n": measured, "extrapolated": measured < n}

    @cached_property
    def noise_kid(self) -> float:
        """KID of pictures of noise."""
        return float(np.mean([side.noise_kid for side in self.sides]))

    @cached_property
    def held_out_logits(self) -> list[Tensor]:
        """Each side's logits of the held-out pictures."""
        found = [side.extractor.features_and_logits(self.data.held_out.images)[1] for side in self.sides]
        return [logits for logits in found if logits is not None]


def open_reference(
    settings: EvaluateSettings, data: PictureSet, store: Store, device: str, progress: Progress
) -> Reference:
    """The reference for a data set: found in the store, or made and kept there. Processes may do so side by side.

    Raises Refused where the classifier does not pass its guards, WrongInput for weights that cannot be had.
    """
    if len(data.train) < 32:
        raise Refused(
            f"n: {data.name} has {len(data.train)} training pictures, too few to measure against; at least 32 are needed"
        )
    opened = EXTRACTORS[settings.extractor](settings, data, store, device, progress)
    sides = [Side(extractor, data, rows, store, progress) for extractor, rows in opened.sides]
    if opened.knows_classes:
        _require_order(sides, data, store)
    base = {
        "dataset_digest": data.digest, "split": "train", "image_size": data.image_size, "n_real": len(data.train),
        "neighbours": NEIGHBOURS, **opened.facts,
    }  # fmt: skip
    return Reference(settings.extractor, opened.metric, sides, data, cast(Measurement, base), opened.knows_classes)


def uniform_noise(n: int, image_size: int, *purpose: int | str) -> Tensor:
    """Pictures uint8 [n,3,h,w] each of whose values is drawn by itself, from 0 to 255."""
    draw = np.random.default_rng(key(*purpose))
    return torch.from_numpy(draw.integers(0, 256, (n, 3, image_size, image_size), dtype=np.uint8))


def _require_order(sides: list[Side], data: PictureSet, store: Store) -> None:
    """Raise Refused unless damage moves the figures as it should: floor < classes missing < blurred and noise.

    Judged once; the outcome is published beside the classifiers.
    """
    name = "+".join(side.extractor.weights_sha256[:16] for side in sides)
    published = f"classifiers/{name}-controls.json"
    try:
        figures = read_json(store, published, dict[str, float], ANEW)
    except Missing:
        store.create(published, sealed_json(_controls(sides, data)))
        figures = read_json(store, published, dict[str, float], ANEW)
    if not figures["floor"] < figures["classes missing"] < min(figures["blurred"], figures["noise"]):
        words = ", ".join(f"{control} {value:.1f}" for control, value in figures.items())
        raise Refused(f"extractor: the classifier's FID does not grow with damage ({words}); use extractor=inception")


def _controls(sides: list[Side], data: PictureSet) -> dict[str, float]:
    """FID of real pictures as they are, with a fifth of the classes left out, blurred, and replaced by noise."""
    totals = dict.fromkeys(("floor", "classes missing", "blurred", "noise"), 0.0)
    for number, side in enumerate(sides):
        images, labels = data.train.images[side.rows], data.train.labels[side.rows]
        order = torch.randperm(len(images), generator=generator("cpu", "controls", number))
        one, other = order[::2], order[1::2]
        shown = images[one]
        kept = labels[one] >= math.ceil(len(data.classes) / 5)
        noise = uniform_noise(len(shown), data.image_size, "controls", number)
        blurred = F.avg_pool2d(shown.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
        rest = statistics(side.real[other])
        for control, pictures in (
            ("floor", shown),
            ("classes missing", shown[kept]),
            ("blurred", blurred),
            ("noise", noise),
        ):
            totals[control] += frechet(statistics(side.extractor.features(pictures)), rest) / len(sides)
    return totals
