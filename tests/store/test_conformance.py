"""One suite for every kind of store: what they promise, they promise alike."""

import hashlib
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddpm.errors import WrongInput
from ddpm.store import Damaged, Missing, open_object, open_store, read_object


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
    for look in (store.read, lambda key: store.local(key, "0" * 64)):
        with pytest.raises(Missing, match="nothing/here"):
            look("nothing/here")
    assert not store.renew("nothing/here")
    assert not store.delete_older("nothing/here", store.now() + 60)
    store.delete("nothing/here")


@pytest.mark.parametrize("key", ["with space", "ä/ü+&=?#%25;.json", "a" * 200])
def test_keys_are_taken_as_they_are(store, key):
    store.write(key, b"x")
    assert list(store.list("")) == [key]
    assert store.read(key) == b"x"
    assert store.renew(key)
    store.delete(key)
    assert not store.exists(key)


def test_an_empty_object_is_an_object(store):
    assert store.create("empty", b"")
    assert store.read("empty") == b"" and store.exists("empty") and not store.create("empty", b"")
    assert store.local("empty", hashlib.sha256(b"").hexdigest()).read_bytes() == b""


def test_an_object_of_more_bytes_than_are_wanted_is_not_read(store):
    store.write("a/b", b"12345")
    assert store.read("a/b", 5) == b"12345"
    with pytest.raises(Damaged, match="a/b is no object: it has 5 bytes, and 4 are the most that are read"):
        store.read("a/b", 4)


def test_a_large_object_goes_and_comes_in_parts(store):
    data = random.Random(0).randbytes(11 * 2**20 + 7)
    digest = hashlib.sha256(data).hexdigest()
    assert store.create("large", data)
    assert not store.create("large", b"other")
    assert store.read("large") == data
    assert store.local("large", digest).read_bytes() == data
    assert [(entry.key, entry.bytes) for entry in store.entries("")] == [("large", len(data))]
    assert not list(store.unfinished())


def test_ages_are_by_the_stores_clock_and_renewal_makes_young(store):
    store.write("x", b"x")
    (entry,) = store.entries("")
    assert abs(entry.modified - store.now()) < 30
    assert not store.delete_older("x", entry.modified - 1)
    time.sleep(2.1)  # S3 counts whole seconds, and some servers cut them off in one answer and not in another
    assert store.renew("x") and store.read("x") == b"x"
    assert not store.delete_older("x", entry.modified + 0.5), "it was renewed since"
    assert store.delete_older("x", store.now() + 60) and not store.exists("x")


def test_what_is_being_written_is_no_object_and_can_be_found(store):
    store.write("a/whole", b"x")
    store.write("a/.writing-by-one-who-was-killed", b"half")
    assert list(store.list("")) == ["a/whole"]
    (left,) = store.unfinished()
    assert (left.key, left.bytes) == ("a/.writing-by-one-who-was-killed", 4)
    store.delete_unfinished(left)
    assert not list(store.unfinished())


def test_a_probe_leaves_nothing_and_says_what_is_done_instead(store, request):
    said = store.probe()
    assert ("does not keep to If-None-Match" in said) == ("rclone" in request.node.name)
    assert not list(store.list("")) and not list(store.unfinished())


def test_threads_may_share_a_store(store):
    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(lambda i: store.create(f"k/{i % 10}", b"the same"), range(40)))
    assert sum(wins) >= 10 and len(list(store.list("k"))) == 10


def test_list_is_sorted_and_stays_in_its_folder(store):
    for key in ("f/2", "f/1", "f/deep/3", "f/deep-er/2", "fine/4", "5"):
        store.write(key, b"x")
    assert list(store.list("f")) == ["f/1", "f/2", "f/deep-er/2", "f/deep/3"]
    assert list(store.list("")) == ["5", "f/1", "f/2", "f/deep-er/2", "f/deep/3", "fine/4"]
    store.delete("f/deep-er/2")
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


def test_keys_stay_below_the_root(store):
    for key in ("../x", "/x", "a/../../x"):
        with pytest.raises(WrongInput, match="not a key"):
            store.write(key, b"")


@pytest.mark.parametrize("uri", ["file://var/store", "gs://bucket/x", "s3://"])
def test_a_root_that_means_nothing_is_refused(uri):
    with pytest.raises(WrongInput):
        open_store(uri)


@pytest.mark.parametrize("store", ["file", "moto"], indirect=True)
def test_of_racing_writers_exactly_one_creates(store):
    code = "import sys; from ddpm.store import open_store; s = open_store(sys.argv[1])\n"
    code += "print(''.join(str(int(s.create(f'k/{i}', sys.argv[2].encode()))) for i in range(25)))"
    racers = [
        subprocess.Popen([sys.executable, "-c", code, store.root, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    wins = [racer.communicate(timeout=300)[0].strip() for racer in racers]
    assert [sum(int(row[i]) for row in wins) for i in range(25)] == [1] * 25
    for i in range(25):
        winner = next(number for number, row in enumerate(wins) if row[i] == "1")
        assert store.read(f"k/{i}") == str(winner).encode()
    assert not list(store.unfinished()), "nothing half-written stays behind"
