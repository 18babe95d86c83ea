"""A data set that is published already: used as it is, at its own picture size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ddpm.data.manifest import Manifest, read_manifest, store_of
from ddpm.data.sources.source import Source
from ddpm.data.sources.spec import Spec
from ddpm.errors import WrongInput
from ddpm.places import local_path
from ddpm.store import FileStore

URI = re.compile(r"/datasets/([^/]+)/[0-9a-f]{64}\.json$")


@dataclass(frozen=True)
class Published(Spec):
    """`STORE/datasets/NAME/DIGEST.json`"""

    uri: str
    has_name = True

    @classmethod
    def recognise(cls, source: str) -> Published | None:
        return cls(source) if URI.search(source) else None

    @classmethod
    def form(cls) -> str:
        return "STORE/datasets/NAME/DIGEST.json"

    def check(self) -> None:
        read_manifest(self.uri)

    def open(self) -> Source:
        raise WrongInput(f"source: {self.uri} is a data set already; open it as one, or name the pictures it came of")

    def title(self) -> str:
        return self.uri.split("/")[-2]

    def absolute(self) -> str:
        return self.uri if "://" in self.uri else str(local_path(self.uri))

    def local_paths(self) -> tuple[Path, ...]:
        store, _ = store_of(self.uri)
        return (Path(store.root),) if isinstance(store, FileStore) else ()

    def published(self) -> Manifest:
        return read_manifest(self.uri)[1]
