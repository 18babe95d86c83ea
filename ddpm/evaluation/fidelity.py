"""FID and KID against a data set's training pictures, by torch-fidelity's own functions on features.

FID: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. KID: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401.
The real pictures' features are computed once for a data set's digest and an extractor, in pieces that several
processes share, and kept in the store. Beside every figure stands its noise floor: real pictures against others.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.errors import Refused
from ddpm.evaluation.classifier import Classifier, confident_share, fold_of, open_classifiers
from ddpm.evaluation.features import Extractor, classifier_extractors, inception_extractor
from ddpm.progress import Progress
from ddpm.randomness import generator, key
from ddpm.settings import EvaluateSettings
from ddpm.store import Missing, Store

CONFIDENT = 0.9  # the probability above which a classifier recognises a picture
PIECE = 256  # real pictures whose features make one object of the store
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # at most, and at most half of either side
BOOTSTRAPS = {True: 50, False: 8}  # by whether the features are few: one Fréchet distance of 2,048 takes seconds
FEW_FEATURES = 512
FLOOR_SPLITS = {True: 5, False: 1}


@dataclass(frozen=True)
class Scores:
    """A set of pictures' figures; lower is better. The stds are of the figures' own uncertainty."""

    metric: str  # "fid_classifier", or "fid_" and Inception's layer
    fid: float
    fid_std: float
    kid: float
    kid_std: float
    n: int
    noise_floor: dict[
        str, Any
    ]  # fid and kid of real pictures against others, at this n; extrapolated: how it came about
    recognisable: dict[str, float] | None  # the shares that a classifier is confident of: generated, real (held out)
    measurement: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Side:
    """An extractor, and the features float32 [n,d] of real pictures that it never trained on."""

    extractor: Extractor
    real: Tensor
    classifier: Classifier | None = None


@dataclass(frozen=True)
class Reference:
    """What generated pictures are measured against. Several sides' figures are averaged."""

    metric: str
    sides: list[_Side]
    held_out: Tensor  # uint8 [n,3,h,w]
    base: dict[str, Any]  # the measurement, but for n
    _floors: dict[int, dict[str, Any]] = field(default_factory=dict)  # by n, once computed

    def score(self, images: Tensor, intervals: bool = True) -> Scores:
        """Figures of pictures uint8 [n,3,h,w]; without `intervals` fid_std is not estimated (nan), which saves time.

        Raises Refused where a figure is not finite, or there are too few pictures to speak of.
        """
        n = len(images)
        if n < 16:
            raise Refused(f"n: {n} pictures are too few for FID and KID; give at least 16")
        figures = [self._side_figures(side, images, intervals) for side in self.sides]
        mean = {name: float(np.mean([f[name] for f in figures])) for name in figures[0]}
        for name in ("fid", "kid"):
            if not math.isfinite(mean[name]):
                raise Refused(
                    f"{self.metric}: {name} of {n} pictures is {mean[name]}, not a number; look at the pictures"
                )
        shares = None
        if all(side.classifier for side in self.sides):
            networks = [side.classifier for side in self.sides if side.classifier]
            shares = {
                "generated": float(np.mean([confident_share(net, images, CONFIDENT) for net in networks])),
                "real": float(np.mean([confident_share(net, self.held_out, CONFIDENT) for net in networks])),
            }
        subset = _kid_subset(n, min(len(side.real) for side in self.sides))
        return Scores(
            metric=self.metric,
            **mean,
            n=n,
            noise_floor=self.noise_floor(n),
            recognisable=shares,
            measurement={**self.base, "n": n, "kid_subsets": KID_SUBSETS, "kid_subset_size": subset},
            warnings=self._warnings(n),
        )

    def noise_floor(self, n: int) -> dict[str, Any]:
        """fid and kid of n real pictures against others, and whether the former is extrapolated from fewer."""
        if n not in self._floors:
            floors = [_noise_floor(side, n) for side in self.sides]
            self._floors[n] = {
                "fid": float(np.mean([f["fid"] for f in floors])),
                "kid": float(np.mean([f["kid"] for f in floors])),
                "extrapolated": any(f["extrapolated"] for f in floors),
            }
        return self._floors[n]

    def _side_figures(self, side: _Side, images: Tensor, intervals: bool) -> dict[str, float]:
        generated = side.extractor.features(images)
        subset = _kid_subset(len(images), min(len(side.real) for side in self.sides))
        kid, kid_std = _kid(generated, side.real, subset)
        return {
            "fid": frechet(generated, side.real),
            "fid_std": _bootstrap(generated, side.real) if intervals else math.nan,
            "kid": kid,
            "kid_std": kid_std,
        }

    def _warnings(self, n: int) -> list[str]:
        dimension = self.sides[0].real.shape[1]
        if n >= 10 * dimension:
            return []
        singular = " (and its covariance is singular)" if n <= dimension else ""
        return [f"{n} pictures are few for {dimension} features{singular}: FID is biased upwards; trust KID first"]


