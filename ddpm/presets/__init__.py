"""Settings that suit a data set: a file NAME.yaml each, of settings' names and values."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from ddpm.errors import WrongInput, did_you_mean
from ddpm.fields import shown


def preset_names() -> list[str]:
    """The presets that there are."""
    return sorted(file.name.removesuffix(".yaml") for file in files(__name__).iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """The settings of `NAME.yaml`. Raises WrongInput where there is none."""
    import yaml

    if name not in preset_names():
        raise WrongInput(
            f"preset: there is none named {shown(name)}; there are {', '.join(preset_names())}{did_you_mean(name, preset_names())}"
        )
    return yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")) or {}
