"""Pictures to a data set: exactly once, the same everywhere, and nothing half-published."""

import errno
import gzip
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.data.catalogue import datasets, table
from ddpm.data.dataset import open_dataset
from ddpm.data.datasheet import render
from ddpm.data.ingest import ingest
from ddpm.data.manifest import read_manifest
from ddpm.data.verify import verify
from ddpm.data.workers import Workers
from ddpm.errors import Outage, WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import Missing, open_store


def photographs(folder, classes=("a", "b"), each=20, seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number:03d}.png")
    return folder


def publish(source, store, **settings):
    chosen = IngestSettings(source=str(source), **{"dataset_name": "set", "image_size": 8, **settings})
    return ingest(chosen, open_store(str(store)), Quiet(), workers=2)


def test_class_folders_become_a_data_set(tmp_path):
    facts = publish(photographs(tmp_path / "in"), tmp_path / "store", held_out=0.25)
    data = open_dataset(facts["uri"])
    assert (data.name, data.classes, data.image_size, data.digest) == ("set", ["a", "b"], 8, facts["digest"])
    assert len(data.train) == facts["n"]
    assert len(data.held_out) == facts["held_out"] > 0
    assert facts["n"] + facts["held_out"] == 40
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape[1:] == (3, 8, 8)
    assert torch.cat([data.train.labels, data.held_out.labels]).bincount().tolist() == [20, 20]
    assert verify(facts["uri"]) == {"ok": True, "bad": []}


def test_the_same_pictures_give_the_same_digest_elsewhere_and_are_recognised_here(tmp_path):
    one = publish(photographs(tmp_path / "in"), tmp_path / "one")
    other = publish(photographs(tmp_path / "elsewhere" / "copy"), tmp_path / "two")
    assert one["digest"] == other["digest"]
    again = publish(tmp_path / "in", tmp_path / "one")
    assert again["reused"]
    assert not one["reused"]
    assert {**again, "reused": False} == one


def test_a_changed_picture_gives_another_digest(tmp_path):
    before = publish(photographs(tmp_path / "in"), tmp_path / "store")
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "a" / "000.png")
    after = publish(tmp_path / "in", tmp_path / "store")
    assert after["digest"] != before["digest"]
    assert open_dataset(before["uri"]).digest == before["digest"], "the old one stays"


def test_the_held_out_split_is_stable_as_the_set_grows(tmp_path):
    before = open_dataset(publish(photographs(tmp_path / "in"), tmp_path / "store", held_out=0.3)["uri"])
    photographs(tmp_path / "in", classes=("c",), seed=1)
    after = open_dataset(publish(tmp_path / "in", tmp_path / "store", held_out=0.3)["uri"])
    known = {picture.numpy().tobytes() for picture in after.held_out.images}
    assert all(picture.numpy().tobytes() in known for picture in before.held_out.images)


def test_flat_folders_have_no_classes(tmp_path):
    photographs(tmp_path, classes=(".",))
    facts = publish(tmp_path, tmp_path / "store")
    assert facts["classes"] == 0
    assert open_dataset(facts["uri"]).train.labels.unique().tolist() == [-1]


def test_bad_files_are_quarantined_by_name_and_duplicates_reported(tmp_path):
    photographs(tmp_path / "in", each=40)
    (tmp_path / "in" / "a" / "broken.jpg").write_bytes(b"not a picture at all")
    (tmp_path / "in" / "b" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "b" / "notes.txt").write_text("nothing to see")
    twin = (tmp_path / "in" / "a" / "000.png").read_bytes()
    (tmp_path / "in" / "b" / "twin.png").write_bytes(twin)
    facts = publish(tmp_path / "in", tmp_path / "store")
    assert facts["quarantined"] == [
        {"name": "a/broken.jpg", "reason": "not a picture"}, {"name": "b/empty.png", "reason": "empty file"},
    ]  # fmt: skip
    assert facts["duplicates"] == [["a/000.png", "b/twin.png"]]
    assert facts["n"] + facts["held_out"] == 81


