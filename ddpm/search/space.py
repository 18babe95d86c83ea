"""What the search may vary: the learning rate, the channel multipliers, and whatever else there is a list of."""

from __future__ import annotations

from typing import Any

import optuna

from ddpm.settings import SearchSettings

# What one trial tries, by the names of settings: `channel_mults` and `lr`, and what else is varied. Optuna cannot resume
# with tuples as choices, so that lists are texts.
Point = dict[str, Any]


def suggest(trial: optuna.Trial, settings: SearchSettings) -> Point:
    """What the trial tries: what was fixed for it when it was queued, else what the sampler proposes."""
    found: Point = {
        "channel_mults": trial.suggest_categorical("channel_mults", settings.choices),
        "lr": trial.suggest_float("lr", settings.lr_low, settings.lr_high, log=True),
    }
    return found | {name: trial.suggest_categorical(name, values) for name, values in settings.varied.items()}


def first_trials(settings: SearchSettings) -> list[dict[str, Any]]:
    """The parameters fixed for each asked trial, in order.

    Every list of multipliers comes first, at the founding rate and the first of whatever else is varied, unless told
    otherwise; for the others nothing is fixed.
    """
    first = {name: values[0] for name, values in settings.varied.items()}
    fixed = [{"channel_mults": choice, "lr": settings.founding_lr, **first} for choice in settings.choices]
    return ((fixed if settings.founding_first else []) + [{}] * settings.trials)[: settings.trials]
