"""Whether two data sets are of one lineage: the same pictures, fewer or more of them, or other pictures altogether.

Two folders that are both called `train` may hold cats and dogs. A figure says how near a model comes to the pictures of
its own set, so that a model of dogs would lose by it against one of cats, whatever both are worth.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ddpm.data.dataset import PictureSet


@dataclass(frozen=True)
class Shared:
    """How many training pictures two data sets have in common, of the smaller one's `of`."""

    pictures: int
    of: int

    @property
    def share(self) -> float:
        return self.pictures / self.of if self.of else 0.0


def shared(a: PictureSet, b: PictureSet) -> Shared:
    """What two data sets of one picture size have in common, by their training pictures' pixels."""
    mine, theirs = _digests(a), _digests(b)
    return Shared(len(mine & theirs), min(len(mine), len(theirs)))


def _digests(data: PictureSet) -> set[bytes]:
    return {hashlib.sha256(picture.tobytes()).digest() for picture in data.train.images.numpy()}
