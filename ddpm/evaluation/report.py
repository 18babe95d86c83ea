"""What a report holds (docs/evaluation.md says what its figures mean).

Any key may be missing where a report was made by an earlier release, and a figure of one's own (`figures/table.py`) adds
its own: `number_in` reads those. Intervals are 95%, [low, high] or `low` and `high`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, cast

THIRD = 1 / 3  # a copy's distance to its nearest training picture is less than this share of that to the second nearest


class Measurement(TypedDict, total=False):
    """What was measured with what, against what. Figures compare only where all of this is equal."""

    dataset_digest: str
    split: str
    image_size: int
    n_real: int
    neighbours: int  # of precision and recall
    extractor: str
    layer: int
    weights_sha256: str
    classifier_accuracy: float
    n: int
    kid_subsets: int
    kid_subset_size: int


class Generation(TypedDict, total=False):
    """How the pictures were made: a model's, drawn so, or a folder's files."""

    checkpoint: str
    weights_sha256: str
    weights: str  # ema
    sampler: str
    sampling_steps: int
    churn: float
    guidance: float
    guide: str  # of the weaker model that guidance leads away from, where there is one: its weights' digest
    sample_batch: int
    seeds: list[int]  # the first, and the one after the last
    draws: int
    pictures: str  # the folder
    sha256: str  # of its pictures


class Protocol(TypedDict, total=False):
    """What a figure means."""

    measurement: Measurement
    generation: Generation


class NoiseFloor(TypedDict, total=False):
    """What n real pictures score against others: `n` were taken, and FID is `extrapolated` where that is fewer."""

    fid: float
    fid_std: float | None
    kid: float
    n: int
    extrapolated: bool


class Excess(TypedDict, total=False):
    """What is above the noise floor."""

    fid: float
    fid_interval: list[float]
    kid: float
    kid_interval: list[float]


class BesideNoise(TypedDict):
    """How far generated pictures are from real ones, in shares of how far noise is: 0 as real ones, 1 as noise.

    By KID, less its noise floor. `kid` is that of `n` pictures of noise. The share and its interval are None where the
    extractor itself does not tell noise from real pictures.
    """

    kid: float
    n: int
    share: float | None
    interval: list[float] | None


class InceptionScore(TypedDict, total=False):
    """`of` the extractor whose classes it is of; None, and `why`, where it knows none."""

    mean: float | None
    std: float | None
    of: str
    why: str


class Recognisable(TypedDict):
    """The shares of pictures that a classifier of the data set is sure of."""

    generated: float
    real: float


class Difference(TypedDict):
    """Of two figures; low and high are None where nobody knows them."""

    difference: float
    low: float | None
    high: float | None


class HeldOut(TypedDict, total=False):
    """FID and KID, by name, against `n` held-out pictures and against as many training ones."""

    n: int
    train: dict[str, float]
    held_out: dict[str, float]
    difference: dict[str, Difference]


class KindShares(TypedDict, total=False):
    """A class's or a cluster's share of the generated and of the real pictures."""

    name: str
    generated: float
    low: float
    high: float
    real: float
    examples: list[int]  # of a cluster: rows of the training split


class Coverage(TypedDict):
    """Whether all kinds are drawn: `missing` less than half as often as they should be; half the sum of the shares'
    differences, and what chance makes of that."""

    by: Literal["class", "cluster"]
    rows: list[KindShares]
    missing: list[str]
    distance: float
    by_chance: float


class CurvePoint(TypedDict):
    n: int
    fid: float


class Spread(TypedDict):
    """Of the distances to the nearest training picture, or of their ratios to the second nearest's."""

    min: float
    median: float


class Nearness(TypedDict, total=False):
    """How near some pictures are to the training pictures, in one space."""

    n: int
    nearer_to_train: float | None
    below_third: float
    below_threshold: float
    distance: Spread
    ratio: Spread


class Closer(TypedDict, total=False):
    """How often a generated picture is nearer to the training set than a held-out one is."""

    share: float
    low: float
    high: float


class CopyingIn(TypedDict, total=False):
    """Copying, as it is seen in one space."""

    generated: Nearness
    held_out: Nearness | None
    threshold: float
    closer: Closer | None


class Pair(TypedDict):
    """A generated picture, by number, and the training picture nearest to it."""

    picture: int
    train: int
    flipped: bool
    distance: float
    ratio: float
    space: str


