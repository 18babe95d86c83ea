"""How much the pages of a parquet file unpack to, read from their headers before anything is unpacked.

The footer's sizes are of whole column chunks, and nobody keeps to them. A page says itself what it unpacks to, and its
reader sets aside that much, so no cell of it is larger; a dictionary's cell may come again in any number of rows.

A page header is a struct of Thrift's compact protocol (github.com/apache/parquet-format, src/main/thrift/parquet.thrift).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

BOOLEANS, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
UNPACKED, PACKED = 2, 3  # fields of a page header: bytes of the page
DEEPEST = 8  # structs within structs; a header's are 3


class NoPage(ValueError):
    """What is there is no page header."""


def largest_page(path: Path, metadata: Any, columns: Iterable[str]) -> int:
    """Bytes that the largest page of these columns (of their top-level names) unpacks to. Raises NoPage."""
    wanted, largest = set(columns), 0
    with path.open("rb") as file:
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        for group in (group for group in groups if group.num_rows):
            for chunk in (group.column(number) for number in range(group.num_columns)):
                if chunk.path_in_schema.split(".")[0] in wanted:
                    largest = max(largest, _largest(file, chunk))
    return largest


def _largest(file: IO[bytes], chunk: Any) -> int:
    dictionary = chunk.dictionary_page_offset
    place = min(chunk.data_page_offset, dictionary) if dictionary else chunk.data_page_offset
    end, largest = place + chunk.total_compressed_size, 0
    while place < end:
        file.seek(place)
        header = _struct(file)
        unpacked, packed = header.get(UNPACKED), header.get(PACKED)
        if unpacked is None or packed is None or unpacked < 0 or packed < 0:
            raise NoPage(f"no page at byte {place:,}")
        largest, place = max(largest, unpacked), file.tell() + packed
    return largest


def _struct(file: IO[bytes], depth: int = 0) -> dict[int, int]:
    """Its whole numbers by their fields; the rest is passed over."""
    if depth > DEEPEST:
        raise NoPage("structs without end")
    numbers: dict[int, int] = {}
    field = 0
    while head := _byte(file):
        kind, step = head & 15, head >> 4
        field = field + step if step else _zigzag(file)
        if kind in INTEGERS:
            numbers[field] = _zigzag(file)
        elif kind not in BOOLEANS:  # those are in the field's own byte
            _pass(file, kind, depth)
    return numbers


def _pass(file: IO[bytes], kind: int, depth: int) -> None:
    if kind in (BYTE, *BOOLEANS):
        _byte(file)
    elif kind in INTEGERS:
        _varint(file)
    elif kind == DOUBLE:
        file.seek(8, 1)
    elif kind == BINARY:
        file.seek(_varint(file), 1)
    elif kind in LISTS:
        head = _byte(file)
        for _ in range(_varint(file) if head >> 4 == 15 else head >> 4):
            _pass(file, head & 15, depth + 1)
    elif kind == STRUCT:
        _struct(file, depth + 1)
    else:
        raise NoPage(f"a field of type {kind}")


def _byte(file: IO[bytes]) -> int:
    if not (found := file.read(1)):
        raise NoPage("the file ends within a header")
    return found[0]


def _varint(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise NoPage("a number without end")


def _zigzag(file: IO[bytes]) -> int:
    value = _varint(file)
    return value >> 1 ^ -(value & 1)
