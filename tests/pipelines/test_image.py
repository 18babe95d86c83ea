"""The steps in the image as a cluster runs them: as its own user, on a root file system that is read-only but for /tmp
and the cache, with their data in S3."""

import inspect
import json
import uuid

import pytest
from local_runs import TINY
from test_docker import engine  # noqa: F401 - a fixture

import components
from ddpm.store import open_store
from ddpm.summary import SECOND_STEPS
from pipelines.request import gather, parse_changes

USER = "10001:10001"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
STEPS = {  # its outputs last, in the order of the component's arguments
    "ingest": ("plan", "dataset"),
    "search": ("plan", "dataset", "worker", "trials"),
    "train": ("plan", "dataset", "trials", "checkpoint", "study"),
    "evaluate": ("plan", "dataset", "checkpoint", "report", "page"),
    "register": ("plan", "dataset", "checkpoint", "report", "version"),
    "promote": ("plan", "dataset", "version", "decision"),
}
SECOND = ["transfer_source=digits", "transfer_dataset_name=more", "transfer_epochs=1", "transfer_from=winner"]


def program(step, call):
    """What KFP runs in the container: the component's source, and a call of it."""
    function = getattr(__import__(f"components.{step}", fromlist=[step]), step).python_func
    source = inspect.getsource(function)
    artifact = "class Artifact:\n    def __init__(self, path):\n        self.path = path\n"
    return f"from __future__ import annotations\n{artifact}{source[source.index('def ') :]}\n{step}({call})\n"


@pytest.fixture
def run_step(engine, moto, tmp_path, monkeypatch):  # noqa: F811
    """Runs a step's program in a container of its own; `environment` is what the cluster adds to the image's."""
    shared = tmp_path / "shared"  # a volume for MLflow's database, the study's journal and the artifacts
    shared.mkdir()
    shared.chmod(0o777)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)

    def run(code, **environment):
        container = engine.containers.create(
            components.IMAGE, ["python", "-c", code], user=USER, read_only=True, network_mode="host", shm_size="1g",
            environment={**CREDENTIALS, "AWS_ENDPOINT_URL": moto, "DDPM_PROGRESS": "events", **environment},
            volumes={str(shared): {"bind": "/shared", "mode": "rw"}},
            tmpfs={"/tmp": "mode=1777,exec", "/var/cache/ddpm": f"uid={USER[:5]},gid={USER[:5]},mode=0755"},
        )  # fmt: skip
        try:
            container.start()
            status = container.wait()["StatusCode"]
            said = container.logs().decode()
            assert status == 0, said
            return said
        finally:
            container.remove(force=True)

    def configure():
        name = f"t{uuid.uuid4().hex[:12]}"
        bucket = open_store(f"s3://{name}").bucket
        bucket.client.create_bucket(Bucket=name)
        places = {
            "store": f"s3://{name}/ddpm",
            "tracking_uri": "sqlite:////shared/mlflow/mlflow.db",
            "study_storage": "/shared/optuna/journal.log",
        }
        plan, _ = gather("digits", "", name, parse_changes("", [*TINY, *SECOND]), places)
        return plan

    return run, configure


def call_of(step, second=False):
    """Of a second set, its own artifacts, by the pointer that configure hands its steps; it has no trials."""
    arguments = (
        "worker=0" if name == "worker" and step == "search"
        else f"trials={None if second else []}" if name == "trials" and step == "train"
        else "plan=Artifact('/shared/second.json')" if name == "plan" and second
        else f"{name}=Artifact('/shared/{name}{'-2' * second}.json')"
        for name in STEPS[step]
    )  # fmt: skip
    return ", ".join(arguments)


def configure_call(plan):
    settings = ", ".join(f"{name}={value!r}" for name, value in plan.parameters().items())
    return f"{settings}, run_id='unused', plan=Artifact('/shared/plan.json'), second=Artifact('/shared/second.json'), note=Artifact('/shared/configured.md')"


@pytest.mark.docker
def test_every_step_runs_as_the_images_user_with_its_data_in_s3(run_step):
    run, configure = run_step
    plan = configure()
    run(program("configure", configure_call(plan)))
    for step in STEPS:
        run(program(step, call_of(step)))
    for step in SECOND_STEPS:
        run(program(step, call_of(step, second=True)))
    status = "type('Status', (), {'state': 'SUCCEEDED', 'error_message': ''})()"
    run(
        program(
            "summarise",
            f"run_name={plan.run_name!r}, run_id='unused', store={plan.store!r}, status={status}, note=Artifact('/shared/note.md')",
        )
    )
    summary = json.loads(open_store(plan.store).read(f"runs/{plan.run_name}/summary.json"))
    assert summary["state"] == "SUCCEEDED"
    assert summary["model"]["aliases"] == summary["transfer"]["model"]["aliases"] == ["champion"]
    assert summary["transfer"]["model"]["name"] == "ddpm-more"
    drawn = run(
        "import sys; from ddpm.cli import main; sys.exit(main(['sample', '--model', "
        f"'models:/{summary['model']['name']}@champion', '--n', '2', '--sampling-steps', '4', '--out', '/tmp/drawn', "
        "'--tracking-uri', 'sqlite:////shared/mlflow/mlflow.db', '--json']))"
    )
    assert "/tmp/drawn/0001.png" in drawn


@pytest.mark.docker
def test_where_the_home_cannot_be_written_the_cache_is_a_temporary_folder(run_step):
    """As where HOME is empty, and nobody says where the cache is: Docker then takes the one of the password file."""
    run, configure = run_step
    plan = configure()
    nowhere = {"HOME": "", "DDPM_CACHE": ""}
    run(program("configure", configure_call(plan)), **nowhere)
    run(program("ingest", call_of("ingest")), **nowhere)
    found = run(
        "import os; from ddpm.places import cache_folder; from ddpm.data.dataset import open_dataset; import json\n"
        "data = open_dataset(json.load(open('/shared/dataset.json'))['uri'])\n"
        "print(len(data.train.images), cache_folder(), len(os.listdir(cache_folder())))",
        **nowhere,
    )
    n, folder, blobs = found.split()
    assert (int(n), folder) == (1605, "/tmp/ddpm-cache-10001") and int(blobs) > 0
