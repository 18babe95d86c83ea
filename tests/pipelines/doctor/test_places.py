"""The store, MLflow and the study, each a real one."""

import base64
import os
import shutil
import threading

import boto3
import pytest
from kubernetes_stub import config_map, secret
from looked_over import KEYS, PLACES, WELL, about
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from pipelines.doctor.finding import OK, WRONG


@pytest.fixture
def bucket(moto):
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    client.create_bucket(Bucket="doctor")
    return client


def test_places_are_tried_with_what_the_tasks_are_given(doctor, bucket, moto, postgres):
    """By the Secret and the ConfigMap, which this process takes over; what it writes to the store is gone."""
    given = {
        "DDPM_STORE": "s3://doctor/ddpm", "DDPM_S3_ENDPOINT_URL": moto, "DDPM_S3_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "DDPM_STUDY_STORAGE": postgres.url,
    }  # fmt: skip
    objects = (config_map("ddpm", given), secret("ddpm", {**KEYS, "PGPASSWORD": "any"}), *WELL[2:])
    status, found = doctor(objects=objects)
    assert (OK, "object store: s3://doctor/ddpm is written and read, and keeps to conditions") in found
    assert "Contents" not in bucket.list_objects_v2(Bucket="doctor")
    ((state, words),) = about(found, "study")
    assert state == OK and words.startswith(f"study: {postgres.url} answers; ")
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (3, WRONG) and "does not answer (connection refused)" in words


@pytest.fixture
def mlflow_server(tmp_path, empty_database, monkeypatch):
    """MLflow's own server; `login` is what it asks for, as its basic-auth app does, and `version` what it says it is."""
    from mlflow.server import app, handlers

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setattr(handlers, "_tracking_store", None)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # which the app sets, for all
    made = []

    def start(login="", version=""):
        def guarded(environ, begin):
            told = base64.b64decode(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Basic ")).decode()
            if environ["PATH_INFO"] == "/version" and version:
                return Response(version)(environ, begin)
            if login and told != login and environ["PATH_INFO"] not in ("/health", "/version"):
                return Response("You are not authenticated.", 401)(environ, begin)
            return app(environ, begin)

        made.append(make_server("127.0.0.1", 0, guarded, threaded=True))
        threading.Thread(target=made[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made[-1].server_port}"

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


def test_an_mlflow_server(doctor, mlflow_server):
    import mlflow

    os.environ["MLFLOW_TRACKING_URI"] = url = mlflow_server()
    said = (
        f"MLflow {mlflow.__version__} at {url}; it asks nobody for a password, so that whoever reaches it may change it"
    )
    assert about(doctor()[1], "MLflow") == [(OK, said)]
    os.environ["MLFLOW_TRACKING_URI"] = url = mlflow_server(version="2.22.1")
    assert about(doctor()[1], "MLflow") == [(WRONG, f"MLflow: {url} is version 2.22.1; 3 or later is needed")]


def test_an_mlflow_server_that_asks_for_a_password(doctor, mlflow_server):
    url = mlflow_server(login="ddpm:a-very-secret-key")
    given = config_map("ddpm", {**PLACES, "MLFLOW_TRACKING_URI": url})
    status, found = doctor(objects=(given, secret("ddpm", KEYS), *WELL[2:]))
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (3, WRONG) and "401" in words and "not authenticated" in words
    login = {"MLFLOW_TRACKING_USERNAME": "ddpm", "MLFLOW_TRACKING_PASSWORD": "a-very-secret-key"}
    status, found = doctor(objects=(given, secret("ddpm", {**KEYS, **login}), *WELL[2:]))
    ((state, words),) = about(found, "MLflow")
    assert (status, state) == (0, OK) and words.endswith(f" at {url}")


@pytest.mark.parametrize(
    ("variable", "place", "words"),
    [
        ("DDPM_STORE", "s3://no-such-bucket/x", "NoSuchBucket: there is no such bucket; create it, or name another one"),
        ("DDPM_STORE", "gs://bucket/x", "there is no store for gs://"),
        ("MLFLOW_TRACKING_URI", "sqlite:///m.db", "MLflow: sqlite:///m.db is no server's address"),
        ("DDPM_STUDY_STORAGE", "postgresql+psycopg://o@127.0.0.1:9/o", "study: postgresql+psycopg://o@127.0.0.1:9/o cannot be used (connection"),
        ("DDPM_STUDY_STORAGE", "nonsense://127.0.0.1/x", "study: nonsense://127.0.0.1/x cannot be used"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_used(doctor, bucket, moto, variable, place, words):
    os.environ.update(AWS_ENDPOINT_URL=moto, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    os.environ[variable] = place
    _, found = doctor()
    assert [words in told for state, told in found if state == WRONG] == [True], found
