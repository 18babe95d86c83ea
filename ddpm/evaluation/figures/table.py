"""The figures: what each is called, how it is measured and shown, and which way is better.

Measuring, `ddpm compare`, the report's page, the table at the end of a run and MLflow go by this table. A new figure is
one function, in `measuring.py` where it computes, and its row here, or, elsewhere, a call of `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ddpm.evaluation.figures.intervals import interval, share_interval
from ddpm.evaluation.figures.numbers import distance_name, number, share
from ddpm.evaluation.figures.reading import (
    Reading,
    read_held_out,
    read_inception_score,
    read_infinity,
    read_recognisable,
)
from ddpm.evaluation.report import Copying, NoiseFloor, Report, number_in

if TYPE_CHECKING:  # whoever only shows figures waits for no torch
    from torch import Tensor

    from ddpm.evaluation.figures.sample import Sample, Value


class Interval(Enum):
    """How a figure's 95% interval is formed."""

    NONE = "not"
    STD = "from its standard deviation, which stands beside it as NAME_std"
    OF_GENERATED = "as a share of the generated pictures"
    OF_REAL = "as a share of the real pictures"


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Args:
        name: its key in a report, in `ddpm compare` and in MLflow.
        title, meaning: for people.
        measure: of one draw against one side; means over both are reported. None: it is told by other parts of a report.
        look: what must be kept of pictures uint8 [b,3,h,w] themselves, [b,…], as they pass by: features are kept anyhow.
        distance: of features, and called by them; real pictures have one from each other, the noise floor.
        of_fid: the FID of its title is called so, too.
        biased: it falls with n, so that its noise floor may be one that is extrapolated.
        shown, digits: how it is printed, and with how many digits where a line is short.
        read: where it is found in a report; None: under its name.
    """

    name: str
    title: str
    meaning: str
    higher_is_better: bool
    measure: Callable[[Sample], Value] | None = None
    look: Callable[[Tensor], Tensor] | None = None
    interval: Interval = Interval.NONE
    distance: bool = False
    of_fid: bool = False
    biased: bool = False
    shown: Callable[[float | None], str] = number
    digits: int = 4
    read: Callable[[Report], Reading | None] | None = None

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    def named(self, report: Report) -> str:
        """fid_768 (n=128): distances of other features, or of another number of pictures, are other figures."""
        metric = report.get("metric")
        if self.distance:
            return distance_name(self.name, metric, report.get("n"))
        return self.title.replace("FID", distance_name("fid", metric)) if self.of_fid else self.title

    def key(self, metric: str | None) -> str:
        """fid_768, kid_classifier: its name where figures of several protocols meet, as in MLflow."""
        return distance_name(self.name, metric) if self.distance else self.name

    def reading(self, report: Report) -> Reading | None:
        """What a report says of it; None where it has no place for it."""
        if self.read:
            return self.read(report)
        low, high = (report.get("intervals") or {}).get(self.name) or (None, None)
        floor = report.get("noise_floor") or NoiseFloor()
        beside = number_in(floor, self.name) if self.distance else None
        note = self.floor_note(floor) if beside is not None else ""
        return Reading(number_in(report, self.name), low, high, beside, note)

    def floor_note(self, floor: NoiseFloor) -> str:
        """What is to be said with its noise floor."""
        return " (extrapolated)" if self.biased and floor.get("extrapolated") else ""

    def interval_of(self, found: Value, generated: int, real: int) -> list[float] | None:
        """Its 95% interval, where it was measured of so many pictures."""
        if self.interval is Interval.STD and found.std is not None:
            return interval(found.value, found.std)
        if self.interval in (Interval.OF_GENERATED, Interval.OF_REAL):
            return share_interval(found.value, generated if self.interval is Interval.OF_GENERATED else real)
        return None


def _fid(sample: Sample) -> Value:
    from ddpm.evaluation.figures.measuring import fid_with_std

    return fid_with_std(sample)


def _kid(sample: Sample) -> Value:
    from ddpm.evaluation.figures.measuring import kid_with_std

    return kid_with_std(sample)


def _precision(sample: Sample) -> Value:
    from ddpm.evaluation.figures.measuring import precision

    return precision(sample)


def _recall(sample: Sample) -> Value:
    from ddpm.evaluation.figures.measuring import recall

    return recall(sample)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "fid", "FID", "distance from the training pictures", False,
            _fid, interval=Interval.STD, distance=True, biased=True,
        ),
        Figure(
            "kid", "KID", "the same without FID's bias", False,
            _kid, interval=Interval.STD, distance=True, digits=3,
        ),
        Figure(
            "fid_infinity", "FID at infinite n", "without the part that is due to the number of pictures", False,
            of_fid=True, read=read_infinity,
        ),
        Figure(
            "fid_held_out", "FID, held-out pictures", "distance from pictures that it was not trained on", False,
            of_fid=True, read=read_held_out,
        ),
        Figure(
            "precision", "Precision", "generated pictures that are among the real ones", True,
            _precision, interval=Interval.OF_GENERATED,
        ),
        Figure(
            "recall", "Recall", "real pictures that are among the generated ones", True,
            _recall, interval=Interval.OF_REAL,
        ),
        Figure(
            "inception_score", "Inception Score", "clear and varied classes", True, read=read_inception_score
        ),
        Figure(
            "recognisable", "Recognisable", "a classifier is sure of them", True,
            shown=share, read=read_recognisable,
        ),
    )
}  # fmt: skip
DECISIVE = ("fid", "kid")  # by which a search ranks its trials and a version is promoted
_OURS = tuple(FIGURES)


def register(figure: Figure) -> None:
    """Add a figure of one's own: it is measured, compared, shown and logged like the others.

    Raises ValueError for a name that is taken, by a figure or another part of a report, or where nothing measures it.
    """
    if figure.name in FIGURES or figure.name in Report.__annotations__:
        raise ValueError(f"there is {figure.name!r} in a report already; give another name")
    if figure.name.endswith("_std"):
        raise ValueError(f"{figure.name}: the ending _std is that of a figure's standard deviation; give another name")
    if figure.measure is None or figure.distance:
        raise ValueError(
            f"{figure.name}: give `measure`, and leave `distance` to FID and KID, whose noise floor is known"
        )
    FIGURES[figure.name] = figure


def added() -> list[str]:
    """The names of those that were registered: a report with them is another report."""
    return [name for name in FIGURES if name not in _OURS]


def measured() -> Iterator[tuple[Figure, Callable[[Sample], Value]]]:
    """Those that are measured of a sample, each with what does it."""
    for figure in FIGURES.values():
        if figure.measure:
            yield figure, figure.measure


def logged(report: Report) -> Mapping[str, float | None]:
    """What MLflow is told of a report: what was measured, the noise floors, copies, and the judge's score (None: none).

    Distances carry the name of their features: fid_768.
    """
    metric = report.get("metric")
    found = {figure.key(metric): number_in(report, figure.name) for figure, _ in measured()}
    floor = report.get("noise_floor") or NoiseFloor()
    floors = {
        f"noise_floor_{figure.key(metric)}": number_in(floor, name)
        for name, figure in FIGURES.items()
        if figure.distance
    }
    judge = report.get("judge")
    score = judge["score"] if judge else None
    copies = (report.get("copying") or Copying()).get("share")
    return {**found, **floors, "copies": copies, "judge_score": score["mean"] if score else None}
