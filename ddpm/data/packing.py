"""From a file's bytes to the pixels that are trained on, compared with and searched: defined here, and only here.

Orientation as EXIF says, of which nothing else is read; the first frame; more bits brought to 8 (white is what the file
says: 65535, or a 12-bit TIFF's 4095, or 0); transparency over white; RGB, colour
profiles not looked at; the middle square of the shorter side; Lanczos, which is antialiased, to the size asked for. A
picture that has the size already is not touched.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ddpm.data.formats import what_it_is
from ddpm.data.metadata import without_metadata

PREPROCESSING = "exif; first frame; 16 to 8 bit; transparency over white; RGB; centre square; Lanczos"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MADE_BY = (
    2  # counts up when a file gives other pixels, or another reason, than before: what is known of it is made anew
)
MAX_PIXELS = 120_000_000  # more is taken for a decompression bomb

ORIENTATION = 0x0112
TURNS = dict(enumerate((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
             Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
             Image.Transpose.ROTATE_90), 2))  # fmt: skip
WHITE_IS_ZERO, SIGNED = 0, 2  # values of TIFF's Photometric and SampleFormat
# Greys that Pillow can unpack, and does not know that it can, by byte order, Photometric and bits.
for order, photometric, bits, modes in (
    (b"MM", 0, 16, ("I;16B", "I;16B")), (b"II", 0, 12, ("I;16", "I;12")), (b"MM", 0, 12, ("I;16", "I;12")),
    (b"MM", 1, 12, ("I;16", "I;12")),
):  # fmt: skip
    TiffImagePlugin.OPEN_INFO.setdefault((order, photometric, (1,), 1, (bits,), ()), modes)


class Unusable(ValueError):
    """This picture cannot be used; the text says why."""


def decode(data: bytes) -> Image.Image:
    """An RGB picture. Raises Unusable with the reason."""
    try:
        return _decode(data)
    except Unusable:
        bare = without_metadata(data)
        if bare == data:
            raise
        try:
            return _decode(bare)
        except Unusable:
            pass  # it was not the metadata: the reason is that of the file as it came
        raise


def _decode(data: bytes) -> Image.Image:
    if not data:
        raise Unusable("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata; what matters is checked here
            picture: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise Unusable(f"{picture.width}x{picture.height} pixels, taken for a decompression bomb")
            picture.load()
            turn = TURNS.get(_orientation(picture))
            white = _white(picture)
            return _to_rgb(picture if turn is None else picture.transpose(turn), white)
    except Unusable:
        raise
    except Image.UnidentifiedImageError:
        raise Unusable(what_it_is(data) or "not a picture") from None
    except Image.DecompressionBombError:
        raise Unusable("taken for a decompression bomb") from None
    except (MemoryError, RecursionError):
        raise  # this machine's fault, not the file's
    except Exception as problem:
        # Pillow's readers raise all kinds of things on damaged files: the file is at fault, and its name is reported.
        raise Unusable(f"damaged: {' '.join(str(problem).split())[:120] or type(problem).__name__}") from None


def _orientation(picture: Image.Image) -> Any:
    """What EXIF, or XMP, says of it; 1, upright, where that cannot be read: a picture is no worse for its metadata.

    (A TIFF is turned by Pillow as it is loaded, and says 1 from there on.)
    """
    try:
        found = picture.getexif().get(ORIENTATION, 1)
        hash(found)
        return found
    except (MemoryError, RecursionError):
        raise
    except Exception:  # as damaged files: all kinds of things
        return 1


def _white(picture: Image.Image) -> tuple[int, bool]:
    """The value that white has in one channel of more than 8 bits, and whether it is black that has it.

    PNG's is 65535; a TIFF says so by BitsPerSample and Photometric. Raises Unusable for types whose white nobody knows,
    whatever the values are.
    """
    tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,)))
    if picture.mode == "F":
        raise Unusable("floating-point values, of which nobody says how bright white is")
    if SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise Unusable(f"signed {bits}-bit values, of which nobody says how bright white is")
    if picture.mode == "I":
        raise Unusable("32-bit values, of which nobody says how bright white is")
    return 2**bits - 1, tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO


def _to_rgb(picture: Image.Image, white: tuple[int, bool]) -> Image.Image:
    if picture.mode.startswith("I"):
        brightest, inverted = white
        eight = np.rint(np.arange(65536) * (255 / brightest)).clip(0, 255).astype(np.uint8)
        if inverted:
            eight = 255 - eight
        if isinstance(clear := picture.info.get("transparency"), int):
            eight[clear] = 255  # over white, as below
        return Image.fromarray(eight[np.asarray(picture)]).convert("RGB")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        over = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(over, rgba).convert("RGB")
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
