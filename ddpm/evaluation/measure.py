"""All figures of generated pictures, from one pass over them: they are looked at as they arrive, and not kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ddpm.errors import Refused
from ddpm.evaluation.extractors.classifier import confident_share
from ddpm.evaluation.extractors.features import BATCH
from ddpm.evaluation.figures.coverage import by_class, by_cluster
from ddpm.evaluation.figures.fidelity import frechet, inception_score, kid, quick_frechet, statistics
from ddpm.evaluation.figures.memorisation import CopySearch
from ddpm.evaluation.figures.precision_recall import precision_recall
from ddpm.evaluation.figures.uncertainty import (
    Sides,
    against_both,
    bootstrap_fid,
    fid_at_infinity,
    fid_curve,
    interval,
    share_interval,
)
from ddpm.evaluation.reference import Reference, Side
from ddpm.randomness import generator

CONFIDENT = 0.9  # the probability above which a classifier recognises a picture
SHOWN = 64  # pictures of the sample grid
FEWEST = 16
HELD_OUT_SETS = 5  # of training pictures, each as large as the held-out set
HELD_OUT_SUBSETS = 20  # of KID against each of them

T = TypeVar("T")


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def during(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began

    def of_each(self, stage: str, source: Iterable[T]) -> Iterator[T]:
        """What `source` gives, counting the time that it takes to give it."""
        iterator = iter(source)
        while True:
            with self.during(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


@dataclass
class Drawn:
    """What is kept of one draw's pictures: each side's features [n,d] and, where there are any, logits [n,classes]."""

    features: list[Tensor]
    logits: list[Tensor]

    def __len__(self) -> int:
        return len(self.features[0])


@dataclass(frozen=True)
class Scores:
    """FID and KID of a set of pictures; lower is better. The stds are of the figures' own uncertainty."""

    metric: str
    fid: float
    fid_std: float  # nan where it was not asked for
    kid: float
    kid_std: float
    n: int


@dataclass
class Measured:
    """A report but for its protocol, and the pictures that belong to it: uint8 [n,3,h,w]."""

    report: dict[str, Any]
    shown: Tensor
    pairs: Tensor


def score(reference: Reference, images: Tensor, intervals: bool = False) -> Scores:
    """FID and KID alone, of pictures uint8 [n,3,h,w], as a search needs them.

    Raises Refused where a figure is not finite, or there are too few pictures to speak of.
    """
    _require_enough(len(images))
    figures = []
    for side in reference.sides:
        features = side.extractor.features(images)
        fid_std = bootstrap_fid(features, side.statistics) if intervals else math.nan
        figures.append((*_fid_and_kid(reference, side, features), fid_std))
    fid, kid_mean, kid_std, fid_std = np.mean(figures, axis=0).tolist()
    _require_finite(reference, len(images), fid=fid, kid=kid_mean)
    return Scores(reference.metric, fid, fid_std, kid_mean, kid_std, len(images))


def measure(
    reference: Reference, draws: Iterable[Iterable[Tensor]], copying: CopySearch, clock: Clock,
) -> Measured:  # fmt: skip
    """Everything there is to say of pictures, in one pass over them.

    Args:
        draws: sets of pictures of the same model, each in batches uint8 [b,3,h,w] that are looked at as they arrive.
    Raises: Refused where a figure is not finite, or there are too few pictures to speak of.
    """
    shown: list[Tensor] = []
    taken: list[Drawn] = []
    for draw in draws:
        taken.append(_take(reference, draw, copying, clock, shown))
    with clock.during("copying"):
        copied, pairs = copying.finish()
    with clock.during("figures"):
        report = _report(reference, taken)
    warnings = report.pop("warnings")
    return Measured({**report, "copying": copied, "warnings": warnings}, torch.cat(shown)[:SHOWN], pairs)


def _take(
    reference: Reference, draw: Iterable[Tensor], copying: CopySearch, clock: Clock, shown: list[Tensor]
) -> Drawn:
    features: list[list[Tensor]] = [[] for _ in reference.sides]
    logits: list[list[Tensor]] = [[] for _ in reference.sides]
    for batch in _in_batches(clock.of_each("sampling", draw), BATCH):
        if not shown:
            shown.append(batch[:SHOWN])
        with clock.during("features"):
            for number, side in enumerate(reference.sides):
                found, classes = side.extractor.features_and_logits(batch)
                features[number].append(found)
                if classes is not None:
                    logits[number].append(classes)
        with clock.during("copying"):
            copying.add(batch, [parts[-1] for parts in features])
    _require_enough(sum(map(len, features[0])))
    return Drawn([torch.cat(parts) for parts in features], [torch.cat(parts) for parts in logits if parts])


