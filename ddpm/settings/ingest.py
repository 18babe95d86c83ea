"""How pictures become a data set."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, setting
from ddpm.settings.words import NAME, NAME_FORM, PICTURES


@dataclass(frozen=True)
class IngestSettings(Typed):
    """How pictures become a data set."""

    source: str = setting(
        "digits",
        "where the pictures come from (docs/data.md)",
        pattern=r"(?s).*\S.*",
        form="a folder of pictures (DATA=/path/to/class/folders), an archive, or a named source",
        place=True,
    )
    dataset_name: str = setting("digits", "what the data set is called", pattern=NAME, form=NAME_FORM)
    image_size: int = setting(64, "a picture's side, after crop and resize", unit="pixels", low=1, high=4096)
    held_out: float = setting(0.1, "the fraction set aside, by content hash, and never trained on", low=0, below=1)
    max_pictures: int = setting(
        0, "take at most so many, chosen by the hash of their names", low=0, high=PICTURES, zero="all"
    )
    min_side: int = setting(
        0,
        "a picture whose shorter side is smaller is set aside",
        unit="pixels",
        low=0,
        high=4096,
        zero="half of image_size",
    )
    drop_duplicates: bool = setting(False, "keep one of the pictures with the same pixels; else they are only reported")
    quarantine_limit: float = setting(
        0.05, "a larger fraction of pictures that cannot be used stops the ingest", low=0, high=1
    )

    @property
    def smallest_side(self) -> int:
        """min_side, or what stands for it."""
        return self.min_side or (self.image_size + 1) // 2
