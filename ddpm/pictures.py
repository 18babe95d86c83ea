"""Pictures as a person looks at them: in grids, as PNG files."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

GAP = 2  # pixels between pictures, before enlargement
TARGET_SIDE = 64  # small pictures are enlarged by a whole factor to about this many pixels a side


def grid(images: Tensor, columns: int | None = None, together: int = 1) -> np.ndarray:
    """Pictures uint8 [n,3,h,w] in rows on white; returns uint8 [H,W,3]. Small ones are enlarged without smoothing.

    Where `together` of them belong to each other, there is more room between those and the next.
    """
    n, _, h, w = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    room = 2 * GAP if together > 1 else 0
    width = columns * (w + GAP) + GAP + (columns - 1) // together * room
    sheet = np.full((rows * (h + GAP) + GAP, width, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        row, column = divmod(i, columns)
        top, left = GAP + row * (h + GAP), GAP + column * (w + GAP) + column // together * room
        sheet[top : top + h, left : left + w] = picture
    factor = max(1, TARGET_SIDE // h)
    return sheet.repeat(factor, axis=0).repeat(factor, axis=1)


def png(picture: np.ndarray) -> bytes:
    """uint8 [h,w,3] as a PNG file's bytes; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()
