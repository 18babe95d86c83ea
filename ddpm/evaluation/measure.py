"""All figures of generated pictures, from one pass over them: they are looked at as they arrive, and not kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ddpm.data.manifest import taken
from ddpm.errors import Refused
from ddpm.evaluation.extractors.features import BATCH
from ddpm.evaluation.figures import classes
from ddpm.evaluation.figures.coverage import coverage
from ddpm.evaluation.figures.curve import curve_of
from ddpm.evaluation.figures.held_out import held_out
from ddpm.evaluation.figures.intervals import interval, is_biased
from ddpm.evaluation.figures.measuring import fid, kid_with_std
from ddpm.evaluation.figures.memorisation import CopySearch
from ddpm.evaluation.figures.noise import beside_noise
from ddpm.evaluation.figures.numbers import distance_name
from ddpm.evaluation.figures.sample import Drawn, Value, samples
from ddpm.evaluation.figures.table import DECISIVE, FIGURES, Interval, measured
from ddpm.evaluation.figures.uncertainty import bootstrap_fid
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import Excess, NoiseFloor, Report, number_in

SHOWN = 64  # pictures of the sample grid
FEWEST = 16

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


@dataclass(frozen=True)
class Scores:
    """FID and KID of a set of pictures; lower is better. The stds are of the figures' own uncertainty."""

    metric: str
    fid: float
    fid_std: float  # nan where it was not asked for
    kid: float
    kid_std: float
    n: int

    def named(self, figure: str) -> str:
        """fid_768 (n=128): what "fid" or "kid" of these is called."""
        return distance_name(figure, self.metric, self.n)

    def by_key(self) -> dict[str, float]:
        """FID and KID by the names under which they meet those of other protocols: fid_768."""
        return {FIGURES[name].key(self.metric): getattr(self, name) for name in DECISIVE}


@dataclass
class Measured:
    """A report but for its protocol, and the pictures that belong to it: uint8 [n,3,h,w]."""

    report: Report
    shown: Tensor
    pairs: Tensor


def score(reference: Reference, images: Tensor, intervals: bool = False) -> Scores:
    """FID and KID alone, of pictures uint8 [n,3,h,w], as a search needs them.

    Raises Refused where a figure is not finite, or there are too few pictures to speak of.
    """
    _require_enough(len(images))
    drawn = Drawn([side.extractor.features(images) for side in reference.sides], [], {})
    rows = []
    for sample in samples(reference, drawn):
        fid_std = bootstrap_fid(sample.features, sample.side.statistics) if intervals else math.nan
        found = kid_with_std(sample)
        rows.append((fid(sample), fid_std, found.value, _std_of("kid", found)))
    fid_mean, fid_std, kid_mean, kid_std = np.mean(rows, axis=0).tolist()
    _require_finite(reference, "fid", fid_mean, len(images))
    _require_finite(reference, "kid", kid_mean, len(images))
    return Scores(reference.metric, fid_mean, fid_std, kid_mean, kid_std, len(images))


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
    report["copying"] = copied
    return Measured(report, torch.cat(shown)[:SHOWN], pairs)


def _take(
    reference: Reference, draw: Iterable[Tensor], copying: CopySearch, clock: Clock, shown: list[Tensor]
) -> Drawn:
    features: list[list[Tensor]] = [[] for _ in reference.sides]
    logits: list[list[Tensor]] = [[] for _ in reference.sides]
    look_at = {name: figure.look for name, figure in FIGURES.items() if figure.look}
    looks: dict[str, list[Tensor]] = {name: [] for name in look_at}
    for batch in _in_batches(clock.of_each("sampling", draw), BATCH):
        if not shown:
            shown.append(batch[:SHOWN])
        with clock.during("features"):
            for number, side in enumerate(reference.sides):
                found, of_classes = side.extractor.features_and_logits(batch)
                features[number].append(found)
                if of_classes is not None:
                    logits[number].append(of_classes)
            for name, look in look_at.items():
                looks[name].append(look(batch))
        with clock.during("copying"):
            copying.add(batch, [parts[-1] for parts in features])
    _require_enough(sum(map(len, features[0])))
    return Drawn(
        [torch.cat(parts) for parts in features],
        [torch.cat(parts) for parts in logits if parts],
        {name: torch.cat(parts) for name, parts in looks.items()},
    )


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


