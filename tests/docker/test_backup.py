"""docker/backup.py: what was cut off, what is damaged, and what is kept once."""

import importlib.util
import json
import os
import sys

import pytest
from compose_file import ROOT

from ddpm.errors import Refused, WrongInput
from ddpm.store import FileStore, S3Store

BUCKETS = ("mlflow", "ddpm")


@pytest.fixture
def backup(moto, monkeypatch):
    """The program as a module, over an S3 server and databases that are a dictionary: PostgreSQL itself is in test_team."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DDPM_S3_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "ENDPOINT_URL": moto,
        "ACCESS_KEY_ID": "k",
        "SECRET_ACCESS_KEY": "s",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    spec = importlib.util.spec_from_file_location("backup_under_test", ROOT / "docker" / "backup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("provision", None)
    module.databases = {"mlflow": b"records", "optuna": b"studies"}
    monkeypatch.setattr(module, "_dump", lambda name: module.databases[name])
    monkeypatch.setattr(module, "_tables", lambda name: ["a table"] if module.databases.get(name) else [])
    monkeypatch.setattr(module, "_fill", lambda name, dump: module.databases.update({name: dump}))
    for bucket in BUCKETS:
        client = S3Store(f"s3://{bucket}").bucket.client
        client.create_bucket(Bucket=bucket)
        for key in [*S3Store(f"s3://{bucket}").list("")]:
            client.delete_object(Bucket=bucket, Key=key)
    return module


@pytest.fixture
def filled(backup):
    for bucket in BUCKETS:
        for number in range(3):
            S3Store(f"s3://{bucket}").write(f"deep/{number}", f"{number} of {bucket}".encode())
        S3Store(f"s3://{bucket}").write("same", b"in both")
    return backup


def lose(module):
    module.databases.update(mlflow=b"", optuna=b"")
    for bucket in BUCKETS:
        store = S3Store(f"s3://{bucket}")
        for key in [*store.list("")]:
            store.delete(key)


def objects():
    return {
        f"{bucket}/{key}": S3Store(f"s3://{bucket}").read(key)
        for bucket in BUCKETS
        for key in S3Store(f"s3://{bucket}").list("")
    }


@pytest.fixture
def folder(tmp_path):
    return FileStore(tmp_path / "backups")


@pytest.fixture
def named(filled, monkeypatch):
    """Makes backups whose names are told apart: the clock has seconds."""
    clock = iter(range(2020, 2030))
    monkeypatch.setattr(filled, "_now", lambda: f"{next(clock)}0101T000000Z")
    return filled


def test_equal_bytes_are_kept_once_over_all_backups(named, folder):
    first = named.save(folder)
    blobs = {*folder.list("blobs")}
    assert len(blobs) == 2 + 6 + 1
    S3Store("s3://ddpm").write("new", b"a new one")
    second = named.save(folder)
    assert len({*folder.list("blobs")} - blobs) == 1
    named.forget(folder, second)
    assert {*folder.list("blobs")} == blobs, "what the other one names stays"
    assert named.names(folder) == [first]
    named.verify(folder, first)


def test_a_backup_that_was_cut_off_is_none(named, folder, monkeypatch):
    class Cut(Exception):
        pass

    def cut(*_):
        raise Cut

    monkeypatch.setattr(folder, "create", cut)
    with pytest.raises(Cut):
        named.save(folder)
    assert named.names(folder) == []
    with pytest.raises(WrongInput, match="there is no backup 20200101T000000Z in .*; there are none"):
        named.restore(folder, "20200101T000000Z")


def test_a_damaged_backup_is_refused_before_anything_is_written_and_the_next_one_mends_it(named, folder):
    name = named.save(folder)
    before = objects()
    blob = json.loads(folder.read(f"{name}.json"))["buckets"]["ddpm"]["deep/1"]["sha256"]
    folder.write(f"blobs/{blob}", b"1 of dxpm")
    lose(named)
    with pytest.raises(Refused, match="the bytes of 1 of 10 are damaged or gone, ddpm/deep/1 first"):
        named.restore(folder, name)
    assert objects() == {} and named.databases == {"mlflow": b"", "optuna": b""}
    for place, data in before.items():
        bucket, _, key = place.partition("/")
        S3Store(f"s3://{bucket}").write(key, data)
    named.save(folder)
    named.verify(folder, name)


@pytest.mark.parametrize("cut_at", [0, 3, 8, 9])
def test_a_restore_that_was_cut_off_is_carried_on(named, folder, monkeypatch, cut_at):
    """At whichever write it ends: another backup is refused then, and the same one ends with all of it."""

    class Cut(Exception):
        pass

    name, before = named.save(folder), objects()
    other = named.save(folder)
    lose(named)
    left = [cut_at]
    write, fill = S3Store.write, named._fill

    def counted(then):
        def act(*arguments):
            if left[0] == 0:
                raise Cut
            left[0] -= 1
            return then(*arguments)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(S3Store, "write", counted(write))
        patched.setattr(named, "_fill", counted(fill))
        with pytest.raises(Cut):
            named.restore(folder, name)
    assert objects() != before
    with pytest.raises(Refused, match=f"restoring {name} was begun here and is not done"):
        named.restore(folder, other)
    named.restore(folder, name)
    assert objects() == before
    assert named.databases == {"mlflow": b"records", "optuna": b"studies"}
    with pytest.raises(Refused, match="holds objects"):
        named.restore(folder, name)


def test_a_backup_of_another_release_is_refused(named, folder):
    folder.write("of-later.json", json.dumps({"format_version": 2}).encode())
    with pytest.raises(WrongInput, match="of another release"):
        named.restore(folder, "of-later")
