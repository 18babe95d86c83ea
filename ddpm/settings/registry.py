"""Where the winner goes."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, setting
from ddpm.settings.words import NAME, NAME_FORM


@dataclass(frozen=True)
class RegistrySettings(Typed):
    """Where the winner goes."""

    model_name: str = setting(
        "ddpm-digits", "the registered model of which the winner becomes a version", pattern=NAME, form=NAME_FORM
    )
