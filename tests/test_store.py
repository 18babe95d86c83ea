"""One suite for every kind of store: what they promise, they promise alike."""

import hashlib
import os
import subprocess
import sys

import pytest

from ddpm.errors import WrongInput
from ddpm.store import Missing, open_object, open_store, read_object


@pytest.fixture(scope="module")
def s3_server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "file":
        return open_store(str(tmp_path / "store"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    bucket = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    store = open_store(f"s3://{bucket}/some/prefix")
    store.client.create_bucket(Bucket=bucket)
    return store


def test_what_is_written_is_read(store):
    store.write("a/b.bin", b"\0one")
    store.write("a/b.bin", b"\0two")
    assert store.read("a/b.bin") == b"\0two"
    assert store.exists("a/b.bin")
    assert not store.exists("a")
    assert read_object(store.uri("a/b.bin")) == b"\0two"
    folder, name = open_object(store.uri("a/b.bin"))
    assert (folder.read(name), name) == (b"\0two", "b.bin")


def test_create_never_overwrites(store):
    assert store.create("entry", b"first")
    assert not store.create("entry", b"second")
    assert store.read("entry") == b"first"


def test_files_have_the_rights_that_the_users_files_have(tmp_path):
    before = os.umask(0o027)
    try:
        open_store(str(tmp_path)).write("a/b", b"x")
        open_store(str(tmp_path)).create("a/c", b"x")
    finally:
        os.umask(before)
    assert [(tmp_path / "a" / name).stat().st_mode & 0o777 for name in "bc"] == [0o640, 0o640]


def test_what_is_not_there_is_missing_by_its_uri(store):
    with pytest.raises(Missing, match="nothing/here"):
        store.read("nothing/here")
    store.delete("nothing/here")


def test_list_is_sorted_and_stays_in_its_folder(store):
    for key in ("f/2", "f/1", "f/deep/3", "fine/4", "5"):
        store.write(key, b"x")
    assert list(store.list("f")) == ["f/1", "f/2", "f/deep/3"]
    assert list(store.list("none")) == []
    store.delete("f/1")
    assert list(store.list("f")) == ["f/2", "f/deep/3"]


def test_local_gives_a_file_and_refuses_flipped_bytes(store):
    store.write("blob", b"good")
    digest = hashlib.sha256(b"good").hexdigest()
    assert store.local("blob", digest).read_bytes() == b"good"
    store.write("blob2", b"baad")
    with pytest.raises(WrongInput, match="blob2.*damaged"):
        store.local("blob2", hashlib.sha256(b"other").hexdigest())


def test_keys_stay_below_the_root(tmp_path):
    store = open_store(str(tmp_path))
    for key in ("../x", "/x", "a/../../x"):
        with pytest.raises(WrongInput, match="not a key"):
            store.write(key, b"")


@pytest.mark.parametrize("uri", ["file://var/store", "gs://bucket/x", "s3://"])
def test_a_root_that_means_nothing_is_refused(uri):
    with pytest.raises(WrongInput):
        open_store(uri)


def test_a_place_that_cannot_be_used_is_one_line(store, tmp_path):
    if not store.root.startswith("s3"):
        (tmp_path / "file").write_text("in the way")
        for root in ("/proc/nothing", str(tmp_path / "file")):
            with pytest.raises(WrongInput, match="cannot write"):
                open_store(root).write("x", b"")
        return
    with pytest.raises(WrongInput, match="NoSuchBucket"):
        open_store("s3://no-such-bucket-here/x").read("y")


def test_of_racing_writers_exactly_one_creates(tmp_path):
    code = "import sys; from ddpm.store import open_store; s = open_store(sys.argv[1])\n"
    code += "print(''.join(str(int(s.create(f'k/{i}', sys.argv[2].encode()))) for i in range(40)))"
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    wins = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert [sum(int(row[i]) for row in wins) for i in range(40)] == [1] * 40
    store = open_store(str(tmp_path))
    for i in range(40):
        winner = next(number for number, row in enumerate(wins) if row[i] == "1")
        assert store.read(f"k/{i}") == str(winner).encode()
    assert not list(tmp_path.rglob(".writing-*")), "no temporary file stays behind"
