"""Pictures as they come, to the pixels that count."""

import io

import numpy as np
import pytest
from PIL import Image

from ddpm.data.packing import Unusable, decode, fit

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_picture_of_the_size_asked_for_is_not_touched():
    assert (fit(decode(encoded(Image.fromarray(PICTURE))), 12) == PICTURE.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(kind):
    flat = Image.new("RGB", (20, 10), (200, 40, 90))
    found = fit(decode(encoded(flat, kind)), 8)
    assert found.shape == (3, 8, 8)
    assert found.dtype == np.uint8
    assert np.abs(found.reshape(3, -1).mean(1) - [200, 40, 90]).max() < 6


def test_the_middle_square_is_taken():
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    assert (fit(decode(encoded(Image.fromarray(wide))), 8) == 255).all()


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    found = fit(decode(encoded(Image.fromarray(stripes))), 8).astype(int)
    assert found.min() > 110
    assert found.max() < 145


def test_exif_orientation_is_applied():
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    found = fit(decode(encoded(Image.fromarray(picture), exif=exif)), 8)
    assert (found[:, :, -1] == 255).all()
    assert found.mean() == 255 / 8


def test_transparency_is_over_white():
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[:2, :, 3] = 255
    found = np.asarray(decode(encoded(Image.fromarray(rgba))))
    assert (found[:2] == 0).all()
    assert (found[2:] == 255).all()
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.info["transparency"] = 1
    found = np.asarray(decode(encoded(palette, transparency=1)))
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_grey_cmyk_and_sixteen_bits():
    grey = Image.fromarray(PICTURE[..., 0])
    assert (np.asarray(decode(encoded(grey))) == PICTURE[..., :1]).all()
    deep = Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257)
    assert (np.asarray(decode(encoded(deep))) == PICTURE[..., :1]).all()
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.asarray(decode(encoded(cmyk, "JPEG")))[4, 4].tolist() == pytest.approx([255, 0, 0], abs=6)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no picture", "not a picture"),
        (encoded(Image.fromarray(RNG.integers(0, 256, (99, 99, 3), dtype=np.uint8)), "JPEG")[:900], "damaged"),
        (encoded(Image.fromarray(PICTURE))[:60], "damaged"),
        (encoded(Image.fromarray(PICTURE[:3, :3])), "too small"),
    ],
)
def test_what_cannot_be_used_says_why(data, reason):
    with pytest.raises(Unusable, match=reason):
        fit(decode(data), 8, 4)


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("ddpm.data.packing.MAX_PIXELS", 100)
    with pytest.raises(Unusable, match="bomb"):
        decode(encoded(Image.fromarray(PICTURE)))


def test_sixteen_bits_are_scaled_by_their_range_and_not_by_their_values():
    dark = Image.fromarray(np.full((8, 8), 200, dtype=np.uint16))
    assert (fit(decode(encoded(dark)), 8) == 1).all()
    tiff = Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257)
    assert (np.asarray(decode(encoded(tiff, "TIFF"))) == PICTURE[..., :1]).all()
    with pytest.raises(Unusable, match="floating-point"):
        decode(encoded(Image.fromarray(PICTURE[..., 0].astype(np.float32)), "TIFF"))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert np.asarray(decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])))[0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_deep_grey_that_is_transparent_lies_over_white():
    deep = np.full((4, 4), 40_000, dtype=np.uint16)
    deep[0] = 1000
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG", transparency=1000)
    found = fit(decode(buffer.getvalue()), 4)
    assert (found[:, 0] == 255).all() and (found[:, 1:] == round(40_000 / 257)).all()
