"""The sheet of clusters, cut into a strip for each: shown beside the cluster's shares, whose name says nothing."""

from __future__ import annotations

import io

from PIL import Image

from ddpm.pictures import GAP, TARGET_SIDE


def strips(sheet: bytes, rows: int) -> list[bytes]:
    """PNG files' bytes, one for each of a grid's rows; none where it is no grid of so many (`ddpm.pictures.grid`)."""
    picture = Image.open(io.BytesIO(sheet))
    found = _side(picture.height, rows)
    if not found:
        return []
    side, factor = found
    step, edge = factor * (side + GAP), factor * GAP
    return [_png(picture.crop((0, row * step, picture.width, (row + 1) * step + edge))) for row in range(rows)]


def _side(height: int, rows: int) -> tuple[int, int] | None:
    """A picture's height, and the factor by which it was enlarged."""
    for factor in range(1, TARGET_SIDE + 1):
        side, rest = divmod(height - factor * GAP, factor * rows) if rows else (0, 1)
        side -= GAP
        if not rest and side > 0 and factor == max(1, TARGET_SIDE // side):
            return side, factor
    return None


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()
