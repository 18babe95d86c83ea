"""Which columns of a parquet file hold pictures and classes, and what the classes' values mean, file by file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.data.sources.layout import one_spelling
from ddpm.data.sources.source import NO_CLASS
from ddpm.errors import WrongInput
from ddpm.fields import shown

CLASS_COLUMNS = ("label", "labels", "class")
SHOWN = 12  # columns that a message names


@dataclass(frozen=True)
class Columns:
    """Of one file. `names`: what the class column's numbers stand for, by number, where the file says so."""

    picture: str
    of_class: str | None
    names: dict[int, str] | None
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def columns_of(file: Path, schema: Any) -> Columns:
    """Raises WrongInput where no column, or more than one, may hold pictures, or two of one name may hold classes."""
    features = _features(schema)
    picture = _picture_column(file, schema)
    described = [name for name, facts in features.items() if facts.get("_type") == "ClassLabel"]
    candidates = [
        name for name in dict.fromkeys([*described, *CLASS_COLUMNS]) if name in schema.names and name != picture
    ]
    for name in (picture, *candidates):
        if schema.names.count(name) > 1:
            raise WrongInput(f"source: {file} has several columns named {name}; leave one of them in it")
    usable = [name for name in candidates if _says_a_class(schema.field(name).type)]
    notes = [
        f"the column {name} is not used for classes: its values are of type {str(schema.field(name).type)[:60]}"
        for name in candidates
        if name not in usable
    ]
    chosen = usable[0] if usable else None
    names = _names(chosen, features[chosen], notes) if chosen in described else None
    others = tuple(name for name in schema.names if name not in (picture, chosen))
    return Columns(picture, chosen, names, others, tuple(notes))


def _names(column: str, facts: dict[str, Any], notes: list[str]) -> dict[int, str] | None:
    """What a ClassLabel's numbers stand for: a list's places, or what a dictionary says. Notes what is odd about them."""
    told = facts.get("names") or None  # an empty list names nobody either
    if isinstance(told, list):
        told = dict(enumerate(told))
    elif isinstance(told, dict) and all(re.fullmatch(r"[0-9]{1,9}", number) for number in told):
        told = {int(number): told[number] for number in sorted(told, key=int)}
    else:
        what = "there are none" if told is None else f"they are {shown(told)}"
        notes.append(f"the names of {column}'s classes are not used: {what}, and no list of them")
        return None
    names = {number: "" if name is None else str(name) for number, name in told.items()}
    if nameless := [number for number, name in names.items() if not name.strip()]:
        notes.append(f"of {column}'s classes {_some(nameless)} have no name, and go by their number")
        names.update({number: str(number) for number in nameless})
    for name, count in Counter(names.values()).items():
        if count > 1:
            alike = [number for number, other in names.items() if other == name]
            notes.append(f"of {column}'s classes {_some(alike)} are all called {name}: they are one class")
    return names


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (" …" if len(numbers) > SHOWN else "")


def types_of(schema: Any) -> str:
    """`image (struct<…>), n (int64)`"""
    shown = [f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:SHOWN]]
    return ", ".join(shown) + (f" and {len(schema) - SHOWN} more" if len(schema) > SHOWN else "")


def _picture_column(file: Path, schema: Any) -> str:
    """The column of encoded pictures, by its type: bytes with a path, as the hub writes them, before plain bytes."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    structs = {
        field.name: {part.name: part.type for part in field.type} for field in schema if types.is_struct(field.type)
    }
    described = [name for name, parts in structs.items() if "bytes" in parts and is_bytes(parts["bytes"])]
    plain = [field.name for field in schema if is_bytes(field.type)]
    found = described or plain
    if not found:
        paths = [name for name, parts in structs.items() if "path" in parts]
        only = f"the column {paths[0]} holds paths and no bytes; {EMBED}; " if paths else ""
        raise WrongInput(f"source: {file} has no column of encoded pictures; {only}its columns are {types_of(schema)}")
    if len(found) > 1:
        raise WrongInput(
            f"source: {file} has several columns that may hold pictures, {', '.join(found[:SHOWN])}; leave one of them in it"
        )
    kind = next(field.type for field in schema if field.name == found[0])
    parts = [part.name for part in kind] if types.is_struct(kind) else []
    if twice := next((name for name in parts if parts.count(name) > 1), None):
        raise WrongInput(f"source: {file} has several parts named {twice} in its column {found[0]}; leave one of them")
    return found[0]


EMBED = "write the pictures themselves into it, or give the folder that they lie in"


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the hub's own library says of the columns; nothing, where the metadata are somebody else's."""
    try:
        found: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        found = found.get(key) if isinstance(found, dict) else None
    return {name: facts for name, facts in found.items() if isinstance(facts, dict)} if isinstance(found, dict) else {}


def _says_a_class(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):  # a categorical: its values are what counts
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return is_text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)


