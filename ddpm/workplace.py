"""Where a step works: its object store, its place in MLflow, and whom it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ddpm.progress import Progress
from ddpm.store import Store, open_store


@dataclass(frozen=True)
class Workplace:
    """What every step is handed beside its own arguments. The store is opened when a step first asks for it."""

    progress: Progress
    store_uri: str = ""
    tracking_uri: str = ""

    @cached_property
    def store(self) -> Store:
        return open_store(self.store_uri)