def _in_batches(source: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same pictures in batches of one size: what a network says of a picture depends, in the last digit, on that."""
    waiting: list[Tensor] = []
    for batch in source:
        waiting.append(batch)
        if sum(map(len, waiting)) >= size:
            *whole, rest = torch.cat(waiting).split(size)
            yield from whole
            waiting = [rest]
            if len(rest) == size:
                yield rest
                waiting = []
    if waiting:
        yield torch.cat(waiting)


def _require_enough(n: int) -> None:
    if n < FEWEST:
        raise Refused(f"n: {n} pictures are too few for FID and KID; give at least {FEWEST}")


def _require_finite(reference: Reference, n: int, **figures: float) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise Refused(f"{reference.metric}: {name} of {n} pictures is {value}, not a number; look at the pictures")


def _fid_and_kid(reference: Reference, side: Side, features: Tensor) -> tuple[float, float, float]:
    """fid, kid, kid_std of a side."""
    if not bool(features.isfinite().all()):
        return math.nan, math.nan, math.nan
    fid = frechet(statistics(features), side.statistics)
    return (fid, *kid(features, side.real, reference.subset(len(features))))


def _report(reference: Reference, draws: list[Drawn]) -> dict[str, Any]:
    n = len(draws[0])
    per_draw = [_draw_figures(reference, drawn) for drawn in draws]
    mean = {name: float(np.mean([row[name] for row in per_draw])) for name in ("fid", "kid", "precision", "recall")}
    stds = {
        name: math.hypot(*(row[name] for row in per_draw)) / len(per_draw) for name in ("fid_std", "kid_std")
    }  # of the mean of independent draws
    floor = reference.noise_floor(n)
    curve, infinity, infinity_std = _curve(reference, draws[0], per_draw[0]["fid_std"])
    n_real = min(len(side.rows) for side in reference.sides)
    intervals = {
        "fid": interval(mean["fid"], stds["fid_std"]),
        "kid": interval(mean["kid"], stds["kid_std"]),
        "precision": share_interval(mean["precision"], n * len(draws)),
        "recall": share_interval(mean["recall"], n_real),
    }
    floor_std = 0.0 if math.isnan(floor["fid_std"]) else floor["fid_std"]
    return {
        "metric": reference.metric,
        "fid": mean["fid"], "fid_std": stds["fid_std"], "kid": mean["kid"], "kid_std": stds["kid_std"], "n": n,
        "noise_floor": {**floor, "fid_std": _known(floor["fid_std"])},
        "extrapolated": floor["extrapolated"],
        "excess": {
            "fid": mean["fid"] - floor["fid"],
            "fid_interval": interval(mean["fid"] - floor["fid"], math.hypot(stds["fid_std"], floor_std)),
            "kid": mean["kid"] - floor["kid"],
            "kid_interval": interval(mean["kid"] - floor["kid"], stds["kid_std"]),
        },
        "precision": mean["precision"], "recall": mean["recall"],
        "inception_score": _inception_score(reference, draws),
        "recognisable": _recognisable(reference, draws),
        "intervals": intervals,
        "held_out": _held_out(reference, draws[0]),
        "coverage": _coverage(reference, draws),
        "curve": curve, "fid_infinity": infinity, "fid_infinity_std": infinity_std,
        "seeds": [{"seeds": None, **{name: row[name] for name in (*mean, "inception_score")}} for row in per_draw],
        "spread": None if len(draws) == 1 else {
            name: float(np.std([row[name] for row in per_draw], ddof=1)) for name in mean
        },
        "warnings": _warnings(reference, n, n_real, floor["extrapolated"], infinity is None),
    }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _draw_figures(reference: Reference, drawn: Drawn) -> dict[str, Any]:
    rows = []
    for side, features in zip(reference.sides, drawn.features, strict=True):
        fid, kid_mean, kid_std = _fid_and_kid(reference, side, features)
        _require_finite(reference, len(drawn), fid=fid, kid=kid_mean)
        precision, recall = precision_recall(features, side.real, side.radii)
        rows.append((fid, bootstrap_fid(features, side.statistics), kid_mean, kid_std, precision, recall))
    names = ("fid", "fid_std", "kid", "kid_std", "precision", "recall")
    found: dict[str, Any] = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    found["inception_score"] = float(np.mean([inception_score(x)[0] for x in drawn.logits])) if drawn.logits else None
    return found


def _inception_score(reference: Reference, draws: list[Drawn]) -> dict[str, Any]:
    of = "classifier" if reference.metric == "fid_classifier" else "inception"
    why = reference.sides[0].extractor.no_logits
    if why:
        return {"mean": None, "std": None, "of": of, "why": why}
    found = [inception_score(logits) for drawn in draws for logits in drawn.logits]
    mean, std = np.mean(found, axis=0).tolist()
    return {"mean": mean, "std": std, "of": of, "why": ""}


def _recognisable(reference: Reference, draws: list[Drawn]) -> dict[str, float] | None:
    """The shares of generated and of real (held-out) pictures that a classifier of the data set is confident of."""
    if reference.metric != "fid_classifier":
        return None
    generated = [confident_share(logits, CONFIDENT) for drawn in draws for logits in drawn.logits]
    real = [confident_share(logits, CONFIDENT) for logits in reference.held_out_logits]
    return {"generated": float(np.mean(generated)), "real": float(np.mean(real))}


def _coverage(reference: Reference, draws: list[Drawn]) -> dict[str, Any]:
    """By class where a classifier of the data set knows them, else by cluster of features."""
    if reference.metric == "fid_classifier":
        labels = torch.cat([torch.stack(drawn.logits).softmax(2).mean(0).argmax(1) for drawn in draws])
        return by_class(labels, reference.data.train.labels, reference.data.classes)
    # Inception's one side holds every training picture, so that the examples' numbers are rows of the training split.
    return by_cluster(torch.cat([drawn.features[0] for drawn in draws]), reference.sides[0].real)


def _curve(
    reference: Reference, drawn: Drawn, fid_std: float
) -> tuple[list[dict[str, float]], float | None, float | None]:
    """FID at growing n, what it comes to at infinite n, and that one's standard deviation."""
    curves = [
        fid_curve(features, side.statistics) for side, features in zip(reference.sides, drawn.features, strict=True)
    ]
    points = [(curves[0][i][0], float(np.mean([curve[i][1] for curve in curves]))) for i in range(len(curves[0]))]
    rows: list[dict[str, float]] = [{"n": n, "fid": fid} for n, fid in points]
    if points[0][0] < 2 * drawn.features[0].shape[1]:  # below, the bias is no multiple of 1/n
        return rows, None, None
    value, std = fid_at_infinity(points)
    return rows, value, math.hypot(std, fid_std)


def _held_out(reference: Reference, drawn: Drawn) -> dict[str, Any] | None:
    """FID and KID against held-out pictures and against as many training ones: None without held-out pictures."""
    if len(reference.data.held_out) < FEWEST:
        return None
    size = min(len(reference.data.held_out), *(len(side.rows) for side in reference.sides))
    fids, kids = [], []
    for number, (side, features) in enumerate(zip(reference.sides, drawn.features, strict=True)):
        generated = statistics(features)
        order = torch.randperm(len(side.real), generator=generator("cpu", "held out", number))
        sets = [rows for rows in order.split(size) if len(rows) == size][:HELD_OUT_SETS]
        real = [*(side.real[rows] for rows in sets), side.held_out[:size]]
        fids.append([quick_frechet(chosen, generated) for chosen in real])
        kids.append([_quick_kid(features, chosen) for chosen in real])
    found = {"fid": _averaged(fids), "kid": _averaged(kids)}
    return {
        "n": size,
        "train": {name: sides.train for name, sides in found.items()},
        "held_out": {name: sides.held_out for name, sides in found.items()},
        "difference": {name: _difference(sides) for name, sides in found.items()},
    }


def _quick_kid(generated: Tensor, real: Tensor) -> float:
    subset = max(2, min(len(generated), len(real), 1000) // 2)
    return kid(generated, real, subset, HELD_OUT_SUBSETS)[0]


def _averaged(values: list[list[float]]) -> Sides:
    """Of several sides' figures; the last of each is against the held-out pictures."""
    mean = np.mean([row[: min(map(len, values)) - 1] + row[-1:] for row in values], axis=0).tolist()
    return against_both(mean[:-1], mean[-1])


def _difference(sides: Sides) -> dict[str, float | None]:
    value = sides.held_out - sides.train
    return {"difference": value, "low": _known(value - sides.half), "high": _known(value + sides.half)}


def _warnings(reference: Reference, n: int, n_real: int, extrapolated: bool, no_infinity: bool) -> list[str]:
    dimension = reference.sides[0].extractor.layer
    found = []
    for count, what in ((n, "pictures"), (n_real, "real pictures")):
        if count < 10 * dimension:
            singular = " (and its covariance is singular)" if count <= dimension else ""
            bias = (
                "FID is biased upwards; trust KID first"
                if what == "pictures"
                else "FID of another such set would differ"
            )
            found.append(f"{count} {what} are few for {dimension} features{singular}: {bias}")
    if extrapolated:
        found.append(f"the noise floor of FID is extrapolated: there are too few real pictures to measure it at {n}")
    if no_infinity:
        found.append(f"{n} pictures are too few to extrapolate FID to infinitely many: {4 * dimension} would do")
    held_out = len(reference.data.held_out)
    if held_out < 100:
        found.append(f"{held_out} held-out pictures are few to tell copying by")
    return found
