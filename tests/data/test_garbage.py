"""What `ddpm gc` lists and removes, and above all what it does not."""

import hashlib
import json
import os
import time

import pytest

from ddpm.cli import main
from ddpm.data.garbage import collect_garbage
from ddpm.data.ingest import ingest
from ddpm.data.manifest import blob_key, canonical
from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.steps.gc import RULES
from ddpm.store import open_store

DAYS = 3 * 86400


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def blob(store, data):
    sha256 = hashlib.sha256(data).hexdigest()
    store.write(blob_key(sha256), data)
    return sha256


def publish(store, name, *shards):
    manifest = {
        "format_version": 1, "name": name, "image_size": 8, "classes": [], "source": {}, "n": len(shards), "held_out": 0,
        "shards": {"train": [{"sha256": s, "bytes": 1, "n": 1} for s in shards], "held_out": []},
    }  # fmt: skip
    data = canonical(manifest)
    key = f"datasets/{name}/{hashlib.sha256(data).hexdigest()}.json"
    store.write(key, data)
    return key


def age(store, seconds=DAYS, *keys):
    for key in keys or [entry.key for entry in (*store.entries(""), *store.unfinished())]:
        os.utime(store.path(key), (time.time() - seconds,) * 2)


def collect(store, **options):
    facts = collect_garbage(store, Quiet(), rules=RULES, **options)
    return {row["object"].removeprefix(f"{store.root}/") for row in facts["garbage"]}, facts


def test_what_a_root_names_is_never_garbage(store):
    one, two = blob(store, b"one"), blob(store, b"two")
    key = publish(store, "a", one, two)
    named = [
        key.replace(".json", ".html"), "reports/" + "1" * 64 + ".json", "reports/" + "1" * 64 + ".png",
        "reports/" + "1" * 64 + "." + "2" * 16 + ".html", "judge/answers/x.json",
        "runs/r/plan.json", "runs/r/trials/000/last.json", "registry/m/000001.json", "features/f/00000.safetensors",
        "weights/w.pth", f"classifiers/{one}.safetensors", "something/else",
    ]  # fmt: skip
    for name in named:
        store.write(name, b"x")
    store.write("ingested/r/b.json", b"0" * 64 + b"\n" + json.dumps({"shards": {"train": {"sha256": one}}}).encode())
    store.write("ingested/whole.json", json.dumps({"dataset": key}).encode())
    store.write("classifiers/d-v1.json", json.dumps({"sha256": [one]}).encode())
    store.write("runs/r/trials/000/last.json", b'{"checkpoint": "000000000002"}')
    store.write("runs/r/trials/000/best.json", b'{"checkpoint": "000000000001"}')
    for folder in ("000000000001", "000000000002"):
        for part in ("weights.safetensors", "ema.safetensors", "optimizer.safetensors", "checkpoint.json"):
            store.write(f"runs/r/trials/000/{folder}/{part}", b"x")
            store.write(f"elsewhere/{folder}/{part}", b"x")
    age(store)
    before = list(store.list(""))
    assert collect(store, delete=True)[0] == set()
    assert list(store.list("")) == before


def test_what_nothing_names_is_listed_and_on_request_removed(store):
    kept, left = blob(store, b"kept"), blob(store, b"left")
    publish(store, "a", kept)
    garbage = {
        blob_key(left): b"left",
        "ingested/r/b.json": b"0" * 64 + b"\n" + json.dumps({"shards": {"train": {"sha256": left}}}).encode(),
        "ingested/whole.json": json.dumps({"dataset": "datasets/a/gone.json"}).encode(),
        "ingested/cut-off.json": b"{",
        f"datasets/a/{'2' * 64}.html": b"page",
        f"reports/{'3' * 64}.png": b"grid",
        f"reports/{'3' * 64}.{'4' * 16}.html": b"page",
        f"classifiers/{'4' * 64}.safetensors": b"of one who came second",
        "runs/r/trials/000/000000000001/weights.safetensors": b"half a checkpoint",
        "runs/r/trials/000/000000000002/checkpoint.json": b"overtaken",
        "runs/r/trials/000/000000000002/ema-50000.safetensors": b"a further average",
        "runs/r/trials/000/000000000007/ema-300.safetensors": b"half a checkpoint",
        "runs/r/.writing-abc": b"half",
    }
    for key, data in garbage.items():
        store.write(key, data)
    kept_on_purpose = ("000000000003", "000000000004", "000000000005")  # the best, the one before the last, the last
    roots = {f"runs/r/trials/000/{folder}/checkpoint.json": b"{}" for folder in kept_on_purpose}
    roots |= {f"runs/r/trials/000/{folder}/ema-50000.safetensors": b"average" for folder in kept_on_purpose}
    roots["runs/r/trials/000/best.json"] = b'{"checkpoint": "000000000003"}'
    roots["runs/r/trials/000/last.json"] = b'{"checkpoint": "000000000005"}'
    for key, data in roots.items():
        store.write(key, data)
    assert collect(store)[0] == set(), "all is young"
    age(store)
    found, facts = collect(store)
    assert found == set(garbage)
    assert facts["bytes"] == sum(map(len, garbage.values())) and facts["deleted"] == 0
    assert all(71.9 < row["age_hours"] < 72.2 and row["why"] for row in facts["garbage"])
    assert collect(store, delete=True)[1]["deleted"] == len(garbage)
    assert set(store.list("")) == {blob_key(kept), *roots, next(iter(store.list("datasets")))}
    assert not list(store.unfinished())


