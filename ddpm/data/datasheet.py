"""A data set as people look at it: one HTML page that needs nothing else, kept beside the manifest.

STORE/datasets/NAME/DIGEST.html

The manifest is the truth, and the page follows from it and the pictures alone: no times, no places, the same bytes for
the same data set. One that is missing is made again. (Gebru et al. 2021, "Datasheets for Datasets",
https://arxiv.org/abs/1803.09010, say what such a page should answer.)
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.data.dataset import PictureSet
from ddpm.data.manifest import Quarantined, taken
from ddpm.legible import on_page

SHEET_PICTURES = 120
CLASSES_IN_ROWS = 12  # so many classes have a row each; of more, there is a picture of each
COLUMNS = 12
PICTURE_SIDE = 64  # pixels, on the sheet: smaller ones are enlarged by a whole factor, larger ones reduced
SIZE_BARS = 12
NAMES_SHOWN = 200
MEANT_TO_BE_TOLD = ("kind", "name", "origin", "revision", "licence", "homepage")
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Bar:
    """One line of a histogram: widths are shares of the longest one, in percent."""

    label: str
    parts: tuple[tuple[str, int, float], ...]  # name, count, width

    @property
    def total(self) -> int:
        return sum(count for _, count, _ in self.parts)


def render(data: PictureSet) -> bytes:
    """The page of a data set."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=on_page
    )
    template = environment.from_string(Path(__file__).with_name("datasheet.html").read_text())
    manifest = data.manifest
    names = data.classes or []
    sheet, rows = _contact_sheet(data)
    return template.render(
        data=data, manifest=manifest, not_recorded=NOT_RECORDED, sheet=sheet, rows=rows,
        pixelated=data.image_size < PICTURE_SIDE, classes=_class_bars(data, names), sizes=_size_bars(manifest.get("original_sizes")),
        size_facts=_size_facts(manifest.get("original_sizes")), source=_source_rows(manifest.get("source", {})),
        duplicates=manifest.get("duplicates", []), reasons=_reasons(manifest.get("quarantined", [])),
        quarantined=manifest.get("quarantined", []), shown=NAMES_SHOWN,
        shards=[(side, len(shards), _size(sum(shard["bytes"] for shard in shards))) for side, shards in sorted(manifest["shards"].items(), reverse=True)],
        label_width=min(14, max(map(len, names), default=0) + 1),
        dropped=manifest.get("duplicates_dropped", False), taken=taken(manifest),
    ).encode()  # fmt: skip


# -- the contact sheet -------------------------------------------------------------------------------------------------


