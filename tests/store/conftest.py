"""Servers that speak S3, one of each a session: rclone's, with real signatures, and moto's, which keeps to conditions."""

import contextlib
import functools
import hashlib
import os

import pytest
from fault_proxy import FaultProxy
from rclone_server import serving

from ddpm.store import S3Store, open_store
from ddpm.store.transfer import Wire

KEY, SECRET = "an-access-key", "a-very-secret-key"
QUICK = Wire(
    tries=5, first_wait=0.01, longest_wait=0.05, part_bytes=5 * 2**20, patience=0
)  # to try again, not to give up


@pytest.fixture(scope="session")
def rclone(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("rclone"), f"{KEY},{SECRET}") as address:
        yield address


@pytest.fixture(scope="session")
def proxies():
    """A proxy before each server, for as long as the session: a client a port is costly to make."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda server: stack.enter_context(FaultProxy(server)))


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bucket(request, credentials, monkeypatch):
    """Opens a bucket of the test's own at an endpoint, and gives its store."""

    def opened(endpoint, through=None):
        name = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        S3Store(f"s3://{name}", QUICK).bucket.client.create_bucket(Bucket=name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", through or endpoint)
        return S3Store(f"s3://{name}/some/prefix", QUICK)

    return opened


@pytest.fixture(params=["file", "rclone", "moto"])
def store(request, tmp_path):
    """Every kind of store there is."""
    if request.param == "file":
        return open_store(str(tmp_path / "store"))
    return request.getfixturevalue("bucket")(request.getfixturevalue(request.param))