def test_the_age_is_asked_for(store):
    left = blob(store, b"left")
    publish(store, "a")
    age(store, 2 * 3600)
    assert collect(store)[0] == set()
    assert collect(store, older_than=1)[0] == {blob_key(left)}
    with pytest.raises(WrongInput, match="older_than"):
        collect(store, older_than=-1)


def test_nothing_is_collected_while_a_root_cannot_be_read(store):
    blob(store, b"left")
    key = publish(store, "a")
    store.write(key, b"{}")
    age(store)
    with pytest.raises(Refused, match="manifest cannot be read.*damaged"):
        collect(store, delete=True)
    store.delete(key)
    store.write("runs/r/last.json", b"{")
    store.write("runs/r/000000000001/checkpoint.json", b"{}")
    with pytest.raises(Refused, match=r"last\.json cannot be read"):
        collect(store, delete=True)
    assert len(list(store.list("blobs"))) == 1


def test_a_blob_that_an_ingest_takes_up_meanwhile_is_spared(store, monkeypatch):
    """Between the listing and the deletion an ingest renews one old blob, and publishes a manifest of another."""
    renewed, published, left = (blob(store, data) for data in (b"renewed", b"published", b"left"))
    age(store)
    delete_older = store.delete_older

    def ingesting(key, than):
        store.renew(blob_key(renewed))
        return delete_older(key, than)

    monkeypatch.setattr(store, "delete_older", ingesting)
    listing, lists = store.list, iter([lambda: None, lambda: publish(store, "a", published)])

    def listing_twice(prefix):
        if prefix == "datasets":
            next(lists)()
        return listing(prefix)

    monkeypatch.setattr(store, "list", listing_twice)
    found, facts = collect(store, delete=True)
    assert {blob_key(sha256) for sha256 in (renewed, published, left)} == found and facts["deleted"] == 1
    assert set(listing("blobs")) == {blob_key(renewed), blob_key(published)}


def test_the_command_prints_what_scripts_lean_on(store, capsys):
    left = blob(store, b"left")
    age(store)
    assert main(["gc", "--store", store.root, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["garbage"][0]["object"] == store.uri(blob_key(left))
        and facts["garbage"][0]["bytes"] == facts["bytes"] == 4
    )
    assert facts["deleted"] == 0 and store.exists(blob_key(left))
    assert main(["gc", "--store", store.root, "--delete", "--older-than", "100"]) == 0 and store.exists(blob_key(left))
    assert main(["gc", "--store", store.root, "--delete"]) == 0 and not store.exists(blob_key(left))
    assert main(["gc", "--store", "s3://", "--json"]) == 2


def test_old_shards_that_an_ingest_takes_up_again_are_safe_until_its_manifest_is_there(store):
    settings = IngestSettings(source="digits", image_size=8, max_pictures=100)
    key = ingest(settings, store, Quiet(), workers=1)["uri"].removeprefix(f"{store.root}/")
    before = list(store.list("blobs"))
    store.delete(key)
    age(store)
    assert ingest(settings, store, Quiet(), workers=1)["uri"] == store.uri(key)
    assert all(time.time() - entry.modified < 3600 for entry in store.entries("blobs"))
    store.delete(key)  # as it is just before the manifest is written
    collect(store, delete=True)
    assert list(store.list("blobs")) == before


def test_a_root_behind_a_link_or_that_is_no_manifest_stops_all(store, tmp_path):
    publish(store, "set", blob(store, b"shard"))
    age(store)
    moved = tmp_path / "moved"
    (store.path("datasets/set")).rename(moved)
    store.path("datasets/set").symlink_to(moved)
    with pytest.raises((Refused, WrongInput), match="is a link"):
        collect(store, delete=True)
    store.path("datasets/set").unlink()
    moved.rename(store.path("datasets/set"))
    store.write(f"datasets/set/{hashlib.sha256(b'x').hexdigest()}.json", b"x")
    with pytest.raises(Refused, match="is damaged: it is not JSON"):
        collect(store, delete=True)
