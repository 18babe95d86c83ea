"""What the search may vary: the learning rate and the channel multipliers."""

from __future__ import annotations

from typing import Any

import optuna

from ddpm.settings import SearchSettings


def suggest(trial: optuna.Trial, settings: SearchSettings) -> dict[str, Any]:
    """The trial's channel_mults and lr. Multipliers are strings: Optuna cannot resume with tuples as choices."""
    return {
        "channel_mults": trial.suggest_categorical("channel_mults", settings.choices),
        "lr": trial.suggest_float("lr", settings.lr_low, settings.lr_high, log=True),
    }


def first_trials(settings: SearchSettings) -> list[dict[str, Any]]:
    """The parameters fixed for each asked trial, in order: every choice once at the founding rate, then nothing fixed."""
    fixed: list[dict[str, Any]] = [{"channel_mults": choice, "lr": settings.founding_lr} for choice in settings.choices]
    return (fixed + [{}] * settings.trials)[: settings.trials]
