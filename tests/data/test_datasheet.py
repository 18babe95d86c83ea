"""The page beside a manifest: what it tells, that it is the same everywhere, and that names do it no harm."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.data.datasheet import render
from ddpm.data.ingest import ingest
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.steps.ingest import keep_datasheet
from ddpm.store import open_store, read_object

SHARDS = {"train": [{"sha256": "1" * 64, "bytes": 2_000_000, "n": 256}], "held_out": []}
MANIFEST = {
    "n": 256, "held_out": 64, "held_out_fraction": 0.1, "max_pictures": 0, "preprocessing": "as it was", "shards": SHARDS,
    "source": {"kind": "digits", "licence": "CC BY 4.0", "origin": "here"}, "quarantined": [], "duplicates": [],
}  # fmt: skip


class Looked(HTMLParser):
    """What a browser would load, run and show of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.loads, self.words = [], [], []
        self.feed(page.decode())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def with_manifest(data, **changes):
    return dataclasses.replace(data, manifest={**MANIFEST, **changes})


def sheet_of(page):
    data = re.search(r'src="data:image/\w+;base64,([^"]+)"', page.decode())[1]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def test_the_page_tells_what_the_manifest_does_and_needs_nothing_else(digits):
    sizes = [[640, 480, 3], [480, 640, 2], [100, 100, 1], *([500 + i, 300 + i, 1] for i in range(40))]
    data = with_manifest(
        digits, original_sizes=sizes, quarantined=[{"name": "bad.png", "reason": "damaged: it is cut off"}],
        duplicates=[["a.png", "b.png"]], source={**MANIFEST["source"], "homepage": "https://example.org/x", "revision": "abc"},
    )  # fmt: skip
    page = Looked(render(data))
    for words in (
        digits.digest, "256", "64", "8 × 8", "CC BY 4.0", "abc", "as it was", "10% held out", "bad.png", "a.png = b.png",
        "43 wider than high, 2 higher than wide, 1 square; from 100×100 to 640×480", "2.0 MB", "open_dataset",
    ):  # fmt: skip
        assert words in page.text, words
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert [load for load in page.loads if not load.startswith("data:")] == ["https://example.org/x"]


def test_originals_of_one_size_are_told_of_in_a_sentence(digits):
    page = Looked(render(with_manifest(digits, original_sizes=[[8, 8, 1797]])))
    assert "1,797 square; all of 8×8 pixels" in page.text and "By the shorter side" not in page.text
    assert "training shards 1 file, 2.0 MB held-out shards 0 files, 0.0 kB" in page.text


def test_classes_are_counted_on_both_sides(digits):
    page = render(with_manifest(digits)).decode()
    counts = re.findall(r'title="(\d+) (training|held-out)"', page)
    assert [int(n) for n, side in counts if side == "training"] == torch.bincount(digits.train.labels).tolist()
    assert [int(n) for n, side in counts if side == "held-out"] == torch.bincount(digits.held_out.labels).tolist()


def test_the_sheet_holds_each_class_in_its_row(digits):
    sheet = sheet_of(render(with_manifest(digits)))
    assert sheet.size == (12 * 66 - 2, 10 * 66 - 2)
    for number in range(10):
        first = digits.train.images[(digits.train.labels == number).nonzero()[0, 0]]
        shown = sheet.crop((0, number * 66, 64, number * 66 + 64)).resize((8, 8), Image.Resampling.NEAREST)
        assert torch.equal(torch.from_numpy(np.array(shown)).permute(2, 0, 1), first)


@pytest.mark.parametrize("classes", [0, 13, 300])
def test_any_number_of_classes_has_a_page(digits, classes):
    labels = torch.arange(256) % classes if classes else torch.full((256,), -1)
    split = dataclasses.replace(digits.train, labels=labels)
    data = dataclasses.replace(with_manifest(digits), classes=[f"c{i}" for i in range(classes)], train=split)
    page = render(data)
    assert sheet_of(page).width == 12 * 66 - 2
    assert ("The pictures have no classes" in page.decode()) == (classes == 0)


def test_a_set_without_training_pictures_has_a_page(digits):
    none = dataclasses.replace(digits.train, images=digits.train.images[:0], labels=digits.train.labels[:0])
    assert (
        "There are no training pictures" in Looked(render(dataclasses.replace(with_manifest(digits), train=none))).text
    )


def test_what_an_older_manifest_lacks_is_said_to_be_not_recorded(digits):
    old = {key: value for key, value in MANIFEST.items() if key not in ("source", "preprocessing")}
    page = Looked(
        render(dataclasses.replace(digits, manifest={**old, "source": {"kind": "folder"}, "preprocessing": ""}))
    )
    assert "licence not recorded" in page.text and "preprocessing not recorded" in page.text
    assert "Sizes of the originals not recorded" in page.text


def test_names_do_no_harm(digits):
    evil = "<script>alert(1)</script>\"'{{ 7 * 7 }}"
    data = dataclasses.replace(
        with_manifest(digits, duplicates=[[evil, "b"]], quarantined=[{"name": evil, "reason": evil}],
        source={"kind": evil, "homepage": "javascript:alert(1)"}), name="evil", classes=[evil] * 10,
    )  # fmt: skip
    page = Looked(render(data))
    assert "script" not in page.tags and not any(load.startswith("javascript") for load in page.loads)
    assert page.text.count(evil) >= 13


def test_the_same_data_set_has_the_same_page_wherever_it_is_and_a_lost_one_comes_back(tmp_path):
    settings = IngestSettings(source="digits", image_size=8, max_pictures=200)
    pages = []
    for name in ("here", "there"):
        uri = ingest(settings, open_store(str(tmp_path / name)), Quiet(), workers=1)["uri"]
        pages.append(keep_datasheet(uri, Quiet()))
    assert pages[0].endswith(".html") and pages[0].removesuffix(".html") + ".json" == uri.replace("there", "here")
    whole = read_object(pages[0])
    assert read_object(pages[1]) == whole
    (tmp_path / "here" / pages[0]).unlink()
    assert (
        keep_datasheet(pages[0].removesuffix(".html") + ".json", Quiet()) == pages[0] and read_object(pages[0]) == whole
    )
