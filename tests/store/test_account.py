"""S3's place and keys by names of our own: what counts, and that a store is really asked by them."""

import os

import pytest

from ddpm.errors import WrongInput
from ddpm.store import open_store
from ddpm.store.account import KEYS, PLACE, adopt


@pytest.fixture
def bare(monkeypatch):
    """An environment without S3, which is as it was afterwards."""
    for name in (*KEYS, *PLACE):
        monkeypatch.setenv(name.replace("DDPM_S3_", "AWS_"), "")
        monkeypatch.delenv(name.replace("DDPM_S3_", "AWS_"))
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return monkeypatch


def test_a_store_is_reached_by_our_names_alone(bare, moto):
    with pytest.raises(WrongInput, match="no credentials"):
        open_store("s3://account-test/ddpm").exists("x")
    for name, value in zip((*KEYS[:2], *PLACE), ("key", "secret", moto, "us-east-1"), strict=True):
        bare.setenv(name, value)
    store = open_store("s3://account-test/ddpm")
    store.bucket.client.create_bucket(Bucket="account-test")
    store.write("x", b"1")
    assert store.read("x") == b"1"
    assert store.bucket.endpoint == moto


def test_ours_count_where_both_are_said_and_nothing_else_is_touched(bare):
    bare.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    bare.setenv("AWS_SESSION_TOKEN", "of-another-key")
    adopt()
    assert os.environ["AWS_SESSION_TOKEN"] == "of-another-key"
    bare.setenv("AWS_ACCESS_KEY_ID", "theirs")
    bare.setenv("DDPM_S3_ACCESS_KEY_ID", "ours")
    adopt()
    assert os.environ["AWS_ACCESS_KEY_ID"] == "ours"
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert "AWS_SESSION_TOKEN" not in os.environ, "it belongs to the other key"
