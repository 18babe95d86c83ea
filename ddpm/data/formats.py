"""What a file is that is no picture which is read here, for whoever has to set it aside: by its first bytes, or its name."""

from __future__ import annotations

CONVERT = "which is not read here; convert it to JPEG or PNG"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MARKS = {
    LFS_POINTER: "a Git LFS pointer in the file's place; fetch the file with `git lfs pull`",
    b"\xff\x0a": f"JPEG XL, {CONVERT}",
    b"\0\0\0\x0cJXL ": f"JPEG XL, {CONVERT}",
    b"\0\0\0\x0cjP  ": f"JPEG 2000, {CONVERT}",
    b"II*\0": f"damaged, or a TIFF of a kind {CONVERT}",
    b"MM\0*": f"damaged, or a TIFF of a kind {CONVERT}",
    b"8BPS": f"a Photoshop file, {CONVERT}",
    b"\x76\x2f\x31\x01": f"OpenEXR, {CONVERT}",
    b"\0\0\x01\0": f"an icon, {CONVERT}",
    b"%PDF": "a PDF, not a picture",
    b"PAR1": "a parquet file, not a picture; write parquet:/path/*.parquet",
    b"PK\x03\x04": "a zip, not a picture; name it as the source, or unpack it",
    b"\x1f\x8b": "a gzip file, not a picture; unpack it",
}
MARKUP = {b"<svg": f"SVG, {CONVERT}", b"<!doctype html": "", b"<html": "", b"<?xml": "XML, not a picture"}
PAGE = "a web page, perhaps a server's error, not a picture; fetch the picture again"
# Brands of ISO media files (ISO/IEC 14496-12, 23008-12), which say what is inside.
AVIF = (b"avif", b"avis")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
BY_ENDING = {
    ".heic": f"HEIC, {CONVERT}",
    ".heif": f"HEIC, {CONVERT}",
    ".avif": f"AVIF, {CONVERT}",
    ".jxl": f"JPEG XL, {CONVERT}",
    ".jp2": f"JPEG 2000, {CONVERT}",
    ".jfif": "JPEG by another name; call it .jpg",
    ".jpe": "JPEG by another name; call it .jpg",
    ".svg": f"SVG, {CONVERT}",
}


def what_it_is(data: bytes) -> str:
    """What these bytes of a file's beginning say that it is, and what would help; empty where nobody knows."""
    if data[4:8] == b"ftyp":
        brands = [
            data[8:12],
            *(data[place : place + 4] for place in range(16, int.from_bytes(data[:4], "big"), 4)[:32]),
        ]
        if any(brand in AVIF for brand in brands):
            return BY_ENDING[".avif"]
        return BY_ENDING[".heic"] if any(brand in HEIC for brand in brands) else "a film, not a picture"
    for mark, words in MARKS.items():
        if data.startswith(mark):
            return words
    text = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<?xml") and b"<svg" in data[:1000].lower():
        return MARKUP[b"<svg"]
    return next((words or PAGE for mark, words in MARKUP.items() if text.startswith(mark)), "")
