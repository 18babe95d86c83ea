"""What a person may set: frozen, typed, validated, one class and one file a step. docs/settings.md is the list of it all.

A field has the same name here, on the command line, in the pipeline's parameters, in MLflow's params and in a
preset, so no name may appear in two classes. It is written once, with its meaning and its range (`ddpm.fields`). The
defaults are the founding recipe for photographs (DDPM, Ho et al. 2020, https://arxiv.org/abs/2006.11239, at the
founding experiment's rate and budget); `ddpm/presets/` holds the other ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from ddpm.settings.cost import CostSettings
from ddpm.settings.draw import CHURNING, SAMPLERS, DrawSettings, require_drawable, require_guidance
from ddpm.settings.evaluate import EXTRACTORS, EvaluateSettings
from ddpm.settings.guide import BY_TRIAL, GuideSettings
from ddpm.settings.ingest import IngestSettings
from ddpm.settings.judge import JudgeSettings
from ddpm.settings.model import OBJECTIVES, SCHEDULES, ModelSettings, parse_mults, require_halvable
from ddpm.settings.registry import RegistrySettings
from ddpm.settings.search import CHOICES, SearchSettings
from ddpm.settings.train import TrainSettings, require_one_weight
from ddpm.settings.transfer import TransferSettings
from ddpm.settings.words import LARGEST_SEED, NAME, NAME_FORM, require_name, require_seeds

__all__ = [
    "BY_TRIAL",
    "CHOICES",
    "CHURNING",
    "EXTRACTORS",
    "FORMAT_VERSION",
    "LARGEST_SEED",
    "NAME",
    "NAME_FORM",
    "OBJECTIVES",
    "SAMPLERS",
    "SCHEDULES",
    "CostSettings",
    "DrawSettings",
    "EvaluateSettings",
    "GuideSettings",
    "IngestSettings",
    "JudgeSettings",
    "ModelSettings",
    "RegistrySettings",
    "SearchSettings",
    "TrainSettings",
    "TransferSettings",
    "parse_mults",
    "pick",
    "require_drawable",
    "require_guidance",
    "require_halvable",
    "require_name",
    "require_one_weight",
    "require_seeds",
]

FORMAT_VERSION = 1

S = TypeVar("S")


def pick(kind: type[S], parameters: dict[str, Any]) -> S:
    """Build `kind` from those of the flat parameters that are its fields."""
    names = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in parameters.items() if name in names})