def frechet(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of two sets of features float32 [n,d], as torch-fidelity has it. nan where it is not defined."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(
            fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)[
                KEY_METRIC_FID
            ]
        )


def _kid(a: Tensor, b: Tensor, subset: int) -> tuple[float, float]:
    """KID and the standard deviation of its mean over subsets, as torch-fidelity has it (its default seed).

    Subsets of one sample overlap, so their spread over the root of their number would be too small. What is given is
    their spread times the root of subset / n: the spread that disjoint subsets' mean would have.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    found = kid_features_to_metric(a, b, kid_subsets=KID_SUBSETS, kid_subset_size=subset, verbose=False)
    shrink = math.sqrt(subset / min(len(a), len(b)))
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD]) * shrink


def _kid_subset(n: int, n_real: int) -> int:
    return max(2, min(KID_SUBSET_SIZE, n // 2, n_real // 2))


def _bootstrap(generated: Tensor, real: Tensor) -> float:
    """The standard deviation of FID over draws, with replacement, of as many generated pictures as there are.

    The real pictures are held fixed: they are part of the measurement, the same for everything that is compared.
    """
    draws = BOOTSTRAPS[generated.shape[1] <= FEW_FEATURES]
    draw = generator("cpu", "bootstrap")
    values = [
        frechet(generated[torch.randint(len(generated), (len(generated),), generator=draw)], real) for _ in range(draws)
    ]
    return float(np.std(values, ddof=1))


def _noise_floor(side: _Side, n: int) -> dict[str, Any]:
    """FID and KID of real pictures against disjoint real ones, brought to n pictures against all.

    FID's bias goes with 1/n of either side (Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023); KID has none.
    """
    n_real = len(side.real)
    one = min(n, n_real // 2)
    values = []
    for split in range(FLOOR_SPLITS[side.real.shape[1] <= FEW_FEATURES]):
        order = torch.randperm(n_real, generator=generator("cpu", "noise floor", split))
        a, b = side.real[order[:one]], side.real[order[one:]]
        values.append((frechet(a, b), _kid(a, b, _kid_subset(len(a), len(b)))[0]))
    scale = (1 / n + 1 / n_real) / (1 / one + 1 / (n_real - one))
    fid, kid = np.mean(values, axis=0)
    return {"fid": float(fid) * scale, "kid": float(kid), "extrapolated": one < n}


# -- opening ---------------------------------------------------------------------------------------------------------


def open_reference(
    settings: EvaluateSettings, data: PictureSet, store: Store, device: str, progress: Progress
) -> Reference:
    """The reference for a data set: found in the store, or made and kept there. Processes may do so side by side.

    Raises Refused where the classifier does not pass its guards, WrongInput for weights that cannot be had.
    """
    base = {
        "dataset_digest": data.digest,
        "split": "train",
        "image_size": data.image_size,
        "n_real": len(data.train),
    }
    if len(data.train) < 32:
        raise Refused(
            f"n: {data.name} has {len(data.train)} training pictures, too few to measure against; at least 32 are needed"
        )
    if settings.extractor == "inception":
        inception = inception_extractor(
            settings.layer, settings.weights, settings.weights_sha256, store, device, progress
        )
        side = _Side(inception, _real_features(inception, data.train.images, data.digest, store, progress))
        facts = {"extractor": inception.name, "layer": settings.layer, "weights_sha256": inception.weights_sha256}
        return Reference(f"fid_{settings.layer}", [side], data.held_out.images, {**base, **facts})
    networks, digests, accuracy = open_classifiers(data, store)
    fold = fold_of(data.train)
    sides = []
    for number, extractor in enumerate(classifier_extractors(digests, store, device)):
        unseen = data.train.images[fold == number]
        real = _real_features(extractor, unseen, data.digest, store, progress)
        sides.append(_Side(extractor, real, networks[number]))
    _require_order(sides, data, store)
    facts = {
        "extractor": "classifier", "layer": sides[0].extractor.layer, "weights_sha256": "+".join(digests),
        "classifier_accuracy": accuracy,
    }  # fmt: skip
    return Reference("fid_classifier", sides, data.held_out.images, {**base, **facts})


def _real_features(extractor: Extractor, images: Tensor, digest: str, store: Store, progress: Progress) -> Tensor:
    """float32 [n,d] of real pictures, from pieces in the store. Missing ones are made, by each process in its own order."""
    name = hashlib.sha256(
        f"{digest} {extractor.name} {extractor.layer} {extractor.weights_sha256}".encode()
    ).hexdigest()
    pieces = images.split(PIECE)
    order = torch.randperm(len(pieces), generator=generator("cpu", os.getpid())).tolist()
    for done, number in enumerate(order, 1):
        piece = f"features/{name}/{number:05d}.safetensors"
        if not store.exists(piece):
            store.create(piece, save_tensors({"features": extractor.features(pieces[number])}))
            progress.update("features of real pictures", done, len(order), extractor.name)
    return torch.cat([
        load_tensors(store.read(f"features/{name}/{number:05d}.safetensors"))["features"] for number in range(len(pieces))
    ])  # fmt: skip


def _require_order(sides: list[_Side], data: PictureSet, store: Store) -> None:
    """Raise Refused unless damage moves the figures as it should: floor < classes missing < blurred and noise.

    Judged once; the outcome is published beside the classifiers.
    """
    name = "+".join(side.extractor.weights_sha256[:16] for side in sides)
    published = f"classifiers/{name}-controls.json"
    try:
        figures = json.loads(store.read(published))
    except Missing:
        store.create(published, json.dumps(_controls(sides, data)).encode())
        figures = json.loads(store.read(published))
    if not figures["floor"] < figures["classes missing"] < min(figures["blurred"], figures["noise"]):
        words = ", ".join(f"{control} {value:.1f}" for control, value in figures.items())
        raise Refused(f"extractor: the classifier's FID does not grow with damage ({words}); use extractor=inception")


def _controls(sides: list[_Side], data: PictureSet) -> dict[str, float]:
    """FID of real pictures as they are, with a fifth of the classes left out, blurred, and replaced by noise."""
    fold = fold_of(data.train)
    totals = dict.fromkeys(("floor", "classes missing", "blurred", "noise"), 0.0)
    for number, side in enumerate(sides):
        images, labels = data.train.images[fold == number], data.train.labels[fold == number]
        order = torch.randperm(len(images), generator=generator("cpu", "controls", number))
        one, other = order[::2], order[1::2]
        shown = images[one]
        kept = labels[one] >= math.ceil(len(data.classes) / 5)
        noise = torch.from_numpy(
            np.random.default_rng(key("controls", number)).integers(0, 256, shown.shape, dtype=np.uint8)
        )
        blurred = F.avg_pool2d(shown.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8)
        rest = side.real[other]
        for control, pictures in (
            ("floor", shown),
            ("classes missing", shown[kept]),
            ("blurred", blurred),
            ("noise", noise),
        ):
            totals[control] += frechet(side.extractor.features(pictures), rest) / len(sides)
    return totals
