"""One member of a zip: its name as text, and its bytes, of which never more are unpacked than its directory says.

`zipfile` reads the directory. It does not read the members here: it unpacks all that there is before it looks at the size
that was promised, which may be a lie.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from typing import IO

from ddpm.data.sources.source import within_limit
from ddpm.data.sources.spool import read_at

UTF8 = 0x800  # the flag of a name that is UTF-8
UNICODE_PATH = 0x7075
HEADER = struct.Struct("<4s22xHH")  # before a member's bytes; then follow its name and more, of these lengths
LZMA_MEMORY = 128 * 2**20  # bytes that its dictionary may take


def name_as_text(entry: zipfile.ZipInfo) -> str | None:
    """The member's name; None where it is in a code page that nobody states.

    Without the flag for UTF-8 it should be the first PC's code page, and `zipfile` takes it for that. In truth it is in
    whatever the machine had that packed it; what is valid UTF-8 is UTF-8 (macOS sets no flag).
    """
    said = entry.orig_filename.partition("\0")[0]
    if entry.flag_bits & UTF8 or said.isascii():
        return said
    raw = entry.orig_filename.encode("cp437")
    try:
        return _name_beside(entry.extra, raw) or raw.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return None


def _name_beside(extra: bytes, raw: bytes) -> str:
    """The name in UTF-8 that Info-ZIP keeps in a field of its own, if there is one, and it is this name's; else empty."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == UNICODE_PATH and size > 5 and struct.unpack("<I", extra[5:9])[0] == zlib.crc32(raw):
            return extra[9 : 4 + size].decode()
        extra = extra[4 + size :]
    return ""


def member(file: IO[bytes], entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    """What reads the member; it raises OSError where it is damaged, or too large for a picture."""
    size = max(entry.file_size, entry.compress_size // 2)  # packed it may be a little more than unpacked, and not much
    return within_limit(size, partial(_read, file, entry))


def _read(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    mark, name, extra = HEADER.unpack(read_at(file, entry.header_offset, HEADER.size))
    if mark != b"PK\x03\x04":
        raise OSError(None, "damaged in the archive: its header is none")
    packed = read_at(file, entry.header_offset + HEADER.size + name + extra, entry.compress_size)
    try:
        data = _unpack(packed, entry.compress_type, entry.file_size + 1)
    except (zlib.error, lzma.LZMAError, ValueError, EOFError, OSError) as problem:
        raise OSError(None, f"damaged in the archive: {' '.join(str(problem).split())[:80]}") from None
    if len(data) > entry.file_size:
        raise OSError(
            None, f"unpacks to more than the {entry.file_size:,} bytes that the archive says, taken for a bomb"
        )
    if len(data) < entry.file_size or zlib.crc32(data) != entry.CRC:
        raise OSError(None, "damaged in the archive: its checksum is another one")
    return data


def _unpack(packed: bytes, method: int, most: int) -> bytes:
    """At most so many bytes of what it unpacks to."""
    if method == zipfile.ZIP_STORED:
        return packed[:most]
    if method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, most)
    if method == zipfile.ZIP_LZMA:  # two bytes of version, two of the properties' length, the properties, the stream
        start = 4 + int.from_bytes(packed[2:4], "little")
        alone = packed[4:start] + b"\xff" * 8 + packed[start:]  # as xz's older files begin: of unknown length
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY).decompress(alone, most)
    raise ValueError(f"packed by method {method}, which is not read here")
