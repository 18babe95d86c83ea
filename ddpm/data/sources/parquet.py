"""Pictures in parquet files, as the Hugging Face hub keeps them: a column of encoded pictures, perhaps one of classes."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from ddpm.data.sources.source import NO_CLASS, Picture, Source, printable, within_limit
from ddpm.data.sources.spec import Spec, path_after, telling
from ddpm.data.sources.spool import Spool
from ddpm.errors import WrongInput

ROWS_AT_ONCE = 64
CLASS_COLUMNS = ("label", "labels", "class")


@dataclass(frozen=True)
class Parquet(Spec):
    """`parquet:/path/*.parquet`"""

    pattern: Path

    @classmethod
    def recognise(cls, source: str) -> Parquet | None:
        pattern = path_after("parquet", source, "files")
        return None if pattern is None else cls(pattern)

    @classmethod
    def form(cls) -> str:
        return "parquet:GLOB"

    def check(self) -> None:
        require_parquet(str(self.pattern))

    def open(self) -> Source:
        return from_parquet(require_parquet(str(self.pattern)))

    def title(self) -> str:
        return telling(_literal(self.pattern.absolute().parent).parts)

    def absolute(self) -> str:
        return f"parquet:{self.pattern.absolute()}"

    def local_paths(self) -> tuple[Path, ...]:
        """The file, or, of a pattern, the folder that all it may match lies below."""
        return (_literal(self.pattern.absolute()),)


def _literal(pattern: Path) -> Path:
    """As much of a pattern as matches itself alone."""
    return Path(*takewhile(lambda part: glob.escape(part) == part, pattern.parts))


def require_parquet(pattern: str) -> list[Path]:
    """The files that the pattern names, sorted. Raises WrongInput where there are none."""
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(name)]
    if not files:
        raise WrongInput(f"source: no file matches {pattern}; name parquet files, as in parquet:/path/*.parquet")
    return files


def from_parquet(files: Sequence[Path], kind: str = "parquet", facts: dict[str, Any] | None = None) -> Source:
    """The pictures of all rows. Read once from front to back, and kept in a temporary file from there on."""
    import pyarrow
    import pyarrow.parquet

    above = Path(os.path.commonpath([file.parent for file in files]))
    spool, pictures = Spool(), []
    given: list[Any] = []
    names: list[str] | None = None
    for file in files:
        try:
            with pyarrow.parquet.ParquetFile(file) as opened:
                column, class_column = _picture_column(file, opened.schema_arrow), _class_column(opened.schema_arrow)
                names = names or _class_names(opened.schema_arrow, class_column)
                columns = [column] + ([class_column] if class_column else [])
                row = 0
                for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
                    cells = batch.column(column).to_pylist()
                    classes = batch.column(class_column).to_pylist() if class_column else [None] * len(cells)
                    for cell, of_class in zip(cells, classes, strict=True):
                        data = (cell.get("bytes") if isinstance(cell, dict) else cell) or b""
                        name = printable(f"{file.relative_to(above).with_suffix('').as_posix()}/{row:06d}")
                        pictures.append((name, within_limit(len(data), spool.keep(data))))
                        given.append(of_class)
                        row += 1
        except (pyarrow.ArrowInvalid, OSError) as problem:
            words = " ".join(str(problem).split())[:160]
            raise WrongInput(f"source: {file} cannot be read as parquet: {words}; fetch it again") from None
    classes = names or [str(value) for value in sorted({value for value in given if value is not None}, key=_by_kind)]
    number = {name: index for index, name in enumerate(classes)}

    def label(value: Any) -> int:
        if value is None:
            return NO_CLASS
        if names is not None and isinstance(value, int):
            return value if 0 <= value < len(names) else NO_CLASS
        return number.get(str(value), NO_CLASS)

    rows = [Picture(name, label(value), content) for (name, content), value in zip(pictures, given, strict=True)]
    return Source(kind, classes, rows, facts or {})


def _by_kind(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value  # numbers by their size, where one file has numbers and another one names


def _picture_column(file: Path, schema: Any) -> str:
    """The column of encoded pictures, by its type: bytes with a path, as the hub writes them, before plain bytes."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    described = [
        field.name
        for field in schema
        if types.is_struct(field.type) and any(part.name == "bytes" and is_bytes(part.type) for part in field.type)
    ]
    plain = [field.name for field in schema if is_bytes(field.type)]
    found = described or plain
    if not found:
        raise WrongInput(f"source: {file} has no column of encoded pictures; its columns are {', '.join(schema.names)}")
    if len(found) > 1:
        raise WrongInput(
            f"source: {file} has several columns that may hold pictures, {', '.join(found)}; leave one of them in it"
        )
    return found[0]


def _features(schema: Any) -> dict[str, Any]:
    """What the hub's own library says of the columns."""
    try:
        return json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}  # metadata of somebody else's


def _class_column(schema: Any) -> str | None:
    import pyarrow.types as types

    described = [name for name, facts in _features(schema).items() if facts.get("_type") == "ClassLabel"]
    usual = [name for name in CLASS_COLUMNS if name in schema.names]
    for name in [*described, *usual]:
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and types.is_dictionary(kind):  # a categorical: its values are what counts
            kind = kind.value_type
        if kind is not None and (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            return name
    return None


def _class_names(schema: Any, column: str | None) -> list[str] | None:
    found = _features(schema).get(column or "", {}).get("names")
    return [str(name) for name in found] if isinstance(found, list) else None
