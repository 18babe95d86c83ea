"""A small CNN on a data set's own labels, as a feature extractor where Inception says little.

Two networks are fitted, each on one half of the training pictures, and each is shown the other half only: no real
picture is ever scored by a network that trained on it. Both are published once for a data set's digest, since their
figures depend on their weights. They are refused unless they know held-out pictures, and unless damage of growing
severity moves their figures in order (`evaluation/reference.py`).

    classifiers/DIGEST-v1.json       of a data set: the two networks' sha256 and accuracies
    classifiers/SHA256.safetensors   a network's weights
    classifiers/…-controls.json      what damage does to their figures
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ddpm.data.dataset import PictureSet, Split
from ddpm.device import threads_for
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.extractors.features import Opened, from_torch_fidelity
from ddpm.model.diffusion import to_unit
from ddpm.progress import Progress
from ddpm.randomness import generator
from ddpm.settings import EvaluateSettings
from ddpm.store import Entry, Missing, Store
from ddpm.store.reading import read_json, sealed_json

NAME = "ddpm-classifier"  # under which torch-fidelity knows it
LOGITS = "logits"
FEATURES = 48  # the figures' dimension; pictures should be at least ten times as many
WIDTH = 24  # channels that it begins with
FOLDS = 2
EPOCHS = 16
BATCH = 64
MIN_ACCURACY = 0.95
TASK = "classifier"  # as people are told of its fitting
ANEW = "remove it: the networks are fitted anew, and figures by them compare with none from before"
VERSION = 1  # of the architecture and its fitting: part of the published name


class Classifier(nn.Module):
    """uint8 [b,3,h,w] to logits [b,classes]; `features` gives the layer before, [b,48].

    Features are divided by `scale`, which is set once the network is fitted: their mean square is 1, which is the range
    that KID's polynomial kernel is made for.
    """

    scale: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, padding=1), nn.GroupNorm(4, WIDTH), nn.SiLU(),
            nn.Conv2d(WIDTH, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1), nn.GroupNorm(4, 64), nn.SiLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(64 * 16, FEATURES), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("scale", torch.ones(()))

    def features(self, images: Tensor) -> Tensor:
        return self.stem(to_unit(images)) / self.scale

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass: [b,48] and [b,classes]."""
        hidden = self.stem(to_unit(images))
        return hidden / self.scale, self.head(hidden)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(to_unit(images)))


def fold_of(data: Split) -> Tensor:
    """Which network may be shown each training picture: int64 [n], 0 or 1. Alternating within each class."""
    fold = torch.zeros(len(data), dtype=torch.int64)
    for label in data.labels.unique():
        members = (data.labels == label).nonzero().flatten()
        fold[members] = torch.arange(len(members)) % FOLDS
    return fold


def require_labels(data: PictureSet) -> None:
    """Raise Refused where a classifier cannot be fitted."""
    if len(data.classes) < 2 or bool((data.train.labels < 0).any()):
        raise Refused(
            f"extractor: data set {data.name} has pictures without a class, so no classifier can be fitted; use extractor=inception"
        )
    if len(data.held_out) == 0:
        raise Refused(
            f"extractor: data set {data.name} has no held-out pictures to check a classifier on; ingest it with held_out above 0"
        )


class Published(TypedDict):
    """classifiers/KEY.json: the weights, and the share of unseen pictures that each knows."""

    sha256: list[str]
    accuracy: list[float]


def open_classifier(
    settings: EvaluateSettings, data: PictureSet, store: Store, device: str, progress: Progress
) -> Opened:
    """The two networks for a data set, each with the training pictures that it has not seen.

    Fitted and published where nobody has done it yet; of several that do it at once the first one's are everybody's.
    Raises Refused where the accuracy of one on pictures unseen by it is below 0.95.
    """
    require_labels(data)
    key = f"classifiers/{data.digest}-v{VERSION}.json"
    try:
        published = read_json(store, key, Published, ANEW)
    except Missing:
        store.create(key, sealed_json(_fit_all(data, store, progress)))
        published = read_json(store, key, Published, ANEW)
    accuracy = min(published["accuracy"])
    if accuracy < MIN_ACCURACY:
        raise Refused(
            f"extractor: the classifier of data set {data.name} knows {accuracy:.1%} of unseen pictures, below {MIN_ACCURACY:.0%}, so its figures mean nothing; use extractor=inception"
        )
    register_with_torch_fidelity()
    fold, sides = fold_of(data.train), []
    for number, sha256 in enumerate(published["sha256"]):
        weights = store.local(f"classifiers/{sha256}.safetensors", sha256)
        extractor = from_torch_fidelity(NAME, FEATURES, weights, sha256, device, LOGITS)
        sides.append((extractor, (fold == number).nonzero().flatten()))
    facts: dict[str, str | int | float] = {
        "extractor": "classifier",
        "layer": FEATURES,
        "weights_sha256": "+".join(published["sha256"]),
        "classifier_accuracy": accuracy,
    }
    return Opened("fid_classifier", sides, facts, knows_classes=True)


