"""The extractors by name. A new one is a file with its `open` function, and its row here, or, elsewhere, `register`."""

from __future__ import annotations

from collections.abc import Callable

from ddpm import settings
from ddpm.data.dataset import PictureSet
from ddpm.evaluation.extractors.classifier import open_classifier
from ddpm.evaluation.extractors.features import Opened
from ddpm.evaluation.extractors.inception import open_inception
from ddpm.progress import Progress
from ddpm.settings import EvaluateSettings
from ddpm.store import Store

Open = Callable[[EvaluateSettings, PictureSet, Store, str, Progress], Opened]  # the fourth is the device

EXTRACTORS: dict[str, Open] = {"inception": open_inception, "classifier": open_classifier}


_OURS = tuple(EXTRACTORS)


def is_own(name: str) -> bool:
    """Whether somebody registered it: what it does may change from one process to the next."""
    return name not in _OURS


def register(name: str, open: Open) -> None:
    """Make an extractor of one's own known by a name, which settings then take. Raises ValueError for one that is taken."""
    if name in EXTRACTORS:
        raise ValueError(f"there is an extractor named {name!r} already; give another name")
    EXTRACTORS[name] = open
    settings.EXTRACTORS.append(name)
