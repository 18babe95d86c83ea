"""A published set as training sees it: read when asked for, and never a byte that is not the manifest's."""

import builtins

import numpy as np
import pytest
import torch

from ddpm.data.dataset import Split, open_dataset
from ddpm.data.ingest import ingest
from ddpm.data.shards import SIDES
from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm.data.shards.SHARD_PICTURES", 300)
    settings = IngestSettings(source="digits", image_size=8, held_out=0.2)
    return ingest(settings, open_store(str(tmp_path / "store")), Quiet(), workers=1)["uri"]


def test_what_is_taken_is_what_is_there(published):
    lazy, whole = open_dataset(published), open_dataset(published)
    for side in SIDES:
        split, all_of_it = getattr(lazy, side), Split(getattr(whole, side).images, getattr(whole, side).labels)
        assert len(split) == len(all_of_it) and split.nbytes == all_of_it.nbytes
        rows = torch.from_numpy(np.random.default_rng(0).integers(-len(split), len(split), 500))
        for mine, other in zip(split.take(rows), all_of_it.take(rows), strict=True):
            assert mine.dtype == other.dtype and torch.equal(mine, other)
        assert [len(part) for part in split.take(rows[:0])] == [0, 0]
        with pytest.raises(IndexError):
            split.take(torch.tensor([len(split)]))


def test_opening_reads_the_manifest_only_and_taking_what_it_must(published, monkeypatch):
    opened, real = [], builtins.open
    monkeypatch.setattr(
        builtins, "open", lambda name, *rest, **more: opened.append(str(name)) or real(name, *rest, **more)
    )
    data = open_dataset(published)
    assert not [name for name in opened if "blobs" in name]
    data.train.take(torch.tensor([0, 1, 2]))
    assert len({name for name in opened if "blobs" in name}) == 1 < len(data.manifest["shards"]["train"])


def test_no_flipped_byte_is_trained_on(published):
    manifest = open_dataset(published).manifest
    store = published.split("/datasets/")[0]
    sha256 = manifest["shards"]["train"][0]["sha256"]
    path = f"{store}/blobs/sha256/{sha256[:2]}/{sha256}"
    with open(path, "rb") as file:
        whole = file.read()
    for place in (0, 9, len(whole) // 2, len(whole) - 1):
        with open(path, "wb") as file:
            file.write(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(WrongInput, match="damaged"):
            open_dataset(published).train.take(torch.tensor([0]))
