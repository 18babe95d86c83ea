"""A source as it is written: its kind, its name, how it is written from any folder, what of this machine it needs."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from ddpm.data import sources
from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.data.sources.archives import Archive
from ddpm.data.sources.buckets import Bucket
from ddpm.data.sources.folders import Folder
from ddpm.data.sources.named import NAMED, Named
from ddpm.data.sources.parquet import Parquet
from ddpm.data.sources.published import Published
from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings, require_name
from ddpm.store import open_store

DIGEST = "a" * 64
HERE, HOME = Path.cwd(), Path.home()


@pytest.mark.parametrize(
    ("source", "spec", "name", "absolute", "local_paths"),
    [
        ("digits", Named("digits"), "digits", "digits", []),
        ("dalle-dogs@main", Named("dalle-dogs", revision="main"), "dalle-dogs-main", "dalle-dogs@main", []),
        ("flowers102:/d/f", Named("flowers102", Path("/d/f")), "flowers102", "flowers102:/d/f", ["/d/f"]),
        ("celeba:faces", Named("celeba", HERE / "faces"), "celeba", f"celeba:{HERE}/faces", [f"{HERE}/faces"]),
        ("folder:pictures", Folder(HERE / "pictures"), f"{HERE.name}-pictures-", f"{HERE}/pictures", [f"{HERE}/pictures"]),
        ("./my pictures", Folder(HERE / "my pictures"), "my-pictures-", f"{HERE}/my pictures", [f"{HERE}/my pictures"]),
        ("~/roses", Folder(HOME / "roses"), "roses-", f"{HOME}/roses", [f"{HOME}/roses"]),
        ("/holiday:2024", Folder(Path("/holiday:2024")), "holiday-2024-", "/holiday:2024", ["/holiday:2024"]),
        ("tests", Folder(HERE / "tests"), "tests-", f"{HERE}/tests", [f"{HERE}/tests"]),
        ("/", Folder(Path("/")), "pictures-", "/", ["/"]),
        ("archive:/p/dogs.2", Archive(Path("/p/dogs.2")), "dogs-", "archive:/p/dogs.2", ["/p/dogs.2"]),
        ("./dogs.tar.gz", Archive(HERE / "dogs.tar.gz"), "dogs-", f"archive:{HERE}/dogs.tar.gz", [f"{HERE}/dogs.tar.gz"]),
        ("/p/dogs.ZIP", Archive(Path("/p/dogs.ZIP")), "dogs-", "archive:/p/dogs.ZIP", ["/p/dogs.ZIP"]),
        ("parquet:/p/cats/*.parquet", Parquet(Path("/p/cats/*.parquet")), "cats-", "parquet:/p/cats/*.parquet", ["/p/cats"]),
        ("parquet:/p/**/[ab]/*", Parquet(Path("/p/**/[ab]/*")), "p-", "parquet:/p/**/[ab]/*", ["/p"]),
        ("parquet:a.parquet", Parquet(HERE / "a.parquet"), f"{HERE.name}-", f"parquet:{HERE}/a.parquet", [f"{HERE}/a.parquet"]),
        ("s3://b/p/my cats/", Bucket("s3://b/p/my cats/"), "my-cats-", "s3://b/p/my cats/", []),
        ("s3://b", Bucket("s3://b"), "b-", "s3://b", []),
        (f"/s/datasets/roses/{DIGEST}.json", Published(f"/s/datasets/roses/{DIGEST}.json"), "roses", f"/s/datasets/roses/{DIGEST}.json", ["/s"]),
        (f"s/datasets/x/{DIGEST}.json", Published(f"s/datasets/x/{DIGEST}.json"), "x", f"{HERE}/s/datasets/x/{DIGEST}.json", [f"{HERE}/s"]),
        (f"file:///s/datasets/x/{DIGEST}.json", Published(f"file:///s/datasets/x/{DIGEST}.json"), "x", f"file:///s/datasets/x/{DIGEST}.json", ["/s"]),
        (f"s3://b/p/datasets/x/{DIGEST}.json", Published(f"s3://b/p/datasets/x/{DIGEST}.json"), "x", f"s3://b/p/datasets/x/{DIGEST}.json", []),
    ],
)  # fmt: skip
def test_every_written_form(source, spec, name, absolute, local_paths):
    found = sources.parse(source)
    assert found == spec
    assert found.absolute() == absolute
    assert found.name == name or (name.endswith("-") and re.fullmatch(re.escape(name) + "[0-9a-f]{6}", found.name))
    assert [str(path) for path in found.local_paths()] == local_paths
    again = sources.parse(found.absolute())
    assert (again.absolute(), again.local_paths()) == (found.absolute(), found.local_paths())


def test_what_lies_in_different_places_goes_by_different_names():
    places = """/x/cats/train /x/dogs/train /y/cats/train s3://b/roses/train s3://c/roses/train /d/猫 /d/犬 /d/Blüten /d/a-b /d/a/b
        parquet:/hub/birds/data/*.parquet parquet:/hub/cars/data/*.parquet parquet:/hub/cars/data/a*.parquet
        /x/cats.zip /x/cats.tar /x/cats /y/images /images digits dalle-dogs dalle-dogs@main""".split()
    names = {place: sources.parse(place).name for place in places}
    assert len(set(names.values())) == len(places), names
    starts = {place: name.rpartition("-")[0] for place, name in names.items()}
    assert (starts["/x/cats/train"], starts["parquet:/hub/cars/data/*.parquet"]) == ("cats-train", "cars-data")
    assert (starts["/d/猫"], starts["/d/Blüten"], starts["/images"]) == ("pictures", "Bluten", "images")
    for place, name in names.items():
        require_name("model_name", f"ddpm-{name}")
        assert (
            sources.parse(f"{place}/" if "/" in place and "*" not in place and "." not in place else place).name == name
        )
    assert sources.parse("/x/" + "long" * 50).name != sources.parse("/y/" + "long" * 50).name
    require_name("model_name", "ddpm-" + sources.parse("/x/" + "long" * 50).name)


def test_a_name_goes_before_a_folder_and_a_folder_before_an_archives_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "pictures.zip").mkdir()
    assert sources.parse("digits") == Named("digits")
    assert sources.parse("./digits") == Folder(tmp_path / "digits")
    assert sources.parse("pictures.zip") == Folder(tmp_path / "pictures.zip")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("celeba:", "source: 'celeba:' names no folder; write celeba:/path"),
        ("archive:", "source: 'archive:' names no file; write archive:/path"),
        ("parquet:", "source: 'parquet:' names no files; write parquet:/path"),
        ("celeba@2", "source: there is none named 'celeba@2'; there are digits, .* folder:DIR"),
        ("dalle-dogs@", "source: there is none named 'dalle-dogs@'"),
        ("zip:/a/b", "no kind 'zip'; there are folder:DIR, archive:FILE, parquet:GLOB, s3://BUCKET/PREFIX, digits.:DIR., .* and STORE/datasets"),
    ],
)  # fmt: skip
def test_what_is_incomplete_or_unknown_is_said_before_anything_is_looked_at(source, words):
    with pytest.raises(WrongInput, match=words):
        sources.parse(source)


def test_a_published_data_set_is_used_as_it_is(tmp_path):
    facts = ingest(IngestSettings(image_size=8, max_pictures=40), open_store(str(tmp_path)), Quiet(), workers=1)
    spec = sources.parse(facts["uri"])
    spec.check()
    assert spec.published() == open_dataset(facts["uri"]).manifest
    assert sources.parse("digits").published() is None
    again = ingest(IngestSettings(source=facts["uri"], image_size=8), open_store(str(tmp_path / "x")), Quiet())
    assert again == {**facts, "reused": True}
    with pytest.raises(WrongInput, match="is a data set already"):
        spec.open()


@dataclass(frozen=True)
class Stripes(sources.Spec):
    """`stripes:N`: so many pictures of one colour each."""

    count: int

    @classmethod
    def recognise(cls, source):
        kind, _, count = source.partition(":")
        return cls(int(count)) if kind == "stripes" else None

    @classmethod
    def form(cls):
        return "stripes:N"

    def check(self):
        if self.count < 1:
            raise WrongInput(f"source: {self.count} stripes are none; write 1 or more")

    def open(self):
        return sources.Source("stripes", [], [colour(number) for number in range(self.count)], {"licence": "none"})

    def title(self):
        return f"{self.count} stripes"

    def absolute(self):
        return f"stripes:{self.count}"


def colour(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return sources.Picture(f"{number}.png", -1, buffer.getvalue())


@pytest.fixture
def stripes():
    sources.KINDS.append(Stripes)
    yield
    sources.KINDS.remove(Stripes)


def test_a_kind_of_ones_own_is_one_class_and_one_row(tmp_path, stripes):
    from pipelines import containers, request, submit

    places = {"store": str(tmp_path / "store"), "tracking_uri": "sqlite:///x", "study_storage": "j"}
    plan, _ = request.gather("quick", "stripes:20", "r", {}, places)
    assert (plan.ingest.source, plan.ingest.dataset_name) == ("stripes:20", sources.parse("stripes:20").name)
    assert plan.ingest.dataset_name.startswith("20-stripes-")
    submit.check_source_for_cluster(plan.ingest.source)
    assert "ro" not in containers.mounts(plan, tmp_path).values()
    settings = IngestSettings(source="stripes:20", dataset_name="stripes", image_size=8, held_out=0.0)
    facts = ingest(settings, open_store(str(tmp_path / "store")), Quiet(), workers=1)
    assert (facts["n"], facts["quarantined"]) == (20, [])
    assert open_dataset(facts["uri"]).manifest["source"] == {"kind": "stripes", "licence": "none"}
    with pytest.raises(WrongInput, match="0 stripes are none"):
        ingest(IngestSettings(source="stripes:0"), open_store(str(tmp_path / "store")), Quiet())
    with pytest.raises(WrongInput, match="there are stripes:N, folder:DIR"):
        sources.parse("zip:x")


def test_a_named_source_of_ones_own_is_one_function_and_one_row(monkeypatch):
    def roses(path, revision):
        return sources.Source("roses", [], [colour(1)], {"from": str(path)})

    monkeypatch.setitem(NAMED, "roses", roses)
    assert sources.parse("roses").name == "roses"
    assert sources.parse("roses:/r").open().facts == {"from": "/r"}
    with pytest.raises(WrongInput, match=r"roses\[:DIR\]"):
        sources.parse("zip:x")


@pytest.mark.parametrize(
    "source", ["PATH/in", "folder:PATH/in", "archive:PATH/in/a.zip", "parquet:PATH/in/*.parquet", "celeba:PATH/in"]
)
def test_containers_see_what_a_source_needs_and_a_cluster_cannot(tmp_path, source):
    from pipelines import containers, request, submit

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(b"x")
    source = source.replace("PATH", str(tmp_path))
    places = {"store": str(tmp_path / "store"), "tracking_uri": "sqlite:///x", "study_storage": "j"}
    plan, _ = request.gather("quick", source, "r", {}, places)
    read_only = [path for path, mode in containers.mounts(plan, tmp_path / "var").items() if mode == "ro"]
    assert read_only == [str(tmp_path / "in" / "a.zip") if "a.zip" in source else str(tmp_path / "in")]
    with pytest.raises(WrongInput, match="which the cluster's tasks cannot see"):
        submit.check_source_for_cluster(plan.ingest.source)
