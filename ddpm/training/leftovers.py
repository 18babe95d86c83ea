"""Which of the checkpoints in a store nothing needs any more; `checkpoint.py` has their layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NotRequired, TypedDict, TypeVar

from ddpm.errors import Refused
from ddpm.store import Damaged, Entry, Missing, Store
from ddpm.store.reading import read_json
from ddpm.training.checkpoint import MANIFEST, Pointer
from ddpm.training.lineage import Ancestor, kept_folders

T = TypeVar("T")

# A checkpoint's files, and OUT/ before them.
FILE = re.compile(
    r"(?P<out>(?:.*/)?)(?P<folder>[0-9]{12})/(?:checkpoint\.json|(?:weights|optimizer|ema(?:-[1-9][0-9]*)?)\.safetensors)"
)


class _Training(TypedDict):
    """Of training.json, what matters here."""

    lineage: NotRequired[list[Ancestor]]


def unnamed(store: Store, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Of all that lies in a store, the keys of checkpoints that nothing names, and why each is garbage.

    Spared are the last and the best checkpoint of each OUT, the one before the last, which training keeps should the last
    be damaged, those that were its last and its best before it was given more epochs, and all in a folder without
    last.json: training does not keep that one in order. Raises Refused where a
    pointer cannot be read.
    """
    files = [found for key in entries if (found := FILE.fullmatch(key))]
    whole: dict[str, set[str]] = {}  # by OUT: the folders that have a manifest
    for file in files:
        whole.setdefault(file["out"], set())
        if file[0].endswith(MANIFEST):
            whole[file["out"]].add(file["folder"])
    kept = {out: _kept(store, out, folders) for out, folders in whole.items()}
    for file in files:
        out, folder = file["out"], file["folder"]
        if folder not in whole[out]:
            yield file[0], f"a checkpoint without its {MANIFEST}"
        elif folder not in kept[out]:
            yield file[0], "a checkpoint that is neither the last, nor the one before it, nor the best"


def _kept(store: Store, out: str, folders: set[str]) -> set[str]:
    """Of the folders with a manifest in `out`, a key's beginning, those that are no garbage."""
    named = {}
    for name in ("last", "best"):
        try:
            named[name] = _read(store, f"{out}{name}.json", Pointer)["checkpoint"]
        except Missing:
            if name == "last":
                return folders
    try:
        branched = kept_folders(_read(store, f"{out}training.json", _Training).get("lineage", []))
    except Missing:
        branched = set()
    before_last = sorted(folder for folder in folders if folder < named["last"])[-1:]
    return {*named.values(), *before_last, *branched}


def _read(store: Store, key: str, kind: type[T]) -> T:
    try:
        return read_json(store, key, kind, "mend or remove it")
    except Damaged:
        raise Refused(f"nothing is collected while {store.uri(key)} cannot be read: mend or remove it") from None
