"""What the search may vary: the learning rate and the channel multipliers."""

from __future__ import annotations

from typing import Any, TypedDict

import optuna

from ddpm.settings import SearchSettings


class Point(TypedDict):
    """What one trial tries."""

    channel_mults: str  # Optuna cannot resume with tuples as choices
    lr: float


def suggest(trial: optuna.Trial, settings: SearchSettings) -> Point:
    """What the trial tries: what was fixed for it when it was queued, else what the sampler proposes."""
    return {
        "channel_mults": trial.suggest_categorical("channel_mults", settings.choices),
        "lr": trial.suggest_float("lr", settings.lr_low, settings.lr_high, log=True),
    }


def first_trials(settings: SearchSettings) -> list[dict[str, Any]]:
    """The parameters fixed for each asked trial, in order: every choice once at the founding rate, then nothing fixed."""
    fixed: list[dict[str, Any]] = [{"channel_mults": choice, "lr": settings.founding_lr} for choice in settings.choices]
    return (fixed + [{}] * settings.trials)[: settings.trials]
