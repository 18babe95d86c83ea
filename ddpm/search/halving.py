"""Successive halving: which trials go on, by the same quick score of the same seeds, at rungs of their budget.

The rungs are `first_rung`, `rung_factor` times that, and so on. At each, a trial goes on that is among the best
1/rung_factor of those that have come so far (Li et al. 2018, https://arxiv.org/abs/1810.05934), or that chance alone may
have put behind them: what is cut is worse than the last of them by more than the 95% interval of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from ddpm.evaluation.figures.numbers import Z
from ddpm.settings import SearchSettings

if TYPE_CHECKING:  # they import torch
    from ddpm.evaluation.measure import Scores
    from ddpm.model.model import Model
    from ddpm.search.recorder import Recorder

RUNG = "rung_"  # before its epoch: a trial's fact


class Rung(TypedDict):
    """What came of a trial at a rung."""

    fid: float
    fid_std: float
    hopeless: NotRequired[bool]  # whether it ended there; none while that is being asked


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
        if not super().prune(study, trial) or trial.last_step is None:
            return False
        name = rung_at(trial.last_step)
        reached = [
            cast(Rung, other.user_attrs[name]) for other in study.get_trials(deepcopy=False) if name in other.user_attrs
        ]
        reached.sort(key=lambda rung: rung["fid"])
        last = reached[max(1, len(reached) // self.factor) - 1]  # the last of the best
        own = cast(Rung, trial.user_attrs[name])
        return own["fid"] - last["fid"] > Z * math.hypot(own["fid_std"], last["fid_std"])


class Rungs:
    """A trainer's observer that records and, at the rungs, scores a trial, and ends a hopeless one.

    A rung keeps the score with which it was first told, and what came of that, whatever is killed and carried on.
    """

    def __init__(
        self, trial: optuna.Trial, settings: SearchSettings, recorder: Recorder, quick: Callable[[Model], Scores]
    ) -> None:
        self.trial, self.settings, self.recorder, self.quick = trial, settings, recorder, quick

    def metrics(self, values: dict[str, float], images_seen: int) -> None:
        self.recorder.metrics(values, images_seen)

    def looked(self, epoch: int, images_seen: int, model: Model) -> bool:
        self.recorder.looked(epoch, images_seen, model)
        if epoch not in self.settings.rungs:
            return False
        name = rung_at(epoch)
        if name not in self.trial.user_attrs:
            scores = self.quick(model)
            self.recorder.metrics({f"interim_{key}": value for key, value in scores.by_key().items()}, images_seen)
            self.trial.set_user_attr(name, Rung(fid=scores.fid, fid_std=scores.fid_std))
        rung = cast(Rung, self.trial.user_attrs[name])
        if "hopeless" not in rung:
            if epoch not in self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values:
                self.trial.report(rung["fid"], epoch)
            rung["hopeless"] = self.trial.should_prune()
            self.trial.set_user_attr(name, rung)
        return rung["hopeless"]

    def saving(self) -> None:
        self.recorder.saving()