class Classes:
    """The classes of all files' rows, gathered file by file."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, Columns, list[Any]]] = []

    def begin(self, file: Path, columns: Columns) -> list[Any]:
        """The list of a file's rows' values, None where there is none, which is to be filled."""
        values: list[Any] = []
        self._files.append((file, columns, values))
        return values

    def settle(self) -> tuple[list[str], list[int], list[str]]:
        """The classes' names, each row's class, in order, and notes on what is not used.

        Numbers with names are taken by their own file's names. Raises WrongInput where some files name them and others do not.
        """
        notes = self._said()
        rows = [[_plain(value) for value in values] for _, _, values in self._files]
        odd = next((value for values in rows for value in values if isinstance(value, float)), None)
        if odd is not None:
            column = next(columns.of_class for _, columns, _ in self._files if columns.of_class)
            notes.append(f"the column {column} is not used for classes: its values are no whole numbers ({odd:g})")
            return [], [NO_CLASS] * sum(map(len, rows)), notes
        named = {file: columns.names for file, columns, _ in self._files if columns.names is not None}
        order = dict.fromkeys(name for names in named.values() for name in names.values())
        if len({tuple(names.items()) for names in named.values()}) > 1:
            notes.append("the class names, or their order, differ from file to file: each file is read by its own")
        by_name: list[list[Any]] = []
        unknown = 0
        for (file, columns, _), values in zip(self._files, rows, strict=True):
            if named and columns.names is None and any(isinstance(value, int) for value in values):
                raise WrongInput(
                    f"source: {file} has numbers for classes and no names, and {next(iter(named))} has names; "
                    "describe them in all files, or name these files one by one"
                )
            taken = [_named(value, columns.names) for value in values]
            unknown += sum(value is not None and name is None for value, name in zip(values, taken, strict=True))
            by_name.append(taken)
        if unknown:
            notes.append(f"{unknown:,} rows have a number that is no class's: they have no class")
        texts = [*order, *(name for taken in by_name for name in taken if isinstance(name, str))]
        called, spelt = one_spelling(texts)
        notes += spelt
        order = dict.fromkeys(called[name] for name in order)
        by_name = [[called.get(name, name) for name in taken] for taken in by_name]
        others = {name for taken in by_name for name in taken if name is not None and name not in order}
        if named and others:
            words = ", ".join(map(str, sorted(others, key=_by_kind)[:SHOWN]))
            notes.append(f"classes that the names do not list, and that are taken all the same: {words}")
        classes = list(dict.fromkeys([*order, *map(str, sorted(others, key=_by_kind))]))
        number = {name: index for index, name in enumerate(classes)}
        labels = [NO_CLASS if name is None else number[str(name)] for taken in by_name for name in taken]
        empty = labels.count(NO_CLASS) - unknown
        if not classes and any(columns.of_class for _, columns, _ in self._files):
            notes.append("no row of the class column says a class")
        elif classes and empty:
            notes.append(f"{empty:,} of {len(labels):,} pictures have no class: nothing is said of theirs")
        return classes, labels, notes

    def _said(self) -> list[str]:
        """Which columns are used, and which are not."""
        _, first, _ = self._files[0]
        of_class = f"their classes from {first.of_class}" if first.of_class else "which have no classes"
        others = f"; not used: {', '.join(first.others[:SHOWN])}" if first.others else ""
        notes = [f"pictures come from the column {first.picture}, {of_class}{others}"]
        for file, columns, _ in self._files:
            if columns.of_class and columns.of_class != first.of_class and first.of_class:
                notes.append(f"the classes of {file.name} come from another column, {columns.of_class}")
                break
        notes += dict.fromkeys(note for _, columns, _ in self._files for note in columns.notes)
        without = [file.name for file, columns, _ in self._files if columns.of_class is None]
        if 0 < len(without) < len(self._files):
            more = f" and {len(without) - 1} more files" if len(without) > 1 else ""
            notes.append(f"{without[0]}{more} have no class column, as others have: their pictures have no class")
        return notes


def _plain(value: Any) -> int | float | str | None:
    """A class's value: a whole number however it is written (a bool is one), a text, or None where it says that there is
    none: an empty text. A float is one that is not whole."""
    if isinstance(value, float):
        if value != value:  # no number: how tables write that there is none
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, int) or value is None:
        return value
    return str(value) if str(value).strip() else None


def _named(value: Any, names: Mapping[int, str] | None) -> Any:
    """By the file's own names, where it has some; None for a number that is none of them, and for -1, which is how
    tables of numbers write that there is no class."""
    if not isinstance(value, int):
        return value
    if names is None:
        return None if value == -1 else str(value) if isinstance(value, bool) else value
    return names.get(int(value))


def _by_kind(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value  # numbers by their size, where one file has numbers and another one names
