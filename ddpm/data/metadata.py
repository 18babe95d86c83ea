"""A picture's file without what nobody needs for its pixels, for a file that cannot be read with it.

Decoders look at colour profiles, texts, resolutions and the like while they open a file, and give it up where one of
those is odd. Kept is what says how pixels are coded, and which way is up.
"""

from __future__ import annotations

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
PNG_NEEDED = (b"tRNS", b"eXIf")  # besides the critical chunks, whose names begin with a capital
APP0, APP1, APP14, APP15, COMMENT, SCAN = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0xDA  # markers of JPEG
JPEG_NEEDED = {
    APP0: (b"JFIF\0", 14),
    APP1: (b"Exif\0\0", 14),
    APP14: (b"Adobe", 12),
}  # how they begin, their least length
# Tags of TIFF 6.0 and its supplements that pixels depend on: sizes, coding, places, colours, tiles, orientation.
TIFF_NEEDED = {254, *range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326),
               338, 339, 347, *range(512, 522), *range(529, 533)}  # fmt: skip
TIFF_ORIENTATION, TIFF_SHORT = 274, 3


def without_metadata(data: bytes) -> bytes:
    """The file without it; the same bytes where nothing can be left out, or the file is of another kind."""
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _tiff(data)
    return data


def _png(data: bytes) -> bytes:
    """Chunks: their length, their name, that many bytes, and a checksum."""
    kept, place = [PNG], len(PNG)
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + 12 + length]
        whole = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if name[:1].isupper() or (name in PNG_NEEDED and whole):
            kept.append(chunk)
        place += len(chunk)
    return b"".join(kept)


def _jpeg(data: bytes) -> bytes:
    """Segments: 0xff, a marker, the length of what follows, and that; until the first scan, from where on all is kept."""
    kept, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != SCAN:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        begins, least = JPEG_NEEDED.get(marker, (b"", 0))
        needed = bool(begins) and body.startswith(begins) and len(body) >= least
        if needed or not (APP0 <= marker <= APP15 or marker == COMMENT):
            kept.append(data[place : place + 2 + length])
        place += 2 + max(length, 2)
    return b"".join([*kept, data[place:]])


def _tiff(data: bytes) -> bytes:
    """The first directory, whose entries are 12 bytes each, with fewer entries, and nothing after it."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
    except struct.error:  # it ends before
        return data
    entries = [data[place : place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)]
    kept = []
    for entry in entries:
        tag, kind, values = struct.unpack(f"{order}HHI4x", entry.ljust(12, b"\0"))
        if tag in TIFF_NEEDED and (tag != TIFF_ORIENTATION or (kind, values) == (TIFF_SHORT, 1)):
            kept.append(entry)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:start] + directory + data[start + len(directory) :]
