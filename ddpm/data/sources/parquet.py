"""Pictures in parquet files, as the Hugging Face hub keeps them: a column of encoded pictures, perhaps one of classes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from ddpm.data.formats import what_it_is
from ddpm.data.sources.columns import EMBED, Classes, Columns, columns_of
from ddpm.data.sources.pages import NoPage, largest_page
from ddpm.data.sources.source import MAX_BYTES, Content, Picture, Source, printable, within_limit
from ddpm.data.sources.spec import Spec, path_after, telling
from ddpm.data.sources.spool import Spool, require_bounded
from ddpm.errors import WrongInput
from ddpm.plain_files import require_plain

ROWS_AT_ONCE = 64
BYTES_AT_ONCE = MAX_BYTES  # that the rows read at once may come to, and
LARGEST_PAGE = (
    MAX_BYTES + 2**20
)  # that a page, so any cell of it, may unpack to: pyarrow takes nine times as much memory
ROW_BYTES = 64  # that a row takes at least, if only to know of it: rows without anything cost a file nothing


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
        rows = 0
        for file in (files := require_parquet(str(self.pattern))):
            with _opened(file) as opened:
                columns_of(file, opened.schema_arrow)
                rows += opened.metadata.num_rows
        if not rows:
            raise WrongInput(f"source: {_several(files)} without a row; name parquet files that hold pictures")

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
    above = Path(os.path.commonpath([file.parent for file in files]))
    spool, found, classes = Spool(), [], Classes()
    paths = 0
    for file in files:
        stem = file.relative_to(above).with_suffix("").as_posix()
        with _opened(file) as opened:
            columns = columns_of(file, opened.schema_arrow)
            values = classes.begin(file, columns)
            for row, (cell, value) in enumerate(_rows(file, opened, columns)):
                data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
                if data is None and path:
                    content: Content = partial(_only_a_path, str(path))
                    paths += 1
                else:
                    content = within_limit(len(data or b""), spool.keep(data or b""))
                found.append((printable(f"{stem}/{row:06d}"), content))
                values.append(value)
    if not found:
        raise WrongInput(f"source: {_several(files)} without a row; name parquet files that hold pictures")
    if paths == len(found):
        raise WrongInput(f"source: {_several(files)} of pictures' paths without their bytes; {EMBED}")
    names, labels, notes = classes.settle()
    rows = [Picture(name, label, content) for (name, content), label in zip(found, labels, strict=True)]
    return Source(kind, names, rows, facts or {}, notes=notes)


def _several(files: Sequence[Path]) -> str:
    return (
        f"{files[0]} is a parquet file"
        if len(files) == 1
        else f"{files[0]} and {len(files) - 1} more are parquet files"
    )


def _only_a_path(path: str) -> bytes:
    raise OSError(None, f"only its path is there ({printable(path)[:100]}), not its bytes")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The file for pyarrow. Raises WrongInput where it cannot be read, or what is read of it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        require_plain(file)  # a pipe waits for ever where it is opened
        size = file.stat().st_size  # of one without a size, as the kernel's own are, nothing is read: it may never end
        with file.open("rb") as first:
            other = what_it_is(first.read(1000)) if size else "empty; fetch it again"
        if other and not other.startswith("a parquet"):
            raise WrongInput(f"source: {file} is {other}")
        with pyarrow.parquet.ParquetFile(file) as opened:
            yield opened
    except (pyarrow.ArrowException, UnicodeDecodeError, NoPage, OSError) as problem:
        words = " ".join(str(problem).split())[:160]
        raise WrongInput(f"source: {file} cannot be read as parquet: {words}; fetch it again") from None


def _rows(file: Path, opened: Any, columns: Columns) -> Iterator[tuple[Any, Any]]:
    """Each row's cell of the picture column, and its value of the class column.

    What they unpack to is looked at before it is unpacked, and how many rows are read at once follows from it.
    """
    wanted = [columns.picture] + ([columns.of_class] if columns.of_class else [])
    unpacked = opened.metadata.num_rows * ROW_BYTES
    require_bounded(file, unpacked)
    page = largest_page(file, opened.metadata, wanted)
    if page > LARGEST_PAGE:
        raise WrongInput(
            f"source: {file} is refused: a page of it unpacks to {page:,} bytes, taken for a bomb; "
            f"write it anew with pages of at most {LARGEST_PAGE:,} if you trust it"
        )
    at_once = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // max(page, 1)))
    for batch in opened.iter_batches(at_once, columns=wanted):
        cells = batch.column(columns.picture)
        values = batch.column(columns.of_class) if columns.of_class else None
        unpacked += batch.nbytes
        require_bounded(file, unpacked)
        for row in range(len(cells)):  # one by one: as many as are at once would be there twice
            yield cells[row].as_py(), None if values is None else values[row].as_py()
