"""The data sets of a store, and which of them a person means.

    digits              the one of this name that was ingested last
    digits@latest       the same, said aloud
    digits@abcd1234     the one whose digest begins so

Commands take these wherever they take a data set's URI. What is written down (a plan, a checkpoint, a report) is the URI,
whose digest names the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypedDict

from ddpm.data import sources
from ddpm.data.manifest import read_manifest, taken
from ddpm.errors import WrongInput
from ddpm.legible import legible
from ddpm.progress import Progress
from ddpm.settings import NAME
from ddpm.store import Store

KEY = re.compile(rf"datasets/({NAME})/([0-9a-f]{{64}})\.json")
SAID = re.compile(rf"({NAME})(?:@(latest|[0-9a-f]{{1,64}}))?")
LATEST = "latest"
SHORT = 8  # digits of a digest that people see, or more where two begin alike


class Published(NamedTuple):
    """A manifest that is there."""

    name: str
    digest: str
    modified: float  # when it was last ingested, in seconds since 1970
    key: str


class Listed(TypedDict):
    """A data set as `ddpm datasets` lists it. What its manifest, if it cannot be read, does not tell is None."""

    dataset: str  # what commands take: NAME@DIGEST, its beginning
    name: str
    digest: str
    uri: str
    image_size: int | None
    n: int | None  # training pictures
    held_out: int | None  # their number
    classes: int | None  # their number
    ingested: str  # when it was, last, in UTC
    source: str  # where its pictures are from, or why nobody knows
    taken: str  # where there are more: "600 of 8,189 pictures (max_pictures)"


def published(store: Store) -> list[Published]:
    """Every data set of a store, by name, the latest first. No manifest is read for it."""
    found = [
        Published(match[1], match[2], entry.modified, entry.key)
        for entry in store.entries("datasets")
        if (match := KEY.fullmatch(entry.key))
    ]
    return sorted(found, key=lambda one: (one.name, -one.modified, one.digest))


def references(found: Sequence[Published]) -> dict[Published, str]:
    """NAME@DIGEST for each, with as much of the digest as tells it from the others of its name."""
    named: dict[Published, str] = {}
    for name, group in groupby(found, key=attrgetter("name")):
        alike = list(group)
        digits = SHORT
        while len({one.digest[:digits] for one in alike}) < len(alike):
            digits += 1
        named |= {one: f"{name}@{one.digest[:digits]}" for one in alike}
    return named


def datasets(store: Store) -> list[Listed]:
    """All data sets of a store, by name, the latest first."""
    return [_listed(store, one, reference) for one, reference in references(published(store)).items()]


def _listed(store: Store, one: Published, reference: str) -> Listed:
    listed: Listed = {
        "dataset": reference, "name": one.name, "digest": one.digest, "uri": store.uri(one.key),
        "image_size": None, "n": None, "held_out": None, "classes": None,
        "ingested": datetime.fromtimestamp(one.modified, UTC).strftime("%Y-%m-%d %H:%M"), "source": "", "taken": "",
    }  # fmt: skip
    try:
        manifest = read_manifest(store.uri(one.key))[1]
    except WrongInput as problem:
        return {**listed, "source": f"cannot be read: {problem}"}
    source = manifest["source"]
    return {
        **listed, "image_size": manifest["image_size"], "n": manifest["n"], "held_out": manifest["held_out"],
        "classes": len(manifest["classes"]), "source": str(source.get("origin") or source.get("kind") or "not recorded"),
        "taken": taken(manifest),
    }  # fmt: skip


def is_name(said: str) -> bool:
    """Whether it is written as a data set's name, and not as a URI or a path."""
    return bool(SAID.fullmatch(said))


def find_dataset(said: str, store: Store, progress: Progress) -> str:
    """The URI of the data set that is meant: of a name, that in `store`; anything with a slash is one already.

    Raises WrongInput, which says what there is, where it is none, or several.
    """
    if "/" in said:
        return said
    match = SAID.fullmatch(said)
    if match is None:
        raise WrongInput(
            f"dataset: '{said}' is not written like a data set; give NAME, NAME@latest, NAME@DIGEST (its beginning will do), or a manifest's URI"
        )
    name, which = match[1], match[2] or LATEST
    all_of_them = published(store)
    named = [one for one in all_of_them if one.name == name]
    if not named:
        there = ", ".join(dict.fromkeys(one.name for one in all_of_them))
        right = f"there are {there}" if there else "there are none; `ddpm ingest` publishes one"
        raise WrongInput(f"dataset: there is no data set {name} in {store.root}; {right}")
    written = references(named)
    found = named[:1] if which == LATEST else [one for one in named if one.digest.startswith(which)]
    if len(found) != 1:
        what = f"{len(found)} digests of {name} begin" if found else f"no digest of {name} begins"
        raise WrongInput(f"dataset: {what} with {which}; there {_are(written[one] for one in found or named)}")
    if which == LATEST and len(named) > 1:
        progress.say(f"data set {written[found[0]]}, the latest of {len(named)} called {name}")
    return store.uri(found[0].key)


def source_or_dataset(said: str, store: Store, progress: Progress) -> str:
    """A source as it is; what is written like a data set's name, and is no source, as the URI of the one in `store`.

    Sources go first: `digits` is what scikit-learn ships, and `dalle-dogs@main` a revision of those. A name alone that is
    neither is left, for `sources.parse` says which there are.
    """
    if not is_name(said) or sources.recognise(said) is not None:
        return said
    if "@" not in said and said not in {one.name for one in published(store)}:
        return said
    return find_dataset(said, store, progress)


def _are(names: Iterable[str]) -> str:
    all_of_them = list(names)
    return f"{'is' if len(all_of_them) == 1 else 'are'} {', '.join(all_of_them)}"


def table(rows: Sequence[Listed]) -> str:
    """The list as a person reads it."""

    def count(number: int | None) -> str:
        return "–" if number is None else f"{number:,}"

    heads = ("data set", "size", "training", "held out", "classes", "ingested (UTC)", "source")
    cells = [heads] + [
        (row["dataset"], f"{count(row['image_size'])} px", count(row["n"]), count(row["held_out"]), count(row["classes"]), row["ingested"], legible("; ".join(filter(None, (row["source"], row["taken"])))))
        for row in rows
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        placed = (
            cell.rjust(width) if 1 <= place <= 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)
