"""A team's servers, with the commands and environment of docker/compose.yaml: set up, asked, backed up, lost, restored."""

import base64
import contextlib
import hashlib
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

TOKEN = "a-token-of-a-test"
ANN = ("ann", "the-password-of-ann")


def ask(address, user=None, **headers):
    """The status of an answer, and its body."""
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read()


@pytest.fixture(scope="module")
def ready(team):
    """Databases, buckets and MLflow's tables are there, and MLflow runs with its accounts."""
    for name in ("provision", "migrate"):
        done = team.run(name)
        assert done.returncode == 0, done.stdout + done.stderr
    with team.serving("mlflow", f"{team.mlflow}/health"):
        done = team.run("accounts")
        assert done.returncode == 0, done.stderr
        yield team


@pytest.fixture
def as_user(ready, monkeypatch):
    """Makes this process one that has exported what docs/team.md says, as a user of MLflow's; a client of it."""
    from ddpm.tracking import open_client

    def become(user, password):
        for name in [name for name in os.environ if name.startswith(("AWS_", "DDPM_S3_", "MLFLOW_"))]:
            monkeypatch.delenv(name)
        told = {
            "MLFLOW_TRACKING_URI": ready.mlflow, "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "AWS_EC2_METADATA_DISABLED": "true", "DDPM_PATIENCE": "0",
            "DDPM_S3_ENDPOINT_URL": ready.objects, "DDPM_S3_DEFAULT_REGION": "us-east-1", "DDPM_S3_ACCESS_KEY_ID": "team",
            "DDPM_S3_SECRET_ACCESS_KEY": ready.secrets["OBJECTS_TEAM_SECRET"], "DDPM_STORE": "s3://ddpm/main",
            "DDPM_CACHE": str(ready.folder / "cache"),
        }  # fmt: skip
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL", "DEFAULT_REGION"):
            monkeypatch.setenv(f"AWS_{name}", told[f"DDPM_S3_{name}"])  # as `adopt` would, and taken back at the end
        return open_client(ready.mlflow)

    return become


