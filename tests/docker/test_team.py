"""A team's servers, with the commands and environment of docker/compose.yaml: set up, asked, backed up, lost, restored."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from compose_file import ROOT

TOKEN = "a-token-of-a-test"
ANN = ("ann", "the password: of ann")
TINY = "trials=1 trial_epochs=1 epochs=2 held_out_every=1 score_n=64 score_steps=4 evaluate_n=64 sampler=ddim sampling_steps=4".split()
TINY += [
    "search_workers=1",
    "mults_choices=1-2",
    "base_channels=8",
    "noise_gate=1",
]  # in two epochs next to nothing is learned


def ask(address, user=None, body=None, **headers):
    """The status of an answer, and its body; JSON is posted."""
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"
    if body:
        headers["Content-Type"] = "application/json"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, body and body.encode(), headers), timeout=60
        ) as answer:
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


def exported(ready, user, password):
    """What docs/team.md has somebody export: the three places, and keys in the environment."""
    page = (ROOT / "docs" / "team.md").read_text()
    places = dict(re.findall(r"^    export (\w+)=(\S+)$", page, re.M))
    assert set(places) == {"DDPM_STORE", "MLFLOW_TRACKING_URI", "DDPM_STUDY_STORAGE"}
    keys = dict(re.findall(r"`(DDPM_S3_\w+)=([^`]+)`", page))
    return {
        **{name: ready.moved(value) for name, value in {**places, **keys}.items()},
        "DDPM_S3_SECRET_ACCESS_KEY": ready.secrets["OBJECTS_TEAM_SECRET"], "PGPASSWORD": ready.secrets["OPTUNA_DATABASE_PASSWORD"],
        "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password, "DDPM_PATIENCE": "0",
        "DDPM_CACHE": str(ready.folder / "cache"), "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@pytest.fixture
def as_user(ready, monkeypatch):
    """Makes this process one that has exported what docs/team.md says, as a user of MLflow's; a client of it."""
    from ddpm.tracking import open_client

    def become(user, password):
        for name in [name for name in os.environ if name.startswith(("AWS_", "DDPM_S3_", "MLFLOW_"))]:
            monkeypatch.delenv(name)
        told = exported(ready, user, password)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL", "DEFAULT_REGION"):
            monkeypatch.setenv(f"AWS_{name}", told[f"DDPM_S3_{name}"])  # as `adopt` would, and taken back at the end
        return open_client(ready.mlflow)

    return become


@pytest.fixture(scope="module")
def account(ready):
    """Ann's, as docs/team.md has the administrator make it."""
    made = ready.run("accounts", "python", "docker/provision.py", "account", "ann", said=f"{ANN[1]}\n")
    assert made.returncode == 0, made.stderr
    assert ANN[1] not in made.stdout + made.stderr
    return ANN


@pytest.fixture
def ann(account, as_user):
    """A client of a member of the team's."""
    return as_user(*account)


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


@pytest.fixture(scope="module")
def run(ready, account):
    """The summary of a small `make run` of Ann's, whose process has exported three places and has her keys."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DDPM_", "MLFLOW_"))}
    command = [sys.executable, "-m", "pipelines.local", "--var", ready.folder / "var", "--run-name", "anns", *TINY]
    done = subprocess.run(
        command, cwd=ROOT, env={**ours, **exported(ready, *account), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((ready.folder / "var" / "last-run.json").read_text())


def test_three_exports_are_enough_for_a_run(ready, run, ann):
    import optuna

    assert run["state"] == "SUCCEEDED" and run["model"]["aliases"] == ["champion"]
    assert run["dataset"]["uri"].startswith("s3://ddpm/main/datasets/digits/")
    assert not [*(ready.folder / "var").rglob("mlflow.db"), *(ready.folder / "var").rglob("journal.log")]
    (found,) = ann.search_runs([ann.get_experiment_by_name("digits").experiment_id], "tags.model_version != ''")
    assert found.info.status == "FINISHED" and found.info.artifact_uri.startswith("mlflow-artifacts:")
    studies = optuna.get_all_study_names(storage(ready))
    assert len(studies) == 1 and "anns" in studies[0]


def test_a_model_is_its_owners_until_she_lets_another_in(ready, run, ann, as_user):
    """By the very line of docs/team.md."""
    from mlflow.exceptions import MlflowException

    made = ready.run("accounts", "python", "docker/provision.py", "account", "ben", said="the-password-of-ben\n")
    assert made.returncode == 0, made.stderr
    page = (ROOT / "docs" / "team.md").read_text()
    body, address = re.search(r"curl --user ann --json \\\n +'([^']*)' \\\n +(http\S+)\n", page).groups()
    ben = as_user("ben", "the-password-of-ben")
    with pytest.raises(MlflowException, match="Permission denied"):
        ben.set_registered_model_alias("ddpm-digits", "challenger", "1")
    assert ask(ready.moved(address), ("ben", "the-password-of-ben"), body)[0] == 403
    assert ask(ready.moved(address), ANN, body)[0] == 200
    ben.set_registered_model_alias("ddpm-digits", "challenger", "1")
    ben.delete_registered_model_alias("ddpm-digits", "challenger")


def storage(ready):
    """The studies' database, with the password, which Optuna does not take from the environment here."""
    password = ready.secrets["OPTUNA_DATABASE_PASSWORD"]
    return f"postgresql+psycopg://optuna:{password}@127.0.0.1:{ready.postgres}/optuna"


def weights(client, folder):
    """The sha256 of each file of the champion's weights, as MLflow gives them out."""
    from mlflow.artifacts import download_artifacts

    found = client.get_model_version_by_alias("ddpm-digits", "champion")
    place = download_artifacts(
        client.get_model_version_download_uri("ddpm-digits", found.version), dst_path=str(folder)
    )
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(place).rglob("*.safetensors")}


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_brings_all_of_it_back(ready, run, ann, tmp_path):
    """The run, its version and the version's bytes, its study and its data; then the databases and the objects are lost."""
    import optuna

    from ddpm.store import S3Store

    (study,) = optuna.get_all_study_names(storage(ready))
    trials = [trial.values for trial in optuna.load_study(storage=storage(ready), study_name=study).get_trials()]
    champion = weights(ann, tmp_path / "before")
    assert champion and len(trials) == 1
    objects = ready.folder / "objects"
    before = everything(objects)
    assert any(name.startswith("mlflow/") for name in before) and any(name.startswith("ddpm/main/") for name in before)

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
    (found,) = ann.search_runs([ann.get_experiment_by_name("digits").experiment_id], "tags.model_version != ''")
    assert found.info.run_name == "anns", "the server that ran through it all has it"
    assert weights(ann, tmp_path / "after") == champion
    again = optuna.load_study(storage=storage(ready), study_name=study).get_trials()
    assert [trial.values for trial in again] == trials
    with ready.database("mlflow", "mlflow", ready.secrets["MLFLOW_DATABASE_PASSWORD"]) as server:
        owners = server.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [("mlflow",)], "MLflow may change its own tables"


def test_the_champion_is_served_to_who_has_a_token(ready, run):
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
