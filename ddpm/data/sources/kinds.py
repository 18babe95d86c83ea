"""The kinds of source that there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ddpm.data.sources.archives import Archive
from ddpm.data.sources.buckets import Bucket
from ddpm.data.sources.folders import Folder
from ddpm.data.sources.named import NAMED, Named
from ddpm.data.sources.parquet import Parquet
from ddpm.data.sources.published import Published
from ddpm.data.sources.spec import Spec
from ddpm.errors import WrongInput

# Asked in this order: a folder that is called like a named source is written ./digits, and an archive is no folder.
KINDS: list[type[Spec]] = [Published, Named, Bucket, Parquet, Archive, Folder]


def recognise(source: str) -> Spec | None:
    """Take a source apart; None for one that is unknown. Raises WrongInput for one that is incomplete."""
    return next((spec for kind in KINDS if (spec := kind.recognise(source)) is not None), None)


def parse(source: str) -> Spec:
    """Take a source apart. Raises WrongInput for one that is unknown, or incomplete."""
    if (spec := recognise(source)) is not None:
        return spec
    prefix, colon, _ = source.partition(":")
    if colon and "/" not in prefix:
        forms = [kind.form() for kind in reversed(KINDS)]
        raise WrongInput(f"source: there is no kind '{prefix}'; there are {', '.join(forms[:-1])} and {forms[-1]}")
    raise WrongInput(
        f"source: there is none named '{source}'; there are {', '.join(NAMED)}, or give a folder, folder:DIR, or a data set that is published, NAME@latest"
    )


@contextmanager
def said_of(setting: str) -> Iterator[None]:
    """What is wrong with a source is said by the name of the setting that gives it."""
    try:
        yield
    except WrongInput as problem:
        words = str(problem)
        raise type(problem)(setting + words.removeprefix("source") if words.startswith("source:") else words) from None


def check(source: str, setting: str = "source") -> None:
    """Raise WrongInput for a source that is missing or holds no pictures."""
    with said_of(setting):
        parse(source).check()
