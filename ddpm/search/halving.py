"""Successive halving: which trials go on, by the same quick score of the same seeds, or pictures, at rungs of their budget.

The rungs are `first_rung`, `rung_factor` times that, and so on. At each, a trial goes on that is among the best
1/rung_factor of those that have come so far (Li et al. 2018, https://arxiv.org/abs/1810.05934), or that chance alone may
have put behind them: what is cut is worse than the last of them by more than the 95% interval of the difference.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from ddpm.errors import Refused
from ddpm.evaluation.figures.numbers import Z
from ddpm.settings import SearchSettings

if TYPE_CHECKING:  # they import torch
    from ddpm.evaluation.measure import Scores
    from ddpm.model.model import Model
    from ddpm.search.recorder import Recorder

RUNG = "rung_"  # before its epoch: a trial's fact
PARTS = 64  # of the held-out pictures, at most: few numbers to keep, and enough to tell chance by
FEWEST_LOSSES = 16


class Rung(TypedDict):
    """What came of a trial at a rung."""

    score: float  # FID, or the held-out loss; less is better
    std: float  # of the score by itself; of a loss, whose noise most trials have in common, it says little
    parts: list[float]  # the loss of each part of the held-out pictures, the same for every trial; none of FID
    hopeless: NotRequired[bool]  # whether it ended there; none while that is being asked


def rung_of_scores(fid: float, fid_std: float) -> Rung:
    """Raises Refused where the figure is no number: nothing compares with it."""
    _require_finite("FID", [fid, fid_std])
    return {"score": fid, "std": fid_std, "parts": []}


def rung_of_losses(losses: Sequence[float]) -> Rung:
    """By the losses on held-out pictures, from the lowest noise level to the highest, at least `FEWEST_LOSSES` of them.

    Raises Refused where one is no number: nothing compares with it.
    """
    _require_finite("held-out loss", losses)
    parts = min(PARTS, len(losses))
    edges = [len(losses) * part // parts for part in range(parts + 1)]
    means = [statistics.fmean(losses[low:high]) for low, high in itertools.pairwise(edges)]
    return {"score": statistics.fmean(losses), "std": statistics.stdev(means) / math.sqrt(parts), "parts": means}


def _require_finite(name: str, values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise Refused(f"the {name} at a rung is not finite; lower lr_high")


def surely_worse(one: Rung, other: Rung) -> bool:
    """Whether one's score is worse by more than the 95% interval of the difference."""
    noise = math.hypot(one["std"], other["std"])
    if one["parts"]:
        apart = [mine - yours for mine, yours in zip(one["parts"], other["parts"], strict=True)]
        noise = statistics.stdev(apart) / math.sqrt(len(apart))
    return one["score"] - other["score"] > Z * noise


def rung_at(epoch: int) -> str:
    """The name of the trial's fact."""
    return f"{RUNG}{epoch}"


class Halving(SuccessiveHalvingPruner):
    """Optuna's, but that nothing is cut within the noise of its score."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(min_resource=settings.first_rung, reduction_factor=settings.rung_factor)
        self.factor = settings.rung_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to end at the rung that it has just told. Asked again of the same rung, it says no."""
        name = rung_at(trial.last_step or 0)
        if name not in trial.user_attrs or not super().prune(study, trial):  # not there: told by an earlier release
            return False
        reached = [
            cast(Rung, other.user_attrs[name]) for other in study.get_trials(deepcopy=False) if name in other.user_attrs
        ]
        reached.sort(key=lambda rung: rung["score"])
        last = reached[max(1, len(reached) // self.factor) - 1]  # the last of the best
        return surely_worse(cast(Rung, trial.user_attrs[name]), last)


class Rungs:
    """A trainer's observer that records and, at the rungs, scores a trial, and ends a hopeless one.

    A rung keeps the score with which it was first told, and what came of that, whatever is killed and carried on.
    """

    def __init__(
        self, trial: optuna.Trial, settings: SearchSettings, recorder: Recorder, quick: Callable[[Model], Scores],
        losses: Callable[[], list[float]], require: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.trial, self.settings, self.recorder, self.quick, self.losses = trial, settings, recorder, quick, losses
        self.require = require  # raises where another worker has taken the trial over: no checkpoint is to follow

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.recorder.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        self.recorder.looked(epoch, images_seen, model)
        if epoch not in self.settings.rungs:
            return False
        name = rung_at(epoch)
        if name not in self.trial.user_attrs:
            self.trial.set_user_attr(name, self._score(images_seen, model))
        rung = cast(Rung, self.trial.user_attrs[name])
        if "hopeless" not in rung:
            if epoch not in self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values:
                self.trial.report(rung["score"], epoch)
            rung["hopeless"] = self.trial.should_prune()
            self.trial.set_user_attr(name, rung)
        return rung["hopeless"]

    def _score(self, images_seen: int, model: Model) -> Rung:
        if self.settings.rung_score == "loss":
            return rung_of_losses(self.losses())
        scores = self.quick(model)
        self.recorder.metrics({f"interim_{key}": value for key, value in scores.by_key().items()}, images_seen)
        return rung_of_scores(scores.fid, scores.fid_std)

    def saving(self) -> None:
        self.require()
        self.recorder.saving()