@pytest.mark.parametrize("bad", [1, 3, 5])
def test_of_bad_files_as_many_are_named_as_the_line_says(tmp_path, bad):
    for number in range(bad):
        (tmp_path / "in" / f"bad{number}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"bad{number}.jpg").write_bytes(b"?")
    with pytest.raises(WrongInput, match=rf"source: {bad} of {bad} pictures cannot be used") as problem:
        publish(tmp_path / "in", tmp_path / "store")
    said = str(problem.value)
    assert said.count(".jpg (") == min(bad, 3) and "…" not in said
    assert (") and 2 more; mend or remove them" if bad == 5 else "); mend or remove them") in said


def test_too_many_bad_files_are_refused_and_nothing_is_published(tmp_path):
    photographs(tmp_path / "in")
    for number in range(5):
        (tmp_path / "in" / "a" / f"bad{number}.jpg").write_bytes(b"?")
    with pytest.raises(WrongInput, match=r"5 of 45 pictures cannot be used.*bad0\.jpg"):
        publish(tmp_path / "in", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_max_pictures_takes_some_of_every_class(tmp_path):
    photographs(tmp_path / "in", classes=("a", "b", "c", "d"), each=30)
    facts = publish(tmp_path / "in", tmp_path / "store", max_pictures=40, held_out=0)
    labels = open_dataset(facts["uri"]).train.labels
    assert len(labels) == 40
    assert labels.bincount().min() >= 3


def test_digits_keep_their_native_pixels(tmp_path):
    from sklearn.datasets import load_digits

    facts = publish("digits", tmp_path / "store", held_out=0.1)
    data = open_dataset(facts["uri"])
    assert facts["n"] + facts["held_out"] == 1797
    native = {np.rint(picture * 255 / 16).astype(np.uint8).tobytes() for picture in load_digits().images}
    assert all(picture[0].numpy().tobytes() in native for picture in data.train.images[:50])


def test_a_damaged_data_set_is_found_and_mended_by_ingesting_again(tmp_path):
    facts = publish(photographs(tmp_path / "in"), tmp_path / "store")
    blob = max((tmp_path / "store" / "blobs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    found = verify(facts["uri"])
    assert not found["ok"]
    assert blob.name in found["bad"][0]["object"]
    damaged = open_dataset(facts["uri"])
    with pytest.raises(WrongInput, match="damaged"):
        damaged.train.take(torch.tensor([0]))
    assert publish(tmp_path / "in", tmp_path / "store")["uri"] == facts["uri"]
    assert verify(facts["uri"])["ok"]


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Missing, match="datasets/none/0000"):
        open_dataset(f"{tmp_path}/datasets/none/0000.json")
    with pytest.raises(WrongInput, match="not a data set's URI"):
        open_dataset(str(tmp_path / "folder"))


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    facts = publish(photographs(tmp_path / "in"), tmp_path / "store")
    with open(facts["uri"], "r+") as file:
        manifest = json.load(file)
        manifest["n"] = 1
        file.seek(0)
        file.truncate()
        json.dump(manifest, file)
    with pytest.raises(WrongInput, match="damaged"):
        open_dataset(facts["uri"])


def test_a_changed_picture_remakes_its_own_shards_only(tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.data.shards.SHARD_PICTURES", 10)
    before = open_dataset(publish(photographs(tmp_path / "in"), tmp_path / "store")["uri"]).manifest["shards"]
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "a" / "000.png")
    decoded = []
    packed = Workers.work
    monkeypatch.setattr(Workers, "work", lambda *all: decoded.extend(all[1] if all[2] else []) or packed(*all))
    after = open_dataset(publish(tmp_path / "in", tmp_path / "store")["uri"]).manifest["shards"]
    names = {side: {shard["sha256"] for shard in shards} for side, shards in before.items()}
    new = [shard for side, shards in after.items() for shard in shards if shard["sha256"] not in names[side]]
    assert 1 <= len(new) <= 2 < len(after["train"])
    assert len(decoded) <= 10


def test_duplicates_are_dropped_on_request(tmp_path):
    photographs(tmp_path / "in")
    (tmp_path / "in" / "b" / "twin.png").write_bytes((tmp_path / "in" / "a" / "000.png").read_bytes())
    all_of_them = publish(tmp_path / "in", tmp_path / "store")
    dropped = publish(tmp_path / "in", tmp_path / "store", drop_duplicates=True)
    assert dropped["duplicates"] == all_of_them["duplicates"] == [["a/000.png", "b/twin.png"]]
    assert (dropped["n"] + dropped["held_out"], all_of_them["n"] + all_of_them["held_out"]) == (40, 41)
    data = open_dataset(dropped["uri"])
    assert sum(len(split.images) for split in (data.train, data.held_out)) == 40
    assert torch.cat([data.train.labels, data.held_out.labels]).bincount().tolist() == [20, 20], (
        "the first by name stays"
    )


def test_limits_are_settings(tmp_path):
    photographs(tmp_path / "in", each=5)
    (tmp_path / "in" / "a" / "bad.jpg").write_bytes(b"?")
    with pytest.raises(WrongInput, match="quarantine_limit 0.05"):
        publish(tmp_path / "in", tmp_path / "store")
    assert len(publish(tmp_path / "in", tmp_path / "store", quarantine_limit=0.5)["quarantined"]) == 1
    with pytest.raises(WrongInput, match="11 of 11 .*too small"):
        publish(tmp_path / "in", tmp_path / "store", quarantine_limit=1, min_side=21)


def test_what_is_no_plain_file_is_set_aside(tmp_path):
    photographs(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "a" / "pipe.png")
    (tmp_path / "in" / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    with open(os.fsencode(tmp_path / "in" / "a") + b"/\xff.png", "wb") as file:
        file.write(b"?")
    found = publish(tmp_path / "in", tmp_path / "store", quarantine_limit=0.1)["quarantined"]
    assert {entry["name"]: entry["reason"] for entry in found} == {
        "a/gone.png": "cannot be read: No such file or directory",
        "a/pipe.png": "cannot be read: is no plain file",
        "a/\\xff.png": "not a picture",
    }


def folder_of(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zip_of(path, files):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.with_suffix(".zip")


def tar_of(path, files):
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for name in files:
            archive.add(folder_of(path, files) / name, name)
    return path.with_suffix(".tar")


def tgz_of(path, files):
    plain = tar_of(path, files)
    plain.with_suffix(".tgz").write_bytes(gzip.compress(plain.read_bytes()))
    return plain.with_suffix(".tgz")


def parquet_of(path, files):
    import pyarrow
    import pyarrow.parquet

    cells = pyarrow.array(list(files.values()), pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), path.with_suffix(".parquet"))
    return f"parquet:{path.with_suffix('.parquet')}"


@pytest.mark.parametrize("source_of", [folder_of, zip_of, tar_of, tgz_of, parquet_of])
def test_a_file_that_is_too_large_for_a_picture_is_set_aside_wherever_it_lies(tmp_path, monkeypatch, source_of):
    pictures = photographs(tmp_path / "pictures", each=2)
    files = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in sorted(pictures.rglob("*.png"))}
    limit = max(map(len, files.values()))
    files["b/large.png"] = files["b/000.png"] + bytes(limit)  # readers do not look behind a picture's end
    monkeypatch.setattr("ddpm.data.sources.source.MAX_BYTES", limit)
    facts = publish(source_of(tmp_path / "in", files), tmp_path / "store", quarantine_limit=0.2)
    assert facts["n"] + facts["held_out"] == 4
    assert facts["quarantined"] == [
        {
            "name": "in/000004" if source_of is parquet_of else "b/large.png",
            "reason": f"cannot be read: {len(files['b/large.png']):,} bytes are too many for a picture",
        }
    ]


def test_a_file_that_crashes_its_decoder_is_set_aside_and_the_rest_is_not(tmp_path, monkeypatch):
    photographs(tmp_path / "in")
    bad = (tmp_path / "in" / "a" / "003.png").read_bytes()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"""
import os, signal
from PIL import Image
real = Image.open
def crashing(file, **more):
    if file.getvalue() == {bad!r}:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(file, **more)
Image.open = crashing
""")
    monkeypatch.setenv("PYTHONPATH", str(site))
    facts = publish(tmp_path / "in", tmp_path / "store")
    assert facts["quarantined"] == [{"name": "a/003.png", "reason": "crashes its decoder (SIGSEGV)"}]
    assert facts["n"] + facts["held_out"] == 39


def test_a_file_that_never_ends_is_set_aside(tmp_path, monkeypatch):
    """The kernel's own say that they have no bytes; a decoder that is held up for ever is ended, and not tried for ever."""
    photographs(tmp_path / "in", each=3)
    (tmp_path / "in" / "a" / "log.png").symlink_to("/proc/self/mountinfo")
    stuck = (tmp_path / "in" / "a" / "001.png").read_bytes()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"""
import os
from PIL import Image
real = Image.open
def waiting(file, **more):
    if file.getvalue() == {stuck!r}:
        os.read(os.pipe()[0], 1)
    return real(file, **more)
Image.open = waiting
""")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setattr("ddpm.data.workers.LONGEST", 1.0)
    facts = publish(tmp_path / "in", tmp_path / "store", quarantine_limit=0.5)
    assert facts["quarantined"] == [
        {"name": "a/001.png", "reason": "takes longer than 1 s"}, {"name": "a/log.png", "reason": "empty file"},
    ]  # fmt: skip
    assert facts["n"] + facts["held_out"] == 5


def test_no_room_and_no_place_are_said_in_one_line(tmp_path, monkeypatch):
    photographs(tmp_path / "in")
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="cannot write .*Not a directory"):
        publish(tmp_path / "in", tmp_path / "file" / "store")

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Outage, match="cannot write .*No space left on device; make room there"):
        publish(tmp_path / "in", tmp_path / "store")
    assert not list((tmp_path / "store").rglob(".writing-*"))


