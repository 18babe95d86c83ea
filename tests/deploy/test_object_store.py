"""SeaweedFS itself, by the manifest's own arguments and identities: does it keep the promises that our store lives by?"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from test_conformance import (  # noqa: F401 (the suite of every store, over this one)
    test_a_large_object_goes_and_comes_in_parts,
    test_ages_are_by_the_stores_clock_and_renewal_makes_young,
    test_an_empty_object_is_an_object,
    test_create_never_overwrites,
    test_keys_are_taken_as_they_are,
    test_keys_stay_below_the_root,
    test_list_is_sorted_and_stays_in_its_folder,
    test_local_gives_a_file_and_refuses_flipped_bytes,
    test_threads_may_share_a_store,
    test_what_is_being_written_is_no_object_and_can_be_found,
    test_what_is_not_there_is_missing_by_its_uri,
    test_what_is_written_is_read,
)

from ddpm.errors import WrongInput
from ddpm.store import Missing, S3Store
from ddpm.store.transfer import Wire

QUICK = Wire(tries=5, first_wait=0.01, longest_wait=0.05, part_bytes=5 * 2**20, patience=0)


@pytest.fixture
def opened(seaweed, monkeypatch, tmp_path):
    """A bucket, opened as one of the identities, below a prefix of the test's own."""

    def as_who(identity, bucket="ddpm"):
        keys = seaweed.keys.get(identity, {"accessKey": "stranger", "secretKey": "of-nobody-at-all"})
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["accessKey"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secretKey"])
        return S3Store(f"s3://{bucket}/{tmp_path.name}", QUICK)

    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    return as_who


@pytest.fixture
def store(opened):
    """As the tasks of runs have it."""
    return opened("writer")


def test_it_keeps_to_conditions(store):
    assert store.probe() == ""


def test_of_racing_writers_one_wins(store):
    """The promotion log and the claims on trials live by it."""

    def write(number):
        return [store.create(f"entry-{entry}", b"%d" % number) for entry in range(10)]

    with ThreadPoolExecutor(8) as writers:
        won = list(writers.map(write, range(8)))
    assert [sum(column) for column in zip(*won, strict=True)] == [1] * 10
    for entry, column in enumerate(zip(*won, strict=True)):
        assert store.read(f"entry-{entry}") == b"%d" % column.index(True)


def test_who_reads_does_not_write(opened):
    opened("writer").write("a", b"x")
    reader = opened("reader")
    assert reader.read("a") == b"x"
    assert list(reader.list("")) == ["a"]
    for act in (lambda: reader.write("a", b"y"), lambda: reader.write("b", b"y"), lambda: reader.delete("a")):
        with pytest.raises(WrongInput, match="AccessDenied|permission"):
            act()
    assert opened("writer").read("a") == b"x"


@pytest.mark.parametrize(
    ("identity", "bucket"), [("writer", "mlflow"), ("mlflow", "ddpm"), ("reader", "mlflow"), ("nobody", "ddpm")]
)
def test_nobody_reaches_another_s_bucket(opened, identity, bucket):
    store = opened(identity, bucket)
    for act in (lambda: store.write("a", b"x"), lambda: store.read("a")):
        with pytest.raises(WrongInput) as refused:
            act()
        assert not isinstance(refused.value, Missing)


def test_no_bucket_is_made_by_writing_to_it(opened):
    with pytest.raises(WrongInput):
        opened("writer", "another").write("a", b"x")


def test_buckets_are_made_once(seaweed, store):
    store.write("a", b"x")
    seaweed.make_buckets()
    assert store.read("a") == b"x"
