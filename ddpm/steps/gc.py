"""What lies in a store and nothing names: each room says what of it that it writes is garbage."""

from __future__ import annotations

from typing import Any

from ddpm.data.garbage import HOURS, collect_garbage
from ddpm.evaluation import evaluate
from ddpm.evaluation.extractors import classifier
from ddpm.training import leftovers
from ddpm.workplace import Workplace

RULES = (leftovers.unnamed, evaluate.unnamed, classifier.unnamed)


def gc(place: Workplace, delete: bool = False, older_than: float = HOURS) -> dict[str, Any]:
    """List it, and remove it if asked; see `ddpm.data.garbage.collect_garbage`."""
    return collect_garbage(place.store, place.progress, delete, older_than, RULES)