def test_sizes_as_they_came_are_counted(tmp_path):
    """Upright, before the crop; what cannot be used is not among them."""
    for number, size in enumerate([(30, 20), (30, 20), (16, 16)]):
        Image.effect_noise(size, 40 + number).save(tmp_path / f"{number}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.effect_noise((30, 20), 90).save(tmp_path / "turned.jpg", exif=exif)
    facts = ingest(
        IngestSettings(source=str(tmp_path), dataset_name="sizes", image_size=8),
        open_store(str(tmp_path / "store")),
        Quiet(),
    )
    _, manifest = read_manifest(facts["uri"])
    assert manifest["original_sizes"] == [[16, 16, 1], [20, 30, 1], [30, 20, 2]]


def test_fewer_pictures_than_there_are_is_said_wherever_their_number_is(tmp_path):
    """And a set of which all were taken has the manifest, and so the digest, that it always had."""
    folder = photographs(tmp_path / "in")
    few = publish(folder, tmp_path / "store", max_pictures=30)
    said = "30 of 40 pictures (max_pictures)"
    assert (few["taken"], few["n"] + few["held_out"]) == (said, 30)
    assert publish(folder, tmp_path / "store", max_pictures=30)["digest"] == few["digest"]
    assert publish(few["uri"], tmp_path / "store")["taken"] == said, "used as it is"
    assert said in table(datasets(open_store(str(tmp_path / "store"))))
    assert said in render(open_dataset(few["uri"])).decode()
    for limit in (0, 40, 50):
        all_of_them = publish(folder, tmp_path / "store", max_pictures=limit)
        assert "taken" not in all_of_them
        assert "available" not in read_manifest(all_of_them["uri"])[1]
