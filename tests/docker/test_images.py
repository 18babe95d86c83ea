"""The images: what docker/Containerfile and the Makefile promise, and, where there is an engine, that it is so."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions

import pytest
from compose_file import ROOT, services, variables
from containerfile import TEXT, stages

TAG = "tests"  # as .ci/engine builds them
IMAGES = ("task", "serve", "mlflow", "tools")
TITLES = ("title", "description", "licenses", "vendor", "version", "revision", "base.name")


def pins(lock):
    """A lock's packages: name, version and the number of hashes."""
    found = re.findall(
        r"^([a-z0-9-]+)==(\S+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]{64}[^\n]*)*)", (ROOT / lock).read_text(), re.M
    )
    return {name: (version, hashes.count("--hash")) for name, version, hashes in found}


def test_the_base_is_named_once_and_pinned():
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.M)) <= {"${BASE}", *stages()}
    (default,) = re.findall(r"^ARG BASE=(\S+)", TEXT, re.M)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", default)


def test_without_a_stage_it_is_the_tasks():
    """A cluster's administrator who builds it by hand gets what the pipeline needs."""
    assert [*stages()][-1] == "task"


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_is_an_ordinary_users_and_says_what_it_is(name):
    lines = stages()[name]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    labels = " ".join(line for line in lines if line.startswith("LABEL"))
    assert all(f"org.opencontainers.image.{title}=" in labels for title in TITLES)
    assert f'title="ddpm-{name}"' in labels
    assert bool([line for line in lines if line.startswith("HEALTHCHECK")]) == (name in ("serve", "mlflow"))
    assert not [line for line in lines if line.startswith("ENTRYPOINT")], "a cluster replaces it, Docker does not"


def test_mlflows_environment_is_a_part_of_the_pipelines_with_its_hashes_and_without_torch():
    ours, theirs = pins("requirements-mlflow.lock"), pins("requirements.lock")
    assert {"mlflow", "psycopg", "psycopg-binary", "boto3", "flask-wtf", "alembic"} <= set(ours)
    assert not [name for name in ours if name.startswith(("torch", "nvidia", "triton", "kfp", "optuna"))]
    assert {name: version for name, (version, _) in ours.items() if name in theirs and theirs[name][0] != version} == {}
    assert all(hashes for _, hashes in ours.values())
    assert set(ours) - set(theirs) <= {"flask-wtf", "wtforms"}, "accounts need no more"


def test_the_tools_import_nothing_that_their_image_has_not():
    """With everything hidden that is in this environment and not in theirs."""
    there = {*pins("requirements-mlflow.lock"), "ddpm", "setuptools", "pip"}
    hidden = sorted(
        name
        for name, makers in packages_distributions().items()
        if not {m.lower().replace("_", "-") for m in makers} & there
    )
    assert {"torch", "optuna", "kfp", "scipy", "rich"} & {*hidden} >= {"torch", "optuna", "kfp"}
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, "docker")
import provision, backup, psycopg
from ddpm.failure import keep_traceback
from ddpm.store import S3Store
S3Store("s3://bucket").bucket.client
print(sorted({{name.partition(".")[0] for name in sys.modules}} & set({hidden!r})))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "[]\n"


