"""Successive halving: which trials go on, by the same quick score of the same seeds, or pictures, at rungs of their budget.

The rungs are `first_rung`, `rung_factor` times that, and so on. A trial that has come to one stands there, saved, until a
worker has nothing else to do. Then the best of those that stand goes on if it is among the best 1/rung_factor of all that
have come so far, or if chance alone may have put it behind them: what is cut is worse than the last of them by more than
the 95% interval of the difference, and is cut when nobody is left who might yet come there.

This is the promotion of Li et al. 2018 (https://arxiv.org/abs/1810.05934, algorithm 2). Optuna's SuccessiveHalvingPruner
judges a trial as it arrives, when those that beat it may yet have to begin.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from ddpm.errors import Refused
from ddpm.evaluation.figures.numbers import Z, plus_minus
from ddpm.settings import SearchSettings

if TYPE_CHECKING:  # they import torch
    from ddpm.evaluation.measure import Scores
    from ddpm.model.model import Model
    from ddpm.search.recorder import Recorder

RUNG = "rung_"  # before its epoch: a trial's fact
STANDS = "stands"  # a trial's fact: the epoch of the last rung at which it stood, with its checkpoint written
PARTS = 64  # of the held-out pictures, at most: few numbers to keep, and enough to tell chance by
FEWEST_LOSSES = 16


class Rung(TypedDict):
    """What came of a trial at a rung."""

    score: float  # FID, or the held-out loss; less is better
    std: float  # of the score by itself; of a loss, whose noise most trials have in common, it says little
    parts: list[float]  # the loss of each part of the held-out pictures, the same for every trial; none of FID
    hopeless: NotRequired[bool]  # whether it ended there; none while it stands there


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


def rung_in_words(rung: Rung) -> str:
    """What was scored there."""
    if rung["parts"]:
        return f"held-out loss {rung['score']:.4f}"
    return f"FID {plus_minus(rung['score'], rung['std'])}"


def rung_at(epoch: int) -> str:
    """The name of the trial's fact."""
    return f"{RUNG}{epoch}"


class Halving(BasePruner):
    """Whether a trial is to end at the rung that it told last, beside all that have come there."""

    def __init__(self, settings: SearchSettings) -> None:
        self.factor = settings.rung_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return self.cuts(trial, study.get_trials(deepcopy=False))

    def cuts(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        """The same, by all trials of the study, as they are listed."""
        name = rung_at(trial.last_step or 0)
        if name not in trial.user_attrs:  # told by an earlier release
            return False
        reached = [cast(Rung, other.user_attrs[name]) for other in trials if name in other.user_attrs]
        reached.sort(key=lambda rung: rung["score"])
        last = reached[max(1, len(reached) // self.factor) - 1]  # the last of the best
        return surely_worse(cast(Rung, trial.user_attrs[name]), last)


def stands_at(trial: FrozenTrial | optuna.Trial) -> int:
    """The epoch of the rung at which a trial stands, not yet judged; 0 where it does not."""
    known = trial.user_attrs
    epoch = int(known.get(STANDS, 0))
    return epoch if epoch and "hopeless" not in known[rung_at(epoch)] else 0


def turn(trial: FrozenTrial) -> tuple[int, float, int]:
    """By which the trials that are left are taken: those that stand at a rung last, the best ones first."""
    epoch = stands_at(trial)
    return epoch, cast(Rung, trial.user_attrs[rung_at(epoch)])["score"] if epoch else 0.0, trial.number


def awaits(pruner: BasePruner, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Whether a trial that stands would be cut by what has come there so far, while others of the study's may yet come."""
    epoch = stands_at(trial)
    if not epoch or not isinstance(pruner, Halving):
        return False
    behind = any(not other.state.is_finished() and rung_at(epoch) not in other.user_attrs for other in trials)
    return behind and pruner.cuts(trial, trials)


def goes_on(trial: optuna.Trial) -> bool:
    """Whether a trial goes on from the rung at which it stood last. It is judged once, and that is kept."""
    if epoch := stands_at(trial):
        rung = cast(Rung, trial.user_attrs[rung_at(epoch)])
        rung["hopeless"] = trial.should_prune()
        trial.set_user_attr(rung_at(epoch), rung)
    stood = trial.user_attrs.get(STANDS)
    return stood is None or not trial.user_attrs[rung_at(stood)]["hopeless"]


class Rungs:
    """A trainer's observer that records and, at the rungs, scores a trial, and lets it rest there.

    A rung keeps the score with which it was first told, and what came of that, whatever is killed and carried on.
    """

    def __init__(
        self, trial: optuna.Trial, settings: SearchSettings, recorder: Recorder, quick: Callable[[Model], Scores],
        losses: Callable[[], list[float]], require: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.trial, self.settings, self.recorder, self.quick, self.losses = trial, settings, recorder, quick, losses
        self.require = require  # raises where another worker has taken the trial over: no checkpoint is to follow
        self.stands = 0  # the epoch at which the training came to rest

    def begins(self, epochs: float) -> None:
        """The training goes on from there: a rung whose checkpoint was written when its worker was killed, say."""
        for epoch in self.settings.rungs:
            rung = self.trial.user_attrs.get(rung_at(epoch))
            if epoch == epochs and rung and "hopeless" not in rung:
                self.stands = epoch

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.recorder.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        self.recorder.looked(epoch, images_seen, model)
        if epoch not in self.settings.rungs:
            return False
        name = rung_at(epoch)
        if name not in self.trial.user_attrs:
            self.trial.set_user_attr(name, self._score(images_seen, model))
        if epoch not in self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values:
            self.trial.report(self.trial.user_attrs[name]["score"], epoch)
        rung = cast(Rung, self.trial.user_attrs[name])
        if "hopeless" not in rung:
            self.stands = epoch
        return rung.get("hopeless", False)

    def rests(self) -> bool:
        return bool(self.stands)

    @property
    def scored(self) -> str:
        """The score with which it stands, in words."""
        return rung_in_words(cast(Rung, self.trial.user_attrs[rung_at(self.stands)]))

    def _score(self, images_seen: int, model: Model) -> Rung:
        if self.settings.rung_score == "loss":
            return rung_of_losses(self.losses())
        scores = self.quick(model)
        self.recorder.metrics({f"interim_{key}": value for key, value in scores.by_key().items()}, images_seen)
        return rung_of_scores(scores.fid, scores.fid_std)

    def saving(self) -> None:
        self.require()
        self.recorder.saving()
