"""Data sets by name: which one is meant, and what is said where it is none or several."""

import hashlib
import os

import pytest

from ddpm.data.catalogue import datasets, find_dataset, source_or_dataset, table
from ddpm.data.dataset import open_dataset
from ddpm.data.garbage import collect_garbage
from ddpm.data.ingest import ingest
from ddpm.data.manifest import canonical
from ddpm.data.verify import verify
from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import Damaged, open_store
from pipelines.request import gather


class Heard(Quiet):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def publish(store, name, number, at):
    """A manifest, and when it was written."""
    manifest = {
        "format_version": 1, "name": name, "image_size": 8, "classes": ["a", "b"], "source": {"kind": "folder", "origin": f"place {number}"},
        "n": 1605, "held_out": number, "shards": {"train": [], "held_out": []},
    }  # fmt: skip
    data = canonical(manifest)
    digest = hashlib.sha256(data).hexdigest()
    store.create(f"datasets/{name}/{digest}.json", data)
    os.utime(store.path(f"datasets/{name}/{digest}.json"), (at, at))
    return store.uri(f"datasets/{name}/{digest}.json"), digest


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def test_a_name_is_the_one_ingested_last_and_a_digests_beginning_is_enough(store):
    old, old_digest = publish(store, "roses", 1, at=1_000)
    new, new_digest = publish(store, "roses", 2, at=2_000)
    publish(store, "roses-2", 3, at=3_000)
    heard = Heard()
    assert find_dataset("roses", store, heard) == find_dataset("roses@latest", store, heard) == new
    assert heard.said == [f"data set roses@{new_digest[:8]}, the latest of 2 called roses"] * 2
    for digits in (8, 12, 64):
        assert find_dataset(f"roses@{old_digest[:digits]}", store, Quiet()) == old
    assert find_dataset(old, store, Quiet()) == old, "a URI is one already"
    only = Heard()
    find_dataset("roses-2", store, only)
    assert only.said == []


def test_what_is_none_or_several_is_said_with_what_there_is(store):
    found = [publish(store, "roses", number, at=number)[1] for number in range(17)]  # two of which begin alike
    first = next(digit for digit in "0123456789abcdef" if sum(one.startswith(digit) for one in found) > 1)
    few = sum(one.startswith(first) for one in found)
    with pytest.raises(
        WrongInput, match=f"dataset: {few} digests of roses begin with {first}; there are roses@{first}"
    ):
        find_dataset(f"roses@{first}", store, Quiet())
    absent = next(
        f"{number:03x}" for number in range(4096) if not any(one.startswith(f"{number:03x}") for one in found)
    )
    with pytest.raises(WrongInput, match=f"no digest of roses begins with {absent}; there are roses@"):
        find_dataset(f"roses@{absent}", store, Quiet())
    with pytest.raises(WrongInput, match="there is no data set tulips in .*; there are roses"):
        find_dataset("tulips", store, Quiet())
    with pytest.raises(WrongInput, match="there are none; `ddpm ingest` publishes one"):
        find_dataset("tulips", open_store(f"{store.root}/elsewhere"), Quiet())
    for wrong in ("roses@newest", "roses@", "@latest", "", "two words", "roses@ABCD"):
        with pytest.raises(WrongInput, match="is not written like a data set; give NAME"):
            find_dataset(wrong, store, Quiet())


def test_the_list_shows_each_and_what_cannot_be_read(store):
    uri, digest = publish(store, "roses", 192, at=1_764_000_000)
    store.write(f"datasets/broken/{'0' * 64}.json", b"[]")
    store.write(f"datasets/roses/{digest}.html", b"its page")
    broken, roses = datasets(store)
    assert roses == {
        "dataset": f"roses@{digest[:8]}", "name": "roses", "digest": digest, "uri": uri, "image_size": 8, "n": 1605, "held_out": 192,
        "classes": 2, "ingested": "2025-11-24 16:00", "source": "place 192", "taken": "",
    }  # fmt: skip
    assert broken["n"] is None
    assert "is damaged" in broken["source"]
    heads, *lines = table([broken, roses]).splitlines()
    assert heads.split() == "data set size training held out classes ingested (UTC) source".split()
    assert lines[1].split()[:6] == [f"roses@{digest[:8]}", "8", "px", "1,605", "192", "2"]


def test_digests_that_begin_alike_are_shown_at_greater_length(store):
    for digest in ("0" * 64, "0" * 10 + "1" * 54):
        store.write(f"datasets/roses/{digest}.json", b"[]")
    assert {row["dataset"] for row in datasets(store)} == {"roses@00000000000", "roses@00000000001"}


def test_ingested_again_it_is_the_latest_again(store):
    chosen = {"source": "digits", "dataset_name": "digits", "max_pictures": 20}
    sizes = [ingest(IngestSettings(image_size=size, **chosen), store, Quiet(), workers=1)["uri"] for size in (8, 4)]
    for age, uri in enumerate(sizes):
        os.utime(uri, (1_000 - age, 1_000 - age))
    assert find_dataset("digits", store, Quiet()) == sizes[0]
    ingest(IngestSettings(image_size=4, **chosen), store, Quiet(), workers=1)
    assert find_dataset("digits", store, Quiet()) == sizes[1]


def test_a_run_takes_one_by_name_and_a_source_goes_first(store, tmp_path):
    uri, digest = publish(store, "digits", 1, at=1)
    places = {"store": str(tmp_path), "tracking_uri": "sqlite:///x", "study_storage": "j"}
    for data in ("digits@latest", f"digits@{digest[:4]}"):
        plan, _ = gather("digits", data, "r", {"judge_other": "digits"}, places)
        assert (plan.ingest.source, plan.ingest.dataset_name, plan.judge.judge_other) == (uri, "digits", uri)
    assert gather("digits", "digits", "r", {}, places)[0].ingest.source == "digits"
    assert source_or_dataset("dalle-dogs@main", store, Quiet()) == "dalle-dogs@main"
    publish(store, "roses", 1, at=1)
    assert gather("digits", "roses", "r", {}, places)[0].ingest.dataset_name == "roses"
    with pytest.raises(WrongInput, match="there is no data set tulips"):
        gather("digits", "tulips@latest", "r", {}, places)
    with pytest.raises(WrongInput, match="source: there is none named 'tulips'; there are digits, .* or a data set"):
        gather("digits", "tulips", "r", {}, places)


@pytest.mark.parametrize(
    "data",
    [
        b'{"format_version": 1}',
        b"[" * 100_000,
        b'{"format_version": 1, "name": "roses", "image_size": 8, "classes": [], "source": {}, "n": 1, "held_out": 0, "shards": {}}',
        b'{"format_version": 1, "name": "roses", "image_size": "8", "classes": [], "source": {}, "n": 1, "held_out": 0, "shards": {"train": [], "held_out": []}}',
    ],
)
def test_what_has_a_manifests_name_and_is_none_is_said_by_name(store, data):
    """Its digest is right: whoever wrote it meant it so."""
    key = f"datasets/roses/{hashlib.sha256(data).hexdigest()}.json"
    store.write(key, data)
    (listed,) = datasets(store)
    assert f"{store.uri(key)} is damaged" in listed["source"]
    for act in (lambda: open_dataset(store.uri(key)), lambda: verify(store.uri(key), Quiet())):
        with pytest.raises(Damaged, match=r"is damaged: .*; remove it, or name one that"):
            act()
    with pytest.raises(Refused, match="nothing is collected while a manifest cannot be read"):
        collect_garbage(store, Quiet())