@pytest.fixture
def ann(ready, as_user):
    """A member of the team, whom the administrator has given an account; her client."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth.client import AuthServiceClient

    as_user("admin", ready.secrets["MLFLOW_ADMIN_PASSWORD"])
    with contextlib.suppress(MlflowException):  # she has one: an earlier test was first
        AuthServiceClient(ready.mlflow).create_user(*ANN)
    return as_user(*ANN)


def test_setting_up_may_be_repeated_and_lets_nobody_into_anothers_database(ready):
    again = ready.run("provision")
    assert again.returncode == 0, again.stderr
    assert "database mlflow: ready\n" in again.stderr and "bucket ddpm: ready" in again.stderr
    assert "does not keep to If-None-Match" in again.stderr, "rclone does not, and that is said"
    assert not any(secret in again.stderr for name, secret in ready.secrets.items() if name != "DDPM_TAG")
    studies = ready.secrets["OPTUNA_DATABASE_PASSWORD"]
    with ready.database("optuna", "optuna", studies) as server:
        server.execute("CREATE TABLE mine (n int); DROP TABLE mine")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        ready.database("mlflow", "optuna", studies)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ready.database("optuna", "optuna", "another's")


def test_a_changed_password_is_taken_over(ready):
    changed = ready.run("provision", OPTUNA_DATABASE_PASSWORD="another 'one'")
    assert changed.returncode == 0, changed.stderr
    ready.database("optuna", "optuna", "another 'one'").close()
    assert ready.run("provision").returncode == 0
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ready.database("optuna", "optuna", "another 'one'")
    experiments = f"{ready.mlflow}/api/2.0/mlflow/experiments/search?max_results=5"
    earlier = ("reader", ready.secrets["MLFLOW_READER_PASSWORD"])
    assert ask(experiments, earlier)[0] == 200
    ready.secrets["MLFLOW_READER_PASSWORD"] = "another one: with a colon"
    reader = ready.run("accounts")
    assert reader.returncode == 0, reader.stderr
    assert ask(experiments, earlier)[0] == 401
    assert ask(experiments, ("reader", "another one: with a colon"))[0] == 200


@pytest.mark.parametrize(
    ("service", "changed", "said"),
    [
        ("provision", {"MLFLOW_DATABASE_PASSWORD": ""}, "MLFLOW_DATABASE_PASSWORD is empty; set it in docker/.env"),
        ("provision", {"PGPASSWORD": "wrong"}, "password authentication failed"),
        ("provision", {"DDPM_S3_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ("accounts", {"MLFLOW_TRACKING_PASSWORD": "wrong"}, "MLFLOW_ADMIN_PASSWORD is not the administrator's"),
    ],
)
def test_what_is_wrong_is_one_line(ready, service, changed, said):
    found = ready.run(service, **changed)
    assert found.returncode in (1, 2)
    last = found.stderr.splitlines()[-1]
    assert last.startswith("provision.py: ") and said in last
    assert "Traceback" not in found.stderr


def test_nobody_is_let_in_without_an_account(ready):
    experiments = f"{ready.mlflow}/api/2.0/mlflow/experiments/search?max_results=5"
    artifacts = f"{ready.mlflow}/api/2.0/mlflow-artifacts/artifacts"
    for address in (experiments, artifacts, ready.mlflow):
        assert ask(address)[0] == 401
        assert ask(address, ("admin", "password1234"))[0] == 401
    assert ask(experiments, ("reader", ready.secrets["MLFLOW_READER_PASSWORD"]))[0] == 200
    assert ask(experiments, ("reader", ready.secrets["MLFLOW_READER_PASSWORD"]), Host="evil.example")[0] == 403
    assert ask(f"{ready.mlflow}/health")[0] == 200, "a health check has no account"


def test_an_artifact_goes_through_mlflow_and_back(ready, ann, as_user, tmp_path):
    from mlflow.exceptions import MlflowException
    from requests.exceptions import HTTPError

    data = os.urandom(3_000_000)
    (tmp_path / "picture.bin").write_bytes(data)
    run = ann.create_run(ann.create_experiment("a-proxied-one"))
    ann.log_artifact(run.info.run_id, str(tmp_path / "picture.bin"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:"), "nobody but MLflow has a key for its bucket"
    (kept,) = (ready.folder / "objects" / "mlflow").rglob("picture.bin")
    assert kept.read_bytes() == data
    there = f"{ready.mlflow}/api/2.0/mlflow-artifacts/artifacts/{run.info.artifact_uri.partition(':/')[2].strip('/')}/picture.bin"
    assert ask(there)[0] == 401
    assert ask(there, ANN) == (200, data)
    reader = as_user("reader", ready.secrets["MLFLOW_READER_PASSWORD"])
    assert reader.get_run(run.info.run_id).info.status == "RUNNING"
    fetched = reader.download_artifacts(run.info.run_id, "picture.bin", str(tmp_path))
    assert Path(fetched).read_bytes() == data
    for change in (
        lambda: reader.set_tag(run.info.run_id, "mine", "now"),
        lambda: reader.log_artifact(run.info.run_id, str(tmp_path / "picture.bin")),
    ):
        with pytest.raises((MlflowException, HTTPError), match=r"[Pp]ermission denied"):
            change()


@pytest.fixture
def version(ann, digits, tmp_path):
    """A registered version of Ann's, the champion of its name, and what draws like it: its reference's model."""
    import torch

    from ddpm.progress import Quiet
    from ddpm.registry.version import register
    from ddpm.settings import ModelSettings, TrainSettings
    from ddpm.training.checkpoint import read_facts
    from ddpm.training.observer import NoObserver
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    settings = TrainSettings(lr=1e-3, epochs=1, flip=False)
    network = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4, timesteps=50)
    trainer = Trainer(network, settings, digits, "s3://ddpm/main/trained", World(torch.device("cpu")))
    uri = trainer.run(NoObserver(), Quiet())["checkpoint"]
    generation = {
        "weights_sha256": read_facts(uri)["sha256"]["ema.safetensors"], "sampler": "ddim", "sampling_steps": 4, "checkpoint": uri,
    }  # fmt: skip
    report = {
        "metric": "fid_classifier", "fid": 3.0, "fid_std": 0.1, "kid": 0.2, "kid_std": 0.01, "n": 64,
        "copying": {"share": 0.0, "share_held_out": 0.0, "excess_low": -0.1}, "noise_floor": {"fid": 0.1, "kid": 0.0},
        "protocol": {
            "measurement": {"extractor": "classifier", "n": 64, "image_size": 8, "dataset_digest": "abc"},
            "generation": generation,
        },
    }  # fmt: skip
    register(ann.tracking_uri, "ddpm-digits", uri, report, None, {})
    ann.set_registered_model_alias("ddpm-digits", "champion", "1")
    return generation["weights_sha256"]


def weights(client, folder):
    """The sha256 of the champion's weights, as MLflow gives them out."""
    from mlflow.artifacts import download_artifacts

    found = client.get_model_version_by_alias("ddpm-digits", "champion")
    place = download_artifacts(
        client.get_model_version_download_uri("ddpm-digits", found.version), dst_path=str(folder)
    )
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(place).rglob("*.safetensors")}


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_brings_all_of_it_back(ready, ann, version, tmp_path):
    """A run, a registered version and its bytes, a study and the team's store; then the databases and the objects are lost."""
    import optuna

    from ddpm.store import S3Store

    url = f"postgresql+psycopg://optuna:{ready.secrets['OPTUNA_DATABASE_PASSWORD']}@127.0.0.1:{ready.postgres}/optuna"
    optuna.create_study(storage=url, study_name="kept").enqueue_trial({"lr": 0.1})
    run = ann.create_run(ann.create_experiment("kept"))
    ann.log_metric(run.info.run_id, "fid", 3.25)
    assert version in weights(ann, tmp_path)
    objects = ready.folder / "objects"
    before = everything(objects)
    assert any(name.startswith("mlflow/") for name in before) and any(
        name.startswith("ddpm/main/trained") for name in before
    )

    backups = ("--folder", str(tmp_path / "backups"))
    saved = ready.run("backup", *backups, "save")
    assert saved.returncode == 0, saved.stderr
    name = saved.stdout.partition(":")[0]
    assert f"2 databases and {len(before)} objects" in saved.stdout
    full = ready.run("backup", *backups, "restore", name)
    assert (full.returncode, full.stdout) == (3, "")
    assert "holds objects" in full.stderr and "restore into an empty one" in full.stderr
    assert everything(objects) == before, "what is there is left alone"

    with ready.administrator() as server:
        for database in ("mlflow", "optuna"):
            server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    for bucket in ("mlflow", "ddpm"):
        client = S3Store(f"s3://{bucket}").bucket.client
        for key in [*S3Store(f"s3://{bucket}").list("")]:
            client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)
    assert ready.run("provision").returncode == 0
    with (
        ready.administrator() as server,
        ready.database("mlflow", "postgres", ready.secrets["POSTGRES_PASSWORD"]) as mlflow,
    ):
        assert server.execute("SELECT count(*) FROM pg_database WHERE datname IN ('mlflow', 'optuna')").fetchone() == (
            2,
        )
        mlflow.execute("CREATE TABLE left_over (n int)")
        there = ready.run("backup", *backups, "restore", name)
        assert there.returncode == 3 and "database mlflow holds tables (left_over, say)" in there.stderr
        mlflow.execute("DROP TABLE left_over")
    assert not everything(objects), "refused before anything is written"

    restored = ready.run("backup", *backups, "restore", name)
    assert restored.returncode == 0, restored.stderr
    assert everything(objects) == before
    assert ann.get_run(run.info.run_id).data.metrics == {"fid": 3.25}, "the server that ran through it all"
    assert version in weights(ann, tmp_path / "again")
    assert optuna.load_study(storage=url, study_name="kept").get_trials()[0].system_attrs["fixed_params"] == {"lr": 0.1}
    with ready.database("mlflow", "mlflow", ready.secrets["MLFLOW_DATABASE_PASSWORD"]) as server:
        owners = server.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [("mlflow",)], "MLflow may change its own tables"


def test_the_champion_is_served_to_who_has_a_token(ready, version):
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    ready.secrets["DDPM_SERVE_TOKENS"] = f"ann sha256:{digest}"
    try:
        with ready.serving("serve", f"{ready.pictures}/readyz", DDPM_SERVE_BATCH="1"):
            picture = f"{ready.pictures}/v1/images/7.png"
            assert ask(picture)[0] == 401
            status, png = ask(picture, Authorization=f"Bearer {TOKEN}")
            assert status == 200 and png.startswith(b"\x89PNG")
            served = json.loads(ask(f"{ready.pictures}/v1/model", Authorization=f"Bearer {TOKEN}")[1])
            assert "models:/ddpm-digits/1" in json.dumps(served)
    finally:
        del ready.secrets["DDPM_SERVE_TOKENS"]
