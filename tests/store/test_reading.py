"""What was written is read back through one door, which says what is not as it was written."""

import dataclasses
import hashlib
import json
import random
from typing import Literal, NotRequired, TypedDict

import pytest
import torch
from safetensors.torch import save

from ddpm.store import Damaged, Missing, open_store
from ddpm.store.reading import SEAL, misfit, parse_json, read_json, read_tensors, sealed_json, sealed_tensors


class Inner(TypedDict):
    n: int


class Kind(TypedDict):
    name: str
    rows: list[Inner]
    share: float | None
    word: Literal["a", "b"]
    more: NotRequired[dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Made:
    fid: float
    n: int = 3


GOOD = {"name": "x", "rows": [{"n": 1}], "share": 1, "word": "a"}


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def test_what_is_whole_comes_back_as_its_kind(store):
    store.write("a.json", sealed_json(GOOD))
    assert read_json(store, "a.json", Kind, "no matter") == GOOD, "the seal is the door's own affair"
    store.write("b.json", json.dumps(GOOD).encode())
    assert read_json(store, "b.json", Kind, "no matter") == GOOD, "earlier releases wrote no seal"
    store.write("c.json", sealed_json({"fid": 0.5}))
    assert read_json(store, "c.json", Made, "no matter") == Made(0.5)
    with pytest.raises(Missing):
        read_json(store, "d.json", Kind, "no matter")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe\x00garbage", "it is not JSON"),
        (random.Random(3).randbytes(99), "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"name": "x", ', "it is not JSON"),
        (b"[]", r"it is \[\]"),
        (b"{}", "it holds no 'name'"),
        (b"null", "it is null"),
        (json.dumps({**GOOD, "name": 5}).encode(), "name is 5"),
        (json.dumps({**GOOD, "rows": [{"n": 1}, {}]}).encode(), r"it holds no 'rows\[1\].n'"),
        (json.dumps({**GOOD, "rows": [{"n": True}]}).encode(), r"rows\[0\].n is true"),
        (json.dumps({**GOOD, "word": "c"}).encode(), 'word is "c"'),
        (json.dumps({**GOOD, "share": "high"}).encode(), 'share is "high"'),
        (json.dumps({**GOOD, "more": {"x": "y"}}).encode(), 'more.x is "y"'),
        (json.dumps({**GOOD, SEAL: "0" * 64}).encode(), "what it says is not what was written"),
    ],
)
def test_what_is_not_is_said_by_name_with_what_to_do(store, data, says):
    store.write("a.json", data)
    with pytest.raises(Damaged, match=f"a.json is damaged: {says}; remove it$"):
        read_json(store, "a.json", Kind, "remove it")


def test_every_flipped_digit_of_what_is_sealed_is_seen():
    data = sealed_json({"to": 1234})
    for place in range(data.index(b"1234"), data.index(b"1234") + 4):
        changed = bytearray(data)
        changed[place] ^= 2
        with pytest.raises(Damaged, match="not what was written"):
            parse_json(bytes(changed), dict, "x", "remove it")


def test_a_dataclass_takes_no_other_fields():
    assert misfit({"fid": 1.0, "kid": 2.0}, Made) == "it holds 'kid', which is not known"


def test_bytes_of_another_digest_are_refused(store):
    data = json.dumps(GOOD).encode()
    store.write("a.json", data)
    assert read_json(store, "a.json", Kind, "", hashlib.sha256(data).hexdigest()) == GOOD
    with pytest.raises(Damaged, match="its sha256 is"):
        read_json(store, "a.json", Kind, "remove it", "0" * 64)


def test_tensors_come_back_and_damage_to_them_is_seen(store):
    tensors = {"x": torch.arange(6, dtype=torch.float32).reshape(2, 3), "y": torch.ones(2, dtype=torch.bfloat16)}
    data = sealed_tensors(tensors)
    for written in (data, save(tensors)):
        store.write("a.safetensors", written)
        found = read_tensors(store, "a.safetensors", "remove it")
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    flipped = bytearray(data)
    flipped[-1] ^= 1
    for damaged in (bytes(flipped), data[:-4], b"", b"garbage" * 20, data[:8]):
        store.write("a.safetensors", damaged)
        with pytest.raises(Damaged, match="a.safetensors is damaged: .*; remove it$"):
            read_tensors(store, "a.safetensors", "remove it")
