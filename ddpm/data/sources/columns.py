"""Which columns of a parquet file hold pictures and classes, and what the classes' values mean, file by file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.data.sources.source import NO_CLASS
from ddpm.errors import WrongInput

CLASS_COLUMNS = ("label", "labels", "class")
SHOWN = 12  # columns that a message names


@dataclass(frozen=True)
class Columns:
    """Of one file. `names`: what the class column's numbers stand for, where the file says so."""

    picture: str
    of_class: str | None
    names: tuple[str, ...] | None
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def columns_of(file: Path, schema: Any) -> Columns:
    """Raises WrongInput where no column, or more than one, may hold pictures."""
    features = _features(schema)
    picture = _picture_column(file, schema)
    described = [name for name, facts in features.items() if facts.get("_type") == "ClassLabel"]
    candidates = [
        name for name in dict.fromkeys([*described, *CLASS_COLUMNS]) if name in schema.names and name != picture
    ]
    usable = [name for name in candidates if _says_a_class(schema.field(name).type)]
    notes = [
        f"the column {name} is not used for classes: its values are of type {str(schema.field(name).type)[:60]}"
        for name in candidates
        if name not in usable
    ]
    chosen = usable[0] if usable else None
    names = features.get(chosen or "", {}).get("names")
    said = tuple(map(str, names)) if isinstance(names, list) else None
    others = tuple(name for name in schema.names if name not in (picture, chosen))
    return Columns(picture, chosen, said, others, tuple(notes))


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
        order = dict.fromkeys(name for names in named.values() for name in names)
        if len(set(named.values())) > 1:
            notes.append("the class names, or their order, differ from file to file: each file is read by its own")
        by_name: list[list[Any]] = []
        unknown = 0
        for (file, columns, _), values in zip(self._files, rows, strict=True):
            numbers = any(isinstance(value, int) for value in values)
            if named and columns.names is None and numbers:
                raise WrongInput(
                    f"source: {file} has numbers for classes and no names, and {next(iter(named))} has names; "
                    "describe them in all files, or name these files one by one"
                )
            taken = [_named(value, columns.names) for value in values]
            unknown += sum(value is not None and name is None for value, name in zip(values, taken, strict=True))
            by_name.append(taken)
        if unknown:
            notes.append(f"{unknown:,} rows have a number that is no class's: they have no class")
        others = {name for taken in by_name for name in taken if name is not None and name not in order}
        classes = list(dict.fromkeys([*order, *map(str, sorted(others, key=_by_kind))]))
        number = {name: index for index, name in enumerate(classes)}
        labels = [NO_CLASS if name is None else number[str(name)] for taken in by_name for name in taken]
        empty = labels.count(NO_CLASS) - unknown
        if classes and empty:
            notes.append(f"{empty:,} of {len(labels):,} pictures have no class: nothing is said of theirs")
        return classes, labels, notes

    def _said(self) -> list[str]:
        """Which columns are used, and which are not."""
        _, first, _ = self._files[0]
        of_class = f"their classes from {first.of_class}" if first.of_class else "which have no classes"
        others = f"; not used: {', '.join(first.others[:SHOWN])}" if first.others else ""
        notes = [f"pictures come from the column {first.picture}, {of_class}{others}"]
        notes += dict.fromkeys(note for _, columns, _ in self._files for note in columns.notes)
        without = [file.name for file, columns, _ in self._files if columns.of_class is None]
        if 0 < len(without) < len(self._files):
            more = f" and {len(without) - 1} more files" if len(without) > 1 else ""
            notes.append(f"{without[0]}{more} have no class column, as others have: their pictures have no class")
        return notes


def _plain(value: Any) -> int | float | str | None:
    """A class's value: a whole number however it is written, a text, or None. A float is one that is not whole."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if value != value:  # no number: how tables write that there is none
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) or value is None else str(value)


def _named(value: Any, names: Sequence[str] | None) -> Any:
    """By the file's own names, where it has some; None for a number that is none of them."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _by_kind(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value  # numbers by their size, where one file has numbers and another one names
