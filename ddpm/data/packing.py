"""From a file's bytes to the pixels that are trained on, compared with and searched: defined here, and only here.

Orientation as EXIF says; the first frame; 16 bits brought to 8 (65535 is white); transparency over white; RGB, colour
profiles not looked at; the middle square of the shorter side; Lanczos, which is antialiased, to the size asked for. A
picture that has the size already is not touched.
"""

from __future__ import annotations

import hashlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

PREPROCESSING = "exif; first frame; 16 to 8 bit; transparency over white; RGB; centre square; Lanczos"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 120_000_000  # more is taken for a decompression bomb


class Unusable(ValueError):
    """This picture cannot be used; the text says why."""


def decode(data: bytes) -> Image.Image:
    """An RGB picture. Raises Unusable with the reason."""
    if not data:
        raise Unusable("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata; what matters is checked here
            picture: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise Unusable(f"{picture.width}x{picture.height} pixels, taken for a decompression bomb")
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _to_rgb(picture)
    except Unusable:
        raise
    except Image.UnidentifiedImageError:
        raise Unusable("not a picture") from None
    except Image.DecompressionBombError:
        raise Unusable("taken for a decompression bomb") from None
    except (MemoryError, RecursionError):
        raise  # this machine's fault, not the file's
    except Exception as problem:
        # Pillow's readers raise all kinds of things on damaged files: the file is at fault, and its name is reported.
        raise Unusable(f"damaged: {' '.join(str(problem).split())[:120] or type(problem).__name__}") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise Unusable("floating-point values, of which nobody says how bright white is")
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.float64)
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 65535:
            raise Unusable("32-bit values, of which nobody says how bright white is")
        grey = np.rint(deep / 257).astype(np.uint8)
        if isinstance(clear := picture.info.get("transparency"), int):
            grey[deep == clear] = 255  # over white, as below
        return Image.fromarray(grey).convert("RGB")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


def fit(picture: Image.Image, image_size: int, min_side: int = 1) -> np.ndarray:
    """A decoded picture's middle square as uint8 [3, image_size, image_size].

    Raises Unusable where its shorter side is below `min_side` pixels.
    """
    side = min(picture.size)
    if side < min_side:
        raise Unusable(f"too small: {picture.width}x{picture.height}, the shorter side below {min_side}")
    if picture.width != picture.height:
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    if side != image_size:
        picture = picture.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def pixel_digest(pixels: np.ndarray) -> bytes:
    """What a picture is known by: duplicates share it, and the held-out split is chosen by it."""
    return hashlib.sha256(pixels.tobytes()).digest()