class Copying(TypedDict, total=False):
    """The share of copies, that of the held-out pictures, and the lower end of the difference's interval."""

    n: int
    held_out_n: int
    pixel: CopyingIn
    feature: CopyingIn
    share: float
    share_held_out: float | None
    excess: float
    excess_low: float
    pairs: list[Pair]


class Levels(TypedDict, total=False):
    """Losses by noise level, and the gap between training and held-out pictures in shares of the latter's."""

    sigma: list[float]
    train: list[float]
    held_out: list[float] | None
    pictures: int
    gap: list[float] | None
    gap_low: list[float] | None
    gap_high: list[float] | None


class Cost(TypedDict, total=False):
    seconds: dict[str, float]  # by stage
    pictures: int
    nfe: int | None  # network evaluations a picture


class Mean(TypedDict):
    """Of a judge's scores from 1 to 5."""

    mean: float
    low: float
    high: float
    n: int


class ToldApart(TypedDict):
    """The AUC of real pictures' scores over those of something else, and whether it is as high as is needed."""

    value: float
    low: float
    high: float
    passed: bool
    needed: float


class Verdict(TypedDict):
    """The judge's (ddpm/judge): no score, and `why`, where it did not tell the controls apart."""

    reported: bool
    why: str
    score: Mean | None
    controls: dict[str, Mean | None]
    auc: ToldApart | None
    distribution: dict[str, list[int]]  # how many pictures of each kind had a 1 … a 5
    pictures: dict[str, int]
    counted: dict[str, int]
    tokens: dict[str, int]
    cost: float | None
    seconds: float
    stopped: str  # by which bound
    protocol: dict[str, str | int]


class MeasuredAgainst(TypedDict):
    """The data set, as a person calls it; its digest is in the measurement."""

    name: str
    pictures: int  # of its training split
    held_out: int


class Subject(TypedDict, total=False):
    """Whose pictures they are, as a person calls it: a model's name, its version where it has one, the run."""

    model: str
    version: int | None
    run: str


class Report(TypedDict, total=False):
    """Figures of generated pictures, how far to trust them, copying, and the protocol."""

    key: str  # reports/KEY, where it lies in the store
    made: str  # the day, as 2026-11-25 (UTC)
    dataset: MeasuredAgainst
    sha256: str  # of all else that is stored: `seal`
    metric: str  # what FID is called by its extractor: fid_768
    fid: float
    fid_std: float
    kid: float
    kid_std: float
    precision: float
    recall: float
    n: int
    intervals: dict[str, list[float]]
    noise_floor: NoiseFloor
    extrapolated: bool
    excess: Excess
    noise: BesideNoise
    inception_score: InceptionScore
    recognisable: Recognisable | None
    held_out: HeldOut | None
    coverage: Coverage
    curve: list[CurvePoint]
    fid_infinity: float | None
    fid_infinity_std: float | None
    seeds: list[dict[str, Any]]  # a draw's figures, by name, and its seeds
    spread: dict[str, float] | None  # of the draws' figures
    copying: Copying
    warnings: list[str]
    levels: Levels | None
    pictures: dict[str, str | None]  # URIs, by what they show
    grid: str | None
    cost: Cost
    protocol: Protocol
    subject: Subject  # what follows is of one asking, and in no stored report
    judge: Verdict | None
    training: dict[str, list[tuple[int, float]]]  # losses over images seen
    run_seconds: dict[str, float]  # by step
    page: str


# What is no part of a stored report, or not sealed; `seconds` are what the step took, which its task adds.
LATER = ("sha256", "subject", "judge", "training", "run_seconds", "page", "seconds")


def seal(report: Mapping[str, object]) -> str:
    """The digest of what was measured, which a report carries, so that a figure written over another one is seen."""
    measured = {name: value for name, value in report.items() if name not in LATER}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """The same, with None for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_sealed(report: Mapping[str, object]) -> bool:
    """Whether a report is as it was measured; earlier releases' carry no digest (nor `noise`), and nobody can tell."""
    digest = report.get("sha256")
    return "noise" not in report if digest is None else digest == seal(report)


def is_findable(report: Mapping[str, object]) -> bool:
    """Whether a report has anything by which it could be found in a store; those of earlier releases have not."""
    return any(name in report for name in ("key", "sha256", "noise"))


def number_in(report: Mapping[str, object], name: str) -> float | None:
    """A report's number by a name that is not known here; None where there is none."""
    return cast(float | None, report.get(name))