def _contact_sheet(data: PictureSet) -> tuple[str, list[str]]:
    """The sheet as a data: URI ("" without pictures), and its rows' names where each class has a row."""
    labels = data.train.labels
    if not len(labels):
        return "", []
    in_rows = 0 < len(data.classes) <= CLASSES_IN_ROWS and bool((labels >= 0).any())
    rows = _by_class(labels, len(data.classes)) if in_rows else _over_classes(labels, len(data.classes))
    chosen = torch.tensor([row for line in rows for row in line])
    pictures, _ = data.train.take(chosen)
    tiles = iter(_tile(picture) for picture in pictures)
    side = PICTURE_SIDE
    sheet = Image.new("RGB", (COLUMNS * (side + 2) - 2, len(rows) * (side + 2) - 2), (128, 128, 128))
    for y, line in enumerate(rows):
        for x in range(len(line)):
            tile = next(tiles)
            sheet.paste(tile, (x * (side + 2) + (side - tile.width) // 2, y * (side + 2) + (side - tile.height) // 2))
    named = [data.classes[number] for number in range(len(data.classes)) if bool((labels == number).any())]
    return _embedded(sheet, lossless=data.image_size < 32), named if in_rows else []


def _by_class(labels: Tensor, classes: int) -> list[list[int]]:
    """For each class that has pictures, the first ones: pictures lie in the order of hashes, so they are a fair sample."""
    found = [(labels == number).nonzero().flatten()[:COLUMNS].tolist() for number in range(classes)]
    return [line for line in found if line]


def _over_classes(labels: Tensor, classes: int) -> list[list[int]]:
    """Round after round a picture from each class until the sheet is full; from an incomplete round evenly spaced ones."""
    members = [(labels == number).nonzero().flatten().tolist() for number in range(-1, classes)]
    chosen: list[int] = []
    for turn in range(max(map(len, members))):
        more, room = [rows[turn] for rows in members if len(rows) > turn], SHEET_PICTURES - len(chosen)
        chosen += more if len(more) <= room else [more[i * len(more) // room] for i in range(room)]
        if len(chosen) == SHEET_PICTURES:
            break
    chosen.sort(key=lambda row: int(labels[row]))  # class after class
    return [chosen[start : start + COLUMNS] for start in range(0, len(chosen), COLUMNS)]


def _tile(picture: Tensor) -> Image.Image:
    """uint8 [3,h,w] at the sheet's size."""
    image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
    if image.width > PICTURE_SIDE:
        return image.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    factor = PICTURE_SIDE // image.width
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _embedded(sheet: Image.Image, lossless: bool) -> str:
    buffer = io.BytesIO()
    if lossless:
        sheet.quantize(256).save(buffer, format="PNG", optimize=True)
    else:
        sheet.save(buffer, format="JPEG", quality=88)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


# -- histograms and tables ---------------------------------------------------------------------------------------------


def _bars(rows: Sequence[tuple[str, Sequence[tuple[str, int]]]]) -> list[Bar]:
    longest = max((sum(count for _, count in parts) for _, parts in rows), default=0) or 1
    return [
        Bar(label, tuple((name, count, round(100 * count / longest, 2)) for name, count in parts))
        for label, parts in rows
    ]


def _class_bars(data: PictureSet, names: Sequence[str]) -> list[Bar]:
    """Pictures of each class on both sides of the split."""
    splits = (("training", data.train), ("held-out", data.held_out))
    sides = [(side, _counts(split.labels, len(names))) for side, split in splits]
    return _bars([(name, [(side, counts[i]) for side, counts in sides]) for i, name in enumerate(names)])


def _counts(labels: Tensor, classes: int) -> list[int]:
    return torch.bincount(labels[labels >= 0], minlength=classes).tolist()


def _size_bars(sizes: Sequence[Sequence[int]] | None) -> list[Bar]:
    """Pictures by their shorter side: each length for itself where there are few, or else in equal steps.

    None where all are of one size, which a sentence says as well.
    """
    if not sizes or len(sizes) == 1:
        return []
    sides: Counter[int] = Counter()
    for width, height, count in sizes:
        sides[min(width, height)] += count
    if len(sides) <= SIZE_BARS:
        return _bars([(f"{side:,}", [("", count)]) for side, count in sorted(sides.items())])
    low, high = min(sides), max(sides)
    step = -(-(high - low + 1) // SIZE_BARS)
    steps = [0] * (-(-(high - low + 1) // step))
    for side, count in sides.items():
        steps[(side - low) // step] += count
    return _bars(
        [
            (f"{low + i * step:,}–{min(high, low + (i + 1) * step - 1):,}", [("", count)])
            for i, count in enumerate(steps)
        ]
    )


def _size_facts(sizes: Sequence[Sequence[int]] | None) -> str:
    if not sizes:
        return NOT_RECORDED
    shapes = {"wider than high": 0, "higher than wide": 0, "square": 0}
    for width, height, count in sizes:
        shapes["square" if width == height else "wider than high" if width > height else "higher than wide"] += count
    smallest, largest = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
    words = ", ".join(f"{count:,} {shape}" for shape, count in shapes.items() if count)
    least, most = (f"{width:,}×{height:,}" for width, height, _ in (smallest, largest))
    return f"{words}; {f'all of {least}' if len(sizes) == 1 else f'from {least} to {most}'} pixels"


def _size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _reasons(quarantined: Sequence[Quarantined]) -> list[tuple[str, int]]:
    """How many were set aside for what; of a reason, what comes before its details."""
    return Counter(entry["reason"].partition(":")[0] for entry in quarantined).most_common()


def _source_rows(source: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """name, value, whether it may be a link. What is meant to be told and is not there is said to be so."""
    rows = []
    for name in [*MEANT_TO_BE_TOLD, *sorted(set(source) - set(MEANT_TO_BE_TOLD))]:
        value = source.get(name)
        if value is None and name in ("name", "homepage", "revision"):
            continue
        text = (
            NOT_RECORDED
            if value is None
            else value
            if isinstance(value, str)
            else ", ".join(f"{k} {v}" for k, v in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        rows.append((name, text, urlsplit(text).scheme in ("http", "https")))
    return rows
