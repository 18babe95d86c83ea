"""The one door through which what was written is read back: it checks, and says by name what is not what it should be.

    read_json(store, key, Manifest, right)    JSON of a kind: a TypedDict, a dataclass, dict[str, float], …
    read_tensors(store, key, right)           tensors by name
    parse_json, parse_tensors                 the same of bytes that are here already

Raises Missing where nothing is there, and Damaged, in one line with `right` at its end, for what is: bytes of another
digest, half a file, JSON of another shape, a seal that is broken.

A seal is a digest of all else in an object, kept within it: `sealed_json` and `sealed_tensors` write one, and the door
checks it wherever there is one, which in what earlier releases wrote is nowhere. It finds damage. Against whoever writes
another seal there is only a digest that is kept elsewhere, as in an object's name or in the registry: `sha256`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ddpm.plain_files import NoPlainFile, read_plain
from ddpm.store.base import MOST_BYTES, Damaged, Missing, Store

if TYPE_CHECKING:  # the tasks that read JSON alone need no torch
    from torch import Tensor

SEAL = "seal_sha256"
JSON_BYTES = 2**28  # that JSON has at most
T = TypeVar("T")


def read_json(store: Store, key: str, kind: type[T], right: str, sha256: str | None = None) -> T:
    """The object at `key` as `kind`: a dict, or the dataclass itself. `right` is what to do where it is damaged."""
    return parse_json(store.read(key, JSON_BYTES), kind, store.uri(key), right, sha256)


def read_tensors(store: Store, key: str, right: str, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors at `key`, by name."""
    return parse_tensors(store.read(key), store.uri(key), right, sha256)


def read_file(path: Path, name: str, right: str, sha256: str | None = None) -> bytes:
    """The bytes of a file on this machine, which messages call `name`."""
    try:
        data = read_plain(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Missing(f"{name} is not there; {right}") from None
    except NoPlainFile as problem:
        raise Damaged(f"{name} is damaged: {problem.strerror}; {right}") from None
    return checked(data, name, right, sha256)


def checked(data: bytes, name: str, right: str, sha256: str | None) -> bytes:
    """The bytes as they are. Raises Damaged where they have another digest than `sha256`; None: nobody knows one."""
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise Damaged(f"{name} is damaged: its sha256 is {found[:12]}…, and not {sha256[:12]}…; {right}")
    return data


def parse_json(data: bytes, kind: type[T], name: str, right: str, sha256: str | None = None) -> T:
    """What the bytes of `name` say, as `kind`."""
    checked(data, name, right, sha256)
    if not data:
        raise Damaged(f"{name} is damaged: it is empty; {right}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):  # UnicodeDecodeError and a number too long are ValueErrors
        raise Damaged(f"{name} is damaged: it is not JSON; {right}") from None
    if isinstance(found, dict) and (seal := found.pop(SEAL, None)) is not None and seal != _seal(found):
        raise Damaged(f"{name} is damaged: what it says is not what was written; {right}")
    if problem := misfit(found, kind):
        raise Damaged(f"{name} is damaged: {problem}; {right}")
    return kind(**found) if dataclasses.is_dataclass(kind) else found


def sealed_json(facts: Mapping[str, Any]) -> bytes:
    """JSON with a seal."""
    return json.dumps({**facts, SEAL: _seal(facts)}, indent=1).encode()


def _seal(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def parse_tensors(data: bytes, name: str, right: str, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors in a safetensors file's bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    checked(data, name, right, sha256)
    try:
        tensors = load(data)
        seal = _metadata(data).get(SEAL)
    except (SafetensorError, ValueError, KeyError):
        raise Damaged(f"{name} is damaged: it holds no tensors; {right}") from None
    if seal is not None and seal != _seal_of_tensors(tensors):
        raise Damaged(f"{name} is damaged: what it holds is not what was written; {right}")
    return tensors


def sealed_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file with a seal in its metadata."""
    from safetensors.torch import save

    return save(dict(tensors), metadata={SEAL: _seal_of_tensors(tensors)})


def _seal_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    import torch

    seal = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        seal.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        seal.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return seal.hexdigest()


def _metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}


def misfit(value: Any, kind: Any, at: str = "") -> str:
    """Why a value that was read from JSON is not of its kind, in a few words; empty where it is."""
    if kind is Any:
        return ""
    outer, inner = get_origin(kind), get_args(kind)
    if outer in (Union, types.UnionType):
        return "" if any(not misfit(value, one, at) for one in inner) else _is(value, at)
    if outer is NotRequired:
        return misfit(value, inner[0], at)
    if outer is Literal:
        return "" if value in inner else _is(value, at)
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _misfit_of_fields(value, kind, at)
    if kind is float:
        return "" if isinstance(value, (int, float)) and not isinstance(value, bool) else _is(value, at)
    plain = outer or kind
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        return _is(value, at)
    if plain is list and inner:
        return next(filter(None, (misfit(item, inner[0], f"{at}[{i}]") for i, item in enumerate(value))), "")
    if plain is dict and inner:
        return next(filter(None, (misfit(item, inner[1], _below(at, name)) for name, item in value.items())), "")
    return ""


def _misfit_of_fields(value: Any, kind: Any, at: str) -> str:
    if not isinstance(value, dict):
        return _is(value, at)
    hints, free = _fields(kind)
    if dataclasses.is_dataclass(kind) and (unknown := next((name for name in value if name not in hints), None)):
        return f"it holds '{unknown}', which is not known"
    for name, hint in hints.items():
        if name in value:
            if problem := misfit(value[name], hint, _below(at, name)):
                return problem
        elif name not in free:
            return f"it holds no '{_below(at, name)}'"
    return ""


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a kind's fields, by name, and those that may be missing."""
    hints = get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        empty = dataclasses.MISSING
        fields = dataclasses.fields(kind)
        return hints, frozenset(f.name for f in fields if f.default is not empty or f.default_factory is not empty)
    # Annotations that are text hide NotRequired from Python's own list of the optional keys.
    own = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    return hints, frozenset(kind.__optional_keys__ | own)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _is(value: Any, at: str) -> str:
    words = json.dumps(value)
    return f"{at or 'it'} is {words if len(words) <= 40 else f'{words[:40]}…'}"