def _require_finite(reference: Reference, name: str, value: float, n: int) -> None:
    if not math.isfinite(value):
        raise Refused(f"{reference.metric}: {name} of {n} pictures is {value}, not a number; look at the pictures")


def _report(reference: Reference, draws: list[Drawn]) -> Report:
    n, n_real = len(draws[0]), min(len(side.rows) for side in reference.sides)
    per_draw = [_of_draw(reference, drawn) for drawn in draws]
    figures: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for name, found in _over_draws(per_draw).items():
        figures[name] = found.value
        if found.std is not None:
            figures[f"{name}_std"] = found.std
        if between := FIGURES[name].interval_of(found, n * len(draws), n_real):
            intervals[name] = between
    floor = reference.noise_floor(n)
    excess = _excess(figures, floor)
    curve, infinity, infinity_std = curve_of(reference, draws[0], _std_of("fid", per_draw[0]["fid"]))
    scores = [classes.score_of_draw(drawn) for drawn in draws]
    report: Report = {
        "n": n,
        "intervals": intervals,
        "noise_floor": floor,
        "extrapolated": floor["extrapolated"],
        "excess": excess,
        "noise": beside_noise(reference, excess, floor),
        "inception_score": classes.score_of_draws(reference, draws),
        "recognisable": classes.recognisable(reference, draws),
        "held_out": held_out(reference, draws[0]),
        "coverage": coverage(reference, draws),
        "curve": curve,
        "fid_infinity": infinity,
        "fid_infinity_std": infinity_std,
        "seeds": [
            {"seeds": None, **{name: found.value for name, found in row.items()}, "inception_score": score}
            for row, score in zip(per_draw, scores, strict=True)
        ],
        "spread": None if len(draws) == 1 else {
            name: float(np.std([row[name].value for row in per_draw], ddof=1)) for name in per_draw[0]
        },
        "warnings": _warnings(reference, n, n_real, floor["extrapolated"], infinity is None),
    }  # fmt: skip
    return cast(Report, {"metric": reference.metric, **figures, **report})


def _of_draw(reference: Reference, drawn: Drawn) -> dict[str, Value]:
    """The table's figures of one draw, by name: means over the sides."""
    sides: dict[str, list[Value]] = {figure.name: [] for figure, _ in measured()}
    for sample in samples(reference, drawn):
        for figure, measure_it in measured():
            found = measure_it(sample)
            _require_finite(reference, figure.name, found.value, len(drawn))
            sides[figure.name].append(found)
    return {name: _mean(found) for name, found in sides.items()}


def _mean(values: list[Value]) -> Value:
    stds = [value.std for value in values if value.std is not None]
    return Value(float(np.mean([value.value for value in values])), float(np.mean(stds)) if stds else None)


def _over_draws(per_draw: list[dict[str, Value]]) -> dict[str, Value]:
    """The means of independent draws, and their deviations."""
    found = {}
    for name in per_draw[0]:
        values = [row[name] for row in per_draw]
        known = FIGURES[name].interval is Interval.STD
        std = math.hypot(*(_std_of(name, value) for value in values)) / len(values) if known else None
        found[name] = Value(float(np.mean([value.value for value in values])), std)
    return found


def _std_of(name: str, value: Value) -> float:
    if value.std is None:
        raise ValueError(f"{name}: its interval is from a standard deviation, and `measure` gave none")
    return value.std


def _excess(figures: dict[str, float], floor: NoiseFloor) -> Excess:
    """What each distance has above its noise floor, with the interval that both make."""
    found: dict[str, float | list[float]] = {}
    for name in (figure.name for figure in FIGURES.values() if figure.distance):
        real, real_std = number_in(floor, name), number_in(floor, f"{name}_std") or 0.0
        if real is not None:
            found[name] = above = figures[name] - real
            found[f"{name}_interval"] = interval(above, math.hypot(figures[f"{name}_std"], real_std))
    return cast(Excess, found)


def _warnings(reference: Reference, n: int, n_real: int, extrapolated: bool, no_infinity: bool) -> list[str]:
    dimension = reference.sides[0].extractor.layer
    found = []
    for count, what in ((n, "pictures"), (n_real, "real pictures")):
        if is_biased(count, dimension):
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
    if limited := taken(reference.data.manifest):
        found.append(f"the data set holds {limited}")
    held_out = len(reference.data.held_out)
    if held_out < 100:
        found.append(f"{held_out} held-out pictures are few to tell copying by")
    return found
