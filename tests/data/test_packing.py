"""Pictures as they come, to the pixels that count."""

import io
import struct
import zlib

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


def tiff(values, bits, photometric=1, order="<", sample_format=1):
    """An uncompressed grey TIFF of values [h,w]; 12 bits are packed, two values in three bytes."""
    if bits == 12:
        flat = values.reshape(-1, 2).astype(np.uint32)
        packed = (flat[:, 0] << 12 | flat[:, 1]).astype(">u4").tobytes()
        strip = b"".join(packed[place + 1 : place + 4] for place in range(0, len(packed), 4))
    else:
        strip = values.astype(f"{order}{'i' if sample_format == 2 else 'u'}{bits // 8}").tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip),
            339: sample_format}  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(strip))
    return head + strip + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("bits", "photometric"), [(12, 0), (12, 1), (16, 0), (16, 1), (8, 0), (8, 1)])
def test_white_is_what_a_tiff_says_it_is(order, bits, photometric):
    white = 2**bits - 1
    values = np.array([[0, white // 2, white, white // 4]] * 4)
    found = np.asarray(decode(tiff(values, bits, photometric, order)))
    grey = [0, 127, 255, 63 if bits == 8 else 64]
    assert found[0, :, 0].tolist() == (grey if photometric else [255 - value for value in grey])


@pytest.mark.parametrize(("bits", "sample_format", "words"), [
    (16, 2, "signed 16-bit"), (32, 1, "32-bit"), (32, 2, "signed 32-bit"), (8, 2, "signed 8-bit"),
])  # fmt: skip
def test_types_whose_white_nobody_knows_are_set_aside_whatever_their_values_are(bits, sample_format, words):
    for brightest in (1, 127):
        with pytest.raises(Unusable, match=f"^{words} values, of which nobody says how bright white is"):
            decode(tiff(np.full((4, 4), brightest), bits, sample_format=sample_format))


def segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(name, body, checksum=0):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ checksum)


def exif(*entries):
    rows = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4)


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
ODD = {
    "a resolution as text": (0x11A, 2, 3, b"72\0\0"),
    "a width as a float": (0x100, 11, 1, struct.pack("<f", 24.0)),
    "a width below 0": (0x100, 9, 1, struct.pack("<i", -1)),
    "a resolution that is no number": (0x11A, 11, 1, struct.pack("<f", float("nan"))),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_whatever_else_its_exif_says(kind, odd):
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    flat = Image.new("RGB", (16, 8), (200, 40, 90))
    flat.paste((0, 0, 0), (0, 0, 8, 8))
    for turned in (True, False):
        entries = sorted([TURNED, odd] if turned else [odd])
        data = encoded(flat, kind, exif=b"Exif\0\0" + exif(*entries), **lossless)
        found = decode(data)
        assert found.size == ((8, 16) if turned else (16, 8))
        assert max(found.getpixel((0, 0))) < 9 and min(found.getpixel((7, 15) if turned else (15, 7))) > 30


def test_metadata_that_is_damaged_or_unknown_costs_no_picture():
    whole = encoded(Image.fromarray(PICTURE))
    for name, body, checksum in [
        (b"iCCP", b"x\0\0" + zlib.compress(bytes(2**21)), 0), (b"iCCP", b"x\0\5", 0), (b"gAMA", b"", 0), (b"pHYs", b"x", 0),
        (b"cHRM", b"x" * 8, 0), (b"tEXt", b"x\0y", 1), (b"eXIf", b"no exif", 0), (b"eXIf", exif(TURNED), 1), (b"acTL", b"", 0),
        (b"zTXt", b"x\0\5y", 0), (b"abCd", b"x", 7),
    ]:  # fmt: skip
        found = decode(whole[:33] + chunk(name, body, checksum) + whole[33:])
        assert (np.asarray(found) == PICTURE).all(), name
    found = decode(whole[:33] + chunk(b"gAMA", b"") + chunk(b"eXIf", exif(TURNED)) + whole[33:])
    assert (np.asarray(found) == np.rot90(PICTURE, -1)).all(), "what is whole still turns it"

    jpeg = encoded(Image.fromarray(PICTURE), "JPEG")
    pixels = np.asarray(decode(jpeg))
    for marker, body in [
        (0xE0, b"JFIF\0x"),
        (0xEE, b"Adobe\0"),
        (0xE1, b"Exif\0\0no exif"),
        (0xE2, b"MPF\0x"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM"),
    ]:
        assert (np.asarray(decode(jpeg[:2] + segment(marker, body) + jpeg[2:])) == pixels).all(), (marker, body)

    for tag, kind, count, value in [(700, 4, 1, b"abcd"), (270, 7, 2**31, b"abcd"), (282, 2, 1, b"x\0\0\0")]:
        data = encoded(Image.fromarray(PICTURE), "TIFF")
        (start,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, start)
        rows = [data[start + 2 + 12 * row :][:12] for row in range(entries)]
        rows = [row for row in rows if row[:2] != struct.pack("<H", tag)]
        rows = sorted(
            [*rows, struct.pack("<HHI", tag, kind, count) + value], key=lambda row: struct.unpack("<H", row[:2])
        )
        odd = (
            data[:4]
            + struct.pack("<I", len(data))
            + data[8:]
            + struct.pack("<H", len(rows))
            + b"".join(rows)
            + bytes(4)
        )
        assert (np.asarray(decode(odd)) == PICTURE).all(), tag


def test_a_damaged_picture_stays_damaged_and_says_why_as_before():
    for data in (encoded(Image.fromarray(PICTURE)), encoded(Image.fromarray(PICTURE), "JPEG")):
        with pytest.raises(Unusable, match="damaged: .*[tT]runcated"):
            decode(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a Git LFS pointer .*`git lfs pull`",
        ),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, which is not read here; convert it"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "AVIF, which"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a film"),
        (b"  <!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, which"),
        (b"8BPS\0\1", "a Photoshop file"),
    ],
)
def test_what_is_no_picture_here_is_named_for_what_it_is(data, words):
    with pytest.raises(Unusable, match=f"^{words}"):
        decode(data)
