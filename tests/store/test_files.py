"""What only a folder does."""

import errno
import os

import pytest

from ddpm.errors import Outage, WrongInput
from ddpm.store import open_store


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WrongInput, match="file is a file; a store is a folder"):
        list(open_store(str(tmp_path / "file")).entries(""))


@pytest.mark.parametrize("root", ["/proc/nothing", "file-in-the-way"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file-in-the-way").write_text("")
    store = open_store(root)
    for work in (store.probe, lambda: store.write("x", b""), lambda: store.create("x", b"")):
        with pytest.raises(WrongInput, match="cannot write.*; ") as said:
            work()
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("number", "kind", "right"),
    [
        (errno.ENOSPC, Outage, "make room"),
        (errno.EIO, Outage, "look at it"),
        (errno.EACCES, WrongInput, "ask for permission"),
    ],
)
def test_what_the_disk_says_is_said_with_what_would_be_right(tmp_path, monkeypatch, number, kind, right):
    store = open_store(str(tmp_path))
    store.write("a/x", b"before")

    def fails(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    for work in (store.write, store.create):
        with pytest.raises(kind, match=right):
            work("a/y", b"data")
    with pytest.raises(kind, match=right):
        store.write("a/x", b"after")
    monkeypatch.undo()
    assert list(store.list("")) == ["a/x"] and store.read("a/x") == b"before"
    assert not list(store.unfinished()), "nothing half-written stays behind"


def test_a_renewal_in_the_midst_of_a_deletion_is_not_lost(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    store.write("blob", b"x")
    os.utime(tmp_path / "blob", (1, 1))
    rename = os.rename

    def renewed_first(source, target):
        assert store.renew("blob")
        rename(source, target)

    monkeypatch.setattr(os, "rename", renewed_first)
    assert not store.delete_older("blob", 1000)
    assert store.read("blob") == b"x" and not list(store.unfinished())
