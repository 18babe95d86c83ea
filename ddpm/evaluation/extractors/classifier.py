"""A small CNN on a data set's own labels, as a feature extractor where Inception says little.

Two networks are fitted, each on one half of the training pictures, and each is shown the other half only: no real
picture is ever scored by a network that trained on it. Both are published once for a data set's digest, since their
figures depend on their weights. They are refused unless they know held-out pictures, and unless damage of growing
severity moves their figures in order (`reference.py`).
"""

from __future__ import annotations

import hashlib
import json

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ddpm.data.dataset import PictureSet, Split
from ddpm.device import threads_for
from ddpm.errors import Refused
from ddpm.model.diffusion import to_unit
from ddpm.randomness import generator
from ddpm.store import Missing, Store

FEATURES = 48  # the figures' dimension; pictures should be at least ten times as many
WIDTH = 24  # channels that it begins with
FOLDS = 2
EPOCHS = 16
BATCH = 64
MIN_ACCURACY = 0.95
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


def open_classifiers(data: PictureSet, store: Store) -> tuple[list[Classifier], list[str], float]:
    """The networks for a data set, their weights' sha256, and the lowest of their accuracies on pictures unseen by them.

    Fitted and published where nobody has done it yet; of several that do it at once the first one's are everybody's.
    Raises Refused where an accuracy is below 0.95.
    """
    require_labels(data)
    key = f"classifiers/{data.digest}-v{VERSION}.json"
    try:
        published = json.loads(store.read(key))
    except Missing:
        store.create(key, json.dumps(_fit_all(data, store)).encode())
        published = json.loads(store.read(key))
    accuracy = min(published["accuracy"])
    if accuracy < MIN_ACCURACY:
        raise Refused(
            f"extractor: the classifier of data set {data.name} knows {accuracy:.1%} of unseen pictures, below {MIN_ACCURACY:.0%}, so its figures mean nothing; use extractor=inception"
        )
    networks = []
    for sha256 in published["sha256"]:
        network = Classifier(len(data.classes))
        network.load_state_dict(load_tensors(store.local(f"classifiers/{sha256}.safetensors", sha256).read_bytes()))
        networks.append(network.eval())
    return networks, published["sha256"], accuracy


def _fit_all(data: PictureSet, store: Store) -> dict[str, list[str] | list[float]]:
    fold = fold_of(data.train)
    digests, accuracies = [], []
    for number in range(FOLDS):
        seen = fold != number  # network k is shown fold k's pictures later, and trains on the others
        with threads_for(WIDTH, torch.device("cpu")):
            network = _fit(data.train.images[seen], data.train.labels[seen], len(data.classes), number)
        unseen = torch.cat([data.train.images[~seen], data.held_out.images])
        labels = torch.cat([data.train.labels[~seen], data.held_out.labels])
        accuracies.append(accuracy_of(network, unseen, labels))
        weights = save_tensors(dict(network.state_dict()))
        digests.append(hashlib.sha256(weights).hexdigest())
        store.create(f"classifiers/{digests[-1]}.safetensors", weights)
    return {"sha256": digests, "accuracy": accuracies}


def _fit(images: Tensor, labels: Tensor, classes: int, number: int) -> Classifier:
    """Adam with a rate that falls to zero, and shifts by up to an eighth of the side as augmentation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)  # initial weights
        network = Classifier(classes)
    draw = generator("cpu", "classifier", number)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    reach = max(1, images.shape[-1] // 8)
    for _ in range(EPOCHS):
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


def confident_share(logits: Tensor, threshold: float) -> float:
    """The share of pictures, by their logits [n,classes], to which some class is given at least `threshold` probability."""
    return float((logits.softmax(1).amax(1) >= threshold).double().mean())
