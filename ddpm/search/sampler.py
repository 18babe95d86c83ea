"""Optuna's samplers by name, and what they are shown of a study whose trials stand at rungs."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ddpm.errors import WrongInput
from ddpm.search.halving import rung_at
from ddpm.settings import SearchSettings


def make_sampler(settings: SearchSettings, seed: int) -> BaseSampler:
    """The one of the settings' name. Raises WrongInput where what it needs is not installed."""
    # The founding trials are a sampler's beginning. Without them, or with more to choose, it begins at random.
    begins = min(len(settings.choices), settings.trials) if settings.founding_first else 10
    begins += 2 * len(settings.varied)
    if settings.search_sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if settings.search_sampler == "gp":
        missing = [module for module in ("scipy", "torch") if importlib.util.find_spec(module) is None]
        if missing:
            raise WrongInput(f"search_sampler: gp needs {missing[0]}, which is not installed; give tpe")
        gp = optuna.samplers.GPSampler(seed=seed, n_startup_trials=begins)
        return ByRungs(gp, _by_first_rung, settings.first_rung) if settings.rungs else gp
    # constant_liar: workers must not all try the same place at once.
    tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=begins, constant_liar=True, multivariate=False)
    return ByRungs(tpe, _as_pruned, settings.first_rung) if settings.rungs else tpe


def _as_pruned(trial: FrozenTrial, first_rung: int) -> FrozenTrial:
    """As if it had ended at its last rung: behind all that are complete, and by its score among those that came as far."""
    if trial.state != TrialState.RUNNING or not trial.intermediate_values:
        return trial
    return _ended(trial, TrialState.PRUNED, None)


def _by_first_rung(trial: FrozenTrial, first_rung: int) -> FrozenTrial:
    """As complete with its score at the first rung, for samplers that go by complete ones: all are then measured alike."""
    rung = trial.user_attrs.get(rung_at(first_rung))
    return (
        trial if rung is None or trial.state == TrialState.FAIL else _ended(trial, TrialState.COMPLETE, rung["score"])
    )


def _ended(trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state, shown.value = state, value
    shown.datetime_complete = trial.datetime_complete or trial.datetime_start
    return shown


class ByRungs(BaseSampler):
    """A sampler that is shown what trials have told at their rungs, though they have not ended.

    It asks the inner one of a copy of the study, in memory, whose trials are as `shown` makes them.
    """

    def __init__(self, inner: BaseSampler, shown: Callable[[FrozenTrial, int], FrozenTrial], first_rung: int) -> None:
        self.inner, self.shown, self.first_rung = inner, shown, first_rung

    def _copy(self, study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
        storage = InMemoryStorage()
        number = storage.create_new_study([StudyDirection.MINIMIZE], "seen")
        for one in study.get_trials(deepcopy=False):  # Study.add_trial would refuse a founding rate out of range
            shown = copy.copy(one if one.number == trial.number else self.shown(one, self.first_rung))
            shown.user_attrs = {}  # rungs hold many numbers, and are not asked for
            storage.create_new_trial(number, template_trial=shown)
        seen = optuna.load_study(study_name="seen", storage=storage)
        return seen, seen.get_trials(deepcopy=False)[trial.number]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(*self._copy(study, trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(*self._copy(study, trial), search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(*self._copy(study, trial), param_name, param_distribution)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()
