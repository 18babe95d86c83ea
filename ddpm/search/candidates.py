"""The table of models that `ddpm rank` takes, as people's programs save it.

Columns model, fid, kid and, if there is one, parameters, by whatever case; others are not looked at. Between cells
there are commas, semicolons or tabs, whichever the first line has; a byte order mark may stand before it, as Excel
writes one. Where cells are not parted by commas, a comma may be a number's decimal sign.
"""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from ddpm.errors import WrongInput
from ddpm.search.ranking import Candidate

NEEDED = ("model", "fid", "kid")
SEPARATORS = (",", ";", "\t")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_candidates(path: Path) -> list[Candidate]:
    """Raises WrongInput, with the line, for a file that is no such table."""
    text = _text(path).lstrip("\r\n")
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    try:
        names, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error:
        raise _no_table(path) from None
    columns = [name.strip().lower() for name in names]
    for name in NEEDED:
        if columns.count(name) != 1:
            raise WrongInput(
                f"{path} has {'no' if name not in columns else 'more than one'} column {name}; its first line must name model, fid, kid and, if you like, parameters"
            )
    found = []
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{path}: the row of {cells[0] or 'no name'}"
        if len(cells) != len(columns):
            raise WrongInput(
                f"{where} has {len(cells)} cells and the first line {len(columns)}; numbers with a decimal comma want semicolons between cells"
            )
        cell = dict(zip(columns, cells, strict=True))
        try:
            fid, kid = (_number(cell[name], separator) for name in ("fid", "kid"))
            found.append(Candidate(cell["model"], fid, kid, int(cell.get("parameters") or 0)))
        except ValueError as problem:
            raise WrongInput(f"{where}: {problem}; fid and kid are numbers, parameters a whole one") from None
    return found


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig")
    except OSError as problem:
        raise WrongInput(
            f"{path} cannot be read: {problem.strerror}; name a CSV file with the columns model, fid and kid"
        ) from None
    except UnicodeDecodeError:
        raise _no_table(path) from None


def _no_table(path: Path) -> WrongInput:
    return WrongInput(
        f"{path} is no CSV file in UTF-8; give one with the columns model, fid, kid and, if you like, parameters"
    )


def _number(cell: str, separator: str) -> float:
    return float(cell if separator == "," else cell.replace(",", "."))  # "1.234,5" is no number: which sign is which?