def _fit_all(data: PictureSet, store: Store, progress: Progress) -> Published:
    fold = fold_of(data.train)
    digests, accuracies = [], []
    for number in range(FOLDS):
        seen = fold != number  # network k is shown fold k's pictures later, and trains on the others
        with threads_for(WIDTH, torch.device("cpu")):
            network = _fit(data.train.images[seen], data.train.labels[seen], len(data.classes), number, progress)
        unseen = torch.cat([data.train.images[~seen], data.held_out.images])
        labels = torch.cat([data.train.labels[~seen], data.held_out.labels])
        accuracies.append(accuracy_of(network, unseen, labels))
        weights = save_tensors(dict(network.state_dict()))
        digests.append(hashlib.sha256(weights).hexdigest())
        store.create(f"classifiers/{digests[-1]}.safetensors", weights)
    progress.drop(TASK)
    return {"sha256": digests, "accuracy": accuracies}


def _fit(images: Tensor, labels: Tensor, classes: int, number: int, progress: Progress) -> Classifier:
    """Adam with a rate that falls to zero, and shifts by up to an eighth of the side as augmentation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)  # initial weights
        network = Classifier(classes)
    draw = generator("cpu", "classifier", number)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    reach = max(1, images.shape[-1] // 8)
    for epoch in range(EPOCHS):
        note = f"network {number + 1} of {FOLDS}, epoch {epoch + 1}/{EPOCHS}"
        progress.update(TASK, number * EPOCHS + epoch, FOLDS * EPOCHS, note)
        order = torch.randperm(len(images), generator=draw)
        for start in range(0, len(images), BATCH):
            chosen = order[start : start + BATCH]
            down, right = torch.randint(-reach, reach + 1, (2,), generator=draw).tolist()
            shifted = _shift(images[chosen], down, right)
            optimizer.zero_grad()
            F.cross_entropy(network(shifted), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        squares = torch.cat([network.features(batch).square().mean(1) for batch in images.split(256)])
    network.scale.copy_(squares.mean().sqrt())
    return network.eval()


def _shift(images: Tensor, down: int, right: int) -> Tensor:
    """Pictures moved by whole pixels; what comes in repeats the edge."""
    rows = (torch.arange(images.shape[-2]) - down).clamp(0, images.shape[-2] - 1)
    columns = (torch.arange(images.shape[-1]) - right).clamp(0, images.shape[-1] - 1)
    return images[..., rows[:, None], columns]


@torch.inference_mode()
def accuracy_of(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of pictures uint8 [n,3,h,w] whose class is found."""
    found = torch.cat([network(batch).argmax(1) for batch in images.split(256)])
    return float((found == labels).double().mean())


# -- as torch-fidelity sees it -----------------------------------------------------------------------------------------


def register_with_torch_fidelity() -> None:
    """Let torch-fidelity's own functions use the classifier by its name; its weights are a safetensors file."""
    from torch_fidelity import register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if NAME in FEATURE_EXTRACTORS_REGISTRY:
        return

    class ClassifierExtractor(FeatureExtractorBase):
        def __init__(
            self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **others: Any
        ) -> None:
            super().__init__(name, features_list)
            if feature_extractor_weights_path is None:
                raise WrongInput(f"{NAME}: give feature_extractor_weights_path, a classifier's safetensors file")
            weights = load_file(feature_extractor_weights_path)
            self.network = Classifier(len(weights["head.bias"]))
            self.network.load_state_dict(weights)
            self.requires_grad_(False)
            self.eval()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (str(FEATURES), LOGITS)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS if metric == "isc" else str(FEATURES)

        @staticmethod
        def can_be_compiled() -> bool:
            return True

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            with threads_for(WIDTH, input.device):
                features, logits = self.network.features_and_logits(input)
            found = {str(FEATURES): features, LOGITS: logits}
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor(NAME, ClassifierExtractor)


def unnamed(store: Store, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Weights among a store's objects that no classifier's JSON names, and why each is garbage."""
    texts = [store.read(key) for key in store.list("classifiers") if key.endswith(".json")]
    for key in entries:
        found = re.fullmatch(r"classifiers/([0-9a-f]{64})\.safetensors", key)
        if found and not any(found[1].encode() in text for text in texts):
            yield key, "named by no classifier's JSON"
