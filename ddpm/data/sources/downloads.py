"""Files as they are published: fetched once into the cache, and checked every time against what is pinned of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import Outage, WrongInput
from ddpm.places import cache_folder


@dataclass(frozen=True)
class Remote:
    """A file, where it is published, and the checksum that is pinned; none where nobody knows it beforehand."""

    url: str
    file: str
    kind: str = "sha256"  # the checksum's
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.file} from {self.url}" + (f", {self.kind} {self.digest}" if self.digest else "")


def download(name: str, remotes: Sequence[Remote], fetch: Callable[[Remote, Path], Any] | None = None) -> list[Path]:
    """The files of a named source in the cache, downloaded where they are not there, and checked.

    Args:
        fetch: puts a file into a folder; None: from its URL.

    Raises: Outage or WrongInput, which say what is to be fetched by hand, and how one goes on from there.
    """
    return [_cached(name, remotes, remote, fetch or _from_url) for remote in remotes]


def _cached(name: str, remotes: Sequence[Remote], remote: Remote, fetch: Callable[[Remote, Path], Any]) -> Path:
    path = cache_folder() / name / remote.file
    if path.exists():
        require_digest(path, remote)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".fetching-", dir=path.parent))
    try:
        said(name, remotes, lambda: fetch(remote, folder))
        if (found := _digest(folder / path.name, remote.kind)) != remote.digest:
            problem = f"what came as {remote.file} has the {remote.kind} {found}, not the pinned {remote.digest}"
            raise WrongInput(f"source: {problem}; {by_hand(name, remotes)}")
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder)
    return path


def _from_url(remote: Remote, folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    download_url(remote.url, str(folder), remote.file)


def said(name: str, remotes: Sequence[Remote], fetch: Callable[[], Any]) -> Any:
    """What `fetch` gives; its failures are the network's or the server's, said in one line."""
    try:
        return fetch()
    except (OSError, RuntimeError, ImportError) as problem:
        words = " ".join(str(problem).split())[:200]
        kind = Outage if isinstance(problem, OSError) else WrongInput  # the network's fault, or this machine's
        raise kind(f"source: {name} could not be downloaded ({words}); {by_hand(name, remotes)}") from None


def by_hand(name: str, remotes: Sequence[Remote]) -> str:
    """How one goes on where nothing can be downloaded from here."""
    files = " and ".join(map(str, remotes))
    return f"fetch {files} into a folder by hand, and go on with DATA={name}:/folder (ddpm ingest {name}:/folder)"


def require_digest(path: Path, remote: Remote) -> None:
    """Raise WrongInput unless a file of the cache has the pinned checksum."""
    if (found := _digest(path, remote.kind)) != remote.digest:
        raise WrongInput(
            f"source: {path} has the {remote.kind} {found}, not the pinned {remote.digest}; remove it, and it is fetched again from {remote.url}"
        )


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
