"""The table of models that `ddpm rank` takes, as people's programs save it.

Columns model, fid, kid and, if they are there, parameters and n (of how many pictures), by whatever case; others are
not looked at, fid_std and kid_std among them. fid and kid may be called by their features, fid_768 and kid_768, and say n themselves, as our own tables
do: fid_768 (n=128). Between cells there are commas, semicolons or tabs, whichever the first line has, and of two the one by which
the needed columns are found; before it a byte
order mark may stand, as Excel writes one, and a line `sep=;`, as Excel reads one. Where cells are not parted by commas, a
comma may be a number's decimal sign.
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
from ddpm.fields import shown
from ddpm.numerals import number
from ddpm.plain_files import read_named
from ddpm.search.ranking import Candidate

# By what they may be called: with their features, and with the number of pictures.
NEEDED = {
    "model": "model",
    **{name: rf"{name}(?P<of>_(?!(?:\w*_)?std\b)\w+)?(?: ?\(n ?= ?(?P<n>[0-9][0-9,]*)\))?" for name in ("fid", "kid")},
}
SEPARATOR = re.compile(r"sep=(?P<sign>[,;\t])\r?\n")  # Excel's own line, before all others
SEPARATORS = (",", ";", "\t")
OPTIONAL = ("parameters", "n")
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Candidates:
    """The models of a table, and what it calls their figures: "fid_768 (n=128)", as far as it says so."""

    models: list[Candidate]
    fid: str
    kid: str


def read_candidates(path: str | Path) -> Candidates:
    """The models of a table.

    Raises WrongInput, with the row, for a file that is no such table; Refused for figures that do not compare.
    """
    text = _text(path).lstrip("\r\n")
    if told := SEPARATOR.match(text):
        text = text[told.end() :].lstrip("\r\n")
    separator = told["sign"] if told else _separator(re.split("[\r\n]", text, maxsplit=1)[0])
    try:
        names, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error:
        raise _no_table(path) from None
    columns = [name.strip().lower() for name in names]
    called: dict[str, re.Match[str]] = {}
    for name, pattern in NEEDED.items():
        fitting = [fits for column in columns if (fits := re.fullmatch(pattern, column))]
        if len(fitting) != 1:
            raise WrongInput(
                f"{path} has {'more than one' if fitting else 'no'} column {name}; its first line must name model, fid, kid and, if you like, parameters and n"
            )
        called[name] = fitting[0]
    if twice := next((name for name in OPTIONAL if columns.count(name) > 1), None):
        raise WrongInput(f"{path} has more than one column {twice}; leave one of them in it")
    of = called["fid"]["of"] or ""
    if of != (called["kid"]["of"] or ""):
        raise Refused(
            f"{path}: fid{of} and kid{called['kid']['of'] or ''} are of different features; give both of the same"
        )
    found: list[Candidate] = []
    counts = {int(n.replace(",", "")) for name in ("fid", "kid") if (n := called[name]["n"])}
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
        if not cell["model"]:
            raise WrongInput(f"{path}: row {len(found) + 1} has no model; name each, so that the best one can be told")
        try:
            fid, kid = (_number(cell[called[name][0]], separator) for name in ("fid", "kid"))
            found.append(Candidate(cell["model"], fid, kid, _whole(cell.get("parameters", ""))))
            if "n" in cell or not counts:
                counts.add(_whole(cell.get("n", "")))
        except ValueError as problem:
            raise WrongInput(f"{where}: {problem}; fid and kid are numbers, parameters and n whole ones") from None
    if len(counts) > 1:
        least, most = min(counts) or "an unknown number", max(counts)
        raise Refused(f"{path}: figures of {least} and of {most} pictures do not compare; measure all with the same n")
    n = next(iter(counts), 0)
    return Candidates(found, distance_name("fid", f"fid{of}", n), distance_name("kid", f"fid{of}", n))


def _separator(line: str) -> str:
    """The sign by which most of the needed columns are found in the first line; of several such, the one it has most of."""

    def fits(sign: str) -> tuple[int, int]:
        columns = [name.strip(' "').lower() for name in line.split(sign)]
        needed = [any(re.fullmatch(pattern, column) for column in columns) for pattern in NEEDED.values()]
        return sum(needed), line.count(sign)

    return max(SEPARATORS, key=fits)


def _text(path: str | Path) -> str:
    try:
        data = read_named(path)
        return data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig")
    except OSError as problem:
        raise WrongInput(
            f"{path} cannot be read: {problem.strerror}; name a CSV file with the columns model, fid and kid, or - for standard input"
        ) from None
    except UnicodeDecodeError:
        raise _no_table(path) from None


def _no_table(path: str | Path) -> WrongInput:
    return WrongInput(
        f"{path} is no CSV file in UTF-8; give one with the columns model, fid, kid and, if you like, parameters"
    )


def _number(cell: str, separator: str) -> float:
    return number(cell if separator == "," else cell.replace(",", "."))  # "1.234,5" is no number: which sign is which?


def _whole(cell: str) -> int:
    """A whole number from 0, however a program wrote it (`128.0`, `128,0`); 0 for an empty cell."""
    found = re.fullmatch("([0-9]{1,18})([.,]0*)?", cell or "0")
    if not found:
        raise ValueError(f"{shown(cell)} is no whole number")
    return int(found[1])
