"""The same compiled file in containers of a Docker engine."""

import json
import os
import subprocess

import pytest
from local_runs import ROOT, TINY, command, run

from components import IMAGE
from pipelines.containers import LABEL


@pytest.fixture(scope="module")
def engine():
    """A client of an engine that has the image. Without one the tests are skipped, but never in CI."""
    import docker

    try:
        client = docker.from_env()
        client.images.get(IMAGE)
    except (docker.errors.DockerException, docker.errors.ImageNotFound) as problem:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Docker engine with the image {IMAGE} ({type(problem).__name__}); start one and `make image`")
    yield client
    client.close()


@pytest.mark.docker
def test_the_pipeline_runs_in_containers(engine, tmp_path):
    found = run(tmp_path / "var", "--runner", "docker", "--run-name", "boxed", *TINY)
    assert found.returncode == 0, found.stdout + found.stderr
    summary = json.loads((tmp_path / "var" / "last-run.json").read_text())
    assert summary["state"] == "SUCCEEDED"
    assert summary["model"]["aliases"] == ["champion"]
    assert {trial["state"] for trial in summary["trials"]} == {"COMPLETE"}
    owners = {path.stat().st_uid for path in (tmp_path / "var").rglob("*")}
    assert owners == {os.getuid()}, "what the tasks wrote is ours"
    assert engine.containers.list(all=True, filters={"label": f"{LABEL}=boxed"}) == []


@pytest.mark.docker
def test_a_refusal_in_a_container_is_one_line(engine, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.png").write_bytes(b"no picture")
    found = run(tmp_path / "var", "--runner", "docker", "--data", str(pictures), *TINY)
    assert found.returncode == 2, found.stdout + found.stderr
    assert "ingest: source: 3 of 3 pictures cannot be used" in found.stderr


@pytest.mark.docker
def test_the_image_runs_as_an_ordinary_user_and_brings_the_command(engine):
    config = engine.images.get(IMAGE).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert not config.get("Entrypoint"), "a cluster replaces it, Docker does not"
    listed = engine.containers.run(IMAGE, ["ddpm", "--help"], remove=True, network_mode="host", user="12345:12345")
    assert b"ingest" in listed


def test_without_an_engine_it_says_so(tmp_path):
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    found = subprocess.run(
        command(tmp_path / "var", "--runner", "docker"),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.strip() == (
        "RUNNER=docker: no Docker engine answers; start one (DOCKER_HOST says where), or leave RUNNER out"
    )
