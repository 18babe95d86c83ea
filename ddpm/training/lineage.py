"""Where a training comes from: what it began with, or went on from, as its records and its checkpoints keep it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NotRequired, TypedDict

SHOWN = 6  # tensors' names that are said; the record has all of them


class Ancestor(TypedDict):
    """One beginning of a training. Its lineage is a list of these, the oldest first."""

    # init_from: it took the weights alone. start: it went on, with clock and optimizer. epochs: it had ended, and was
    # given more of them.
    how: Literal["init_from", "start", "epochs"]
    reference: str  # what was taken: a checkpoint's URI, models:/NAME/VERSION, an exported folder
    weights_sha256: str  # of the file of raw weights, or of the only ones that there are
    images_seen: int  # by then
    dataset_digest: str | None
    taken: NotRequired[int]  # of init_from: how many tensors agree in name and shape
    anew: NotRequired[list[str]]  # those of this network that begin as they would without
    left: NotRequired[list[str]]  # those of the other network that have no place in this one
    epochs: NotRequired[int]  # of epochs: how many there were before
    rate: NotRequired[str]  # what became of the learning rate, in words
    kept: NotRequired[list[str]]  # the folders of the checkpoints that it had left: its best, and its last


def in_words(ancestor: Ancestor) -> str:
    """One beginning, as a line."""
    weights = f"{ancestor['reference']} (sha256 {ancestor['weights_sha256'][:12]}, {ancestor['images_seen']:,} images)"
    if ancestor["how"] == "start":
        return f"goes on from {weights}"
    if ancestor["how"] == "epochs":
        return f"goes on beyond its {ancestor.get('epochs')} epochs from {weights}: {ancestor.get('rate')}"
    anew, left = ancestor.get("anew", []), ancestor.get("left", [])
    if not anew and not left:
        return f"begins with the weights of {weights}"
    taken = ancestor.get("taken", 0)
    parts = [f"{taken} of {taken + len(anew)} tensors agree"]
    parts += [f"anew begin {_names(anew)}"] if anew else []
    parts += [f"left behind are {_names(left)}"] if left else []
    return f"begins with weights of {weights}: {'; '.join(parts)}"


def kept_folders(lineage: Iterable[Ancestor]) -> set[str]:
    """The folders of checkpoints that a training must not remove: of its ends, before it was given more epochs."""
    return {folder for ancestor in lineage for folder in ancestor.get("kept", [])}


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
