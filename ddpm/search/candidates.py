"""The table of models that `ddpm rank` takes, as people's programs save it.

Columns model, fid, kid and, if they are there, parameters and n (of how many pictures), by whatever case; others are
not looked at. fid and kid may be called by their features, fid_768 and kid_768. Between cells there are commas,
semicolons or tabs, whichever the first line has; a byte order mark may stand before it, as Excel writes one. Where
cells are not parted by commas, a comma may be a number's decimal sign.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.figures.numbers import distance_name
from ddpm.plain_files import read_plain
from ddpm.search.ranking import Candidate

NEEDED = {"model": "model", "fid": r"fid(_\w+)?", "kid": r"kid(_\w+)?"}  # by what they may be called
SEPARATORS = (",", ";", "\t")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Candidates:
    """The models of a table, and what it calls their figures: "fid_768 (n=128)", as far as it says so."""

    models: list[Candidate]
    fid: str
    kid: str


def read_candidates(path: Path) -> Candidates:
    """The models of a table.

    Raises WrongInput, with the row, for a file that is no such table; Refused for figures that do not compare.
    """
    text = _text(path).lstrip("\r\n")
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    try:
        names, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error:
        raise _no_table(path) from None
    columns = [name.strip().lower() for name in names]
    called = {}
    for name, pattern in NEEDED.items():
        fitting = [column for column in columns if re.fullmatch(pattern, column)]
        if len(fitting) != 1:
            raise WrongInput(
                f"{path} has {'more than one' if fitting else 'no'} column {name}; its first line must name model, fid, kid and, if you like, parameters and n"
            )
        called[name] = fitting[0]
    metric = called["fid"]
    if metric.removeprefix("fid") != called["kid"].removeprefix("kid"):
        raise Refused(f"{path}: {metric} and {called['kid']} are of different features; give both of the same")
    found, counts = [], set()
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
            fid, kid = (_number(cell[called[name]], separator) for name in ("fid", "kid"))
            found.append(Candidate(cell["model"], fid, kid, int(cell.get("parameters") or 0)))
            counts.add(int(cell.get("n") or 0))
        except ValueError as problem:
            raise WrongInput(f"{where}: {problem}; fid and kid are numbers, parameters and n whole ones") from None
    if len(counts) > 1:
        least, most = min(counts) or "an unknown number", max(counts)
        raise Refused(f"{path}: figures of {least} and of {most} pictures do not compare; measure all with the same n")
    n = next(iter(counts), 0)
    return Candidates(found, distance_name("fid", metric, n), distance_name("kid", metric, n))


def _text(path: Path) -> str:
    try:
        data = read_plain(path)
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
