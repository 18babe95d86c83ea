"""Pictures that lie in a bucket, over the wire."""

import io

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from ddpm.data.ingest import ingest
from ddpm.data.sources import parse
from ddpm.data.verify import verify
from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings
from ddpm.store import open_store


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    yield client
    server.stop()


def test_pictures_in_a_bucket_become_a_data_set_in_a_bucket(bucket):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/notes.txt"):
        buffer = io.BytesIO()
        Image.new("RGB", (12, 12), (20 * len(name), ord(name[0]), ord(name[2]))).save(buffer, "PNG")
        bucket.put_object(Bucket="pictures", Key=f"raw/{name}", Body=buffer.getvalue())
    settings = IngestSettings(source="s3://pictures/raw", dataset_name="set", image_size=8)
    facts = ingest(settings, open_store("s3://pictures/ddpm"), Quiet(), workers=1)
    assert (facts["n"] + facts["held_out"], facts["classes"], facts["quarantined"]) == (3, 2, [])
    assert verify(facts["uri"])["ok"]
    assert ingest(settings, open_store("s3://pictures/ddpm"), Quiet(), workers=1)["reused"]


def test_an_object_that_is_too_large_for_a_picture_is_set_aside(bucket, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12)).save(buffer, "PNG")
    size = len(buffer.getvalue())
    bucket.put_object(Bucket="pictures", Key="large/a.png", Body=buffer.getvalue())
    bucket.put_object(Bucket="pictures", Key="large/large.png", Body=buffer.getvalue() + b"1")
    monkeypatch.setattr("ddpm.data.sources.source.MAX_BYTES", size)
    settings = IngestSettings(source="s3://pictures/large", dataset_name="set", image_size=8, quarantine_limit=0.5)
    facts = ingest(settings, open_store("s3://pictures/ddpm"), Quiet(), workers=1)
    reason = f"cannot be read: {size + 1} bytes are too many for a picture"
    assert facts["quarantined"] == [{"name": "large.png", "reason": reason}]


def test_a_bucket_that_is_not_there_or_holds_no_pictures_is_said_in_one_line(bucket):
    with pytest.raises(WrongInput, match="NoSuchBucket: there is no such bucket; create it"):
        parse("s3://nowhere/raw").check()
    with pytest.raises(WrongInput, match="s3://pictures/none holds no pictures"):
        parse("s3://pictures/none").check()


def test_keys_of_other_programs_are_read_and_an_archived_object_is_set_aside(bucket):
    """Keys that begin with a slash or hold two in a row, as putting texts together makes them, and a dot for a folder."""
    keys = ["a/0.png", "/a/0.png", "a//0.png", "./a/1.png", "b/0.png", "a/b/../0.png"]
    for number, key in enumerate([*keys, "b/cold.png"]):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
        kind = {"StorageClass": "GLACIER"} if "cold" in key else {}
        bucket.put_object(Bucket="pictures", Key=f"odd/{key}", Body=buffer.getvalue(), **kind)
    found = parse("s3://pictures/odd").open()
    assert found.classes == ["a", "b"]
    assert sorted(picture.name for picture in found.pictures if picture.label == 0) == sorted({*keys} - {"b/0.png"})
    settings = IngestSettings(source="s3://pictures/odd", dataset_name="set", image_size=8, quarantine_limit=0.5)
    facts = ingest(settings, open_store("s3://pictures/ddpm"), Quiet(), workers=1)
    assert facts["n"] + facts["held_out"] == len(keys)
    assert facts["quarantined"] == [
        {"name": "b/cold.png", "reason": "cannot be read: archived in the bucket; restore it first"}
    ]