RECORDER = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in *"--target ${FAILS:-none} "*) exit 1 ;; esac
"""


def make(tmp_path, *words, program="docker", **environment):
    """What a `make` calls, with a program that writes down how it is called in the engine's place."""
    (tmp_path / program).write_text(RECORDER)
    (tmp_path / program).chmod(0o755)
    calls = tmp_path / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["make", "--no-print-directory", *words, f"DOCKER={tmp_path}/{program}"], cwd=ROOT, env={**os.environ, "CALLS": str(calls), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, calls.read_text().splitlines()


def test_all_images_are_built_and_then_pushed(tmp_path):
    done, calls = make(tmp_path, "images", "TAG=3", "PUSH=reg.example/team", "BASE=python@sha256:abc")
    assert done.returncode == 0, done.stderr
    named = [f"reg.example/team/ddpm-{name}:3" for name in IMAGES]
    assert done.stdout.split() == named
    for call, name, image in zip(calls, IMAGES, named, strict=False):
        assert (
            f"--target {name} " in call and f"--tag {image} " in call and "--build-arg BASE=python@sha256:abc " in call
        )
        assert "--format" not in call
        # A stage that has no use for its name would have the builder warn of it.
        assert (f"--build-arg IMAGE={image} " in call) == ("DDPM_IMAGE=${IMAGE}" in " ".join(stages()[name]))
    assert [name for name in IMAGES if "DDPM_IMAGE" in " ".join(stages()[name])] == ["task", "serve"]
    assert calls[len(IMAGES) :] == [f"push {image}" for image in named]


def test_without_a_registry_nothing_is_pushed_and_what_fails_ends_it(tmp_path):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done, calls = make(tmp_path, "images", program="buildah")
    assert done.returncode == 0 and len(calls) == len(IMAGES)
    assert done.stdout.split() == [f"ddpm-{name}:{version}" for name in IMAGES]
    assert all(f"--build-arg VERSION={version} " in call for call in calls)
    assert all("--format docker" in call for call in calls), "the OCI format has no HEALTHCHECK"
    done, calls = make(tmp_path, "images", "PUSH=reg.example", FAILS="serve")
    assert done.returncode != 0 and len(calls) == 2


def test_the_tasks_image_has_the_name_that_the_pipeline_knows(tmp_path):
    (image,) = set(re.findall(r"^ +image: (\S+)$", (ROOT / "pipelines" / "ddpm.yaml").read_text(), re.M))
    done, (call,) = make(tmp_path, "image")
    assert done.returncode == 0 and "--target task " in call and f"--tag {image} " in call


def test_a_bill_of_materials_holds_every_package_with_its_hashes(tmp_path):
    """What `make sbom` runs, on the beginning of a lock."""
    lock, out, wanted = (
        tmp_path / "some.lock",
        tmp_path / "bom.json",
        {*[*pins("requirements-mlflow.lock")][:6], "pywin32"},
    )
    parts = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / "requirements-mlflow.lock").read_text(), flags=re.M)
    lock.write_text("".join(part for part in parts if part.partition("==")[0] in wanted))
    recipe = re.search(
        r"cyclonedx-py requirements (.*?) --output-file", re.sub(r"\\\n\s*", " ", (ROOT / "Makefile").read_text())
    )
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", *recipe[1].split(), "--output-file", out, lock]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    bom = json.loads(out.read_text())
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", "ddpm")
    listed = {component["name"]: component for component in bom["components"]}
    assert set(listed) == wanted
    for name in wanted:
        version, hashes = pins("requirements-mlflow.lock")[name]
        assert listed[name]["version"] == version and listed[name]["purl"].startswith(f"pkg:pypi/{name}@{version}")
        assert len(json.dumps(listed[name]).split('"alg": "SHA-256"')) - 1 == hashes


@pytest.fixture(scope="module")
def engine():
    """A client of an engine that has the images. Without one the tests are skipped, but never in CI."""
    import docker

    try:
        client = docker.from_env()
        for name in IMAGES:
            client.images.get(f"ddpm-{name}:{TAG}")
    except (docker.errors.DockerException, docker.errors.ImageNotFound) as problem:
        if os.environ.get("CI"):
            raise
        pytest.skip(
            f"no Docker engine with the images ({type(problem).__name__}); start one and `make images TAG={TAG}`"
        )
    yield client
    client.close()


def said(engine, name, *command, **options):
    """What a command says in the image, as compose.yaml guards it."""
    guarded = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    return engine.containers.run(
        f"ddpm-{name}:{TAG}", [*command], remove=True, network_mode="host", **guarded, **options
    ).decode()


@pytest.mark.docker
def test_only_what_needs_torch_has_it(engine):
    look = "import importlib.util as u; print([n for n in ('torch', 'kfp', 'mlflow', 'psycopg', 'flask_wtf') if u.find_spec(n)])"
    for name in ("mlflow", "tools"):
        assert said(engine, name, "python", "-c", look) == "['mlflow', 'psycopg', 'flask_wtf']\n"
    assert said(engine, "serve", "python", "-c", look) == "['torch', 'kfp', 'mlflow', 'psycopg']\n"


@pytest.mark.docker
def test_the_tools_have_a_client_of_the_servers_release(engine):
    given = {name: "x" for name, kind, _ in variables() if kind == "?"}
    (major,) = re.findall(r"^postgres:(\d+)\.", services(given)["postgres"]["image"])
    assert f"(PostgreSQL) {major}." in said(engine, "tools", "pg_dump", "--version")
    assert "restore" in said(engine, "tools", "python", "docker/backup.py", "--help")
    assert "accounts" in said(engine, "tools", "python", "docker/provision.py", "--help")


@pytest.mark.docker
def test_mlflow_serves_from_a_root_file_system_that_is_read_only_and_is_found_healthy(engine):
    command = "mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:////tmp/mlflow.db --app-name basic-auth"
    container = engine.containers.run(
        f"ddpm-mlflow:{TAG}", command.split(), detach=True, network_mode="host", read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"],
        working_dir="/tmp", environment={"MLFLOW_FLASK_SERVER_SECRET_KEY": "k", "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while container.attrs["State"].get("Health", {}).get("Status") != "healthy":
            container.reload()
            assert container.status in ("created", "running") and time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.5)
    finally:
        container.remove(force=True)


@pytest.mark.docker
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_what_it_is(engine, name):
    config = engine.images.get(f"ddpm-{name}:{TAG}").attrs["Config"]
    assert config["User"] == "10001:10001" and not config.get("Entrypoint")
    assert config["Labels"]["org.opencontainers.image.title"] == f"ddpm-{name}"
    assert "unknown" not in (config["Labels"][f"org.opencontainers.image.{of}"] for of in ("version", "revision"))
    assert bool(config.get("Healthcheck")) == (name in ("serve", "mlflow"))
