"""What goes into MLflow, made fit for it: its limits and rules (of 3.17) are known here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from ddpm.legible import legible

NAME, EXPERIMENT, PARAM, TAG = 250, 500, 6000, 5000  # characters; 5,000 is what earlier servers take of a tag
DATASET_NAME, DATASET_DIGEST, SOURCE, PROFILE = 500, 36, 65_535, 1_000_000
METRICS_PER_BATCH = 500  # MLflow takes a thousand at most
TEXTS_PER_BATCH = 25  # a hundred at most, and a megabyte as JSON: four bytes and more a character
LARGEST_STEP = 2**63 - 1
_STRANGE = re.compile(r"[^/\w.\- :]")
_STRANGE_IN_IMAGES = re.compile(r"[^a-zA-Z0-9_\-./ ]")


def name(text: str) -> str:
    """A metric's, param's or tag's name: what MLflow refuses in it becomes `_`. Names that differ stay different."""
    fit = posixpath.normpath(_STRANGE.sub("_", text) or "_").lstrip("/")
    if fit.startswith(".."):
        fit = f"_{fit}"
    return shortened("_" if fit in ("", ".") else fit, NAME, text)


def image_name(text: str) -> str:
    """The name of a series of pictures, which becomes part of a file's name."""
    return name(_STRANGE_IN_IMAGES.sub("_", text))


def shortened(text: str, most: int, whole: str = "") -> str:
    """A name of at most so many characters; a longer one ends in a digest of all of it, so that two stay two."""
    if len(text) <= most:
        return text
    return f"{text[: most - 9]}-{hashlib.sha256((whole or text).encode()).hexdigest()[:8]}"


def text(value: Any, most: int) -> str:
    """A param's or tag's value; a longer one is cut, and ends so that one sees it."""
    whole = legible(value)  # a \0 is what PostgreSQL does not keep
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def param(value: Any) -> str:
    return text(value, PARAM)


def tag(value: Any) -> str:
    return text(value, TAG)


def figure(value: Any) -> float | None:
    """A metric's value as a float; None for what is no finite number: MLflow would keep infinity as 1.8e308."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def step(value: Any) -> int:
    """A metric's step, a whole number that a database holds."""
    return max(-LARGEST_STEP, min(int(value), LARGEST_STEP))


def profile(facts: Mapping[str, Any]) -> str:
    """A data set's numbers as JSON; what would be too long, a thousand classes' names say, is left out."""
    whole = json.dumps(facts)
    if len(whole) <= PROFILE:
        return whole
    return json.dumps({key: value for key, value in facts.items() if isinstance(value, (int, float))})
