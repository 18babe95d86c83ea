"""What of a version is fetched from where MLflow keeps it: weights may be large, and the place far away."""

from pathlib import Path

import pytest
import requests
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from measured import keep_report
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from ddpm.errors import Outage
from ddpm.progress import Quiet
from ddpm.registry.version import figures, register, resolve
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import load
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.promote import promote
from ddpm.store import Missing, open_store
from ddpm.tracking import open_client
from ddpm.workplace import Workplace


def files_of(place, version):
    return Path(open_client(place).get_model_version("m", str(version)).source.removeprefix("file://"), "artifacts")


@pytest.fixture
def fetched(monkeypatch):
    """Every file of a version that is fetched from where MLflow keeps it, each time."""
    found, fetch = [], LocalArtifactRepository._download_file

    def noting(self, remote_file_path, local_path):
        found.append(Path(self.artifact_dir, remote_file_path))
        return fetch(self, remote_file_path, local_path)

    monkeypatch.setattr(LocalArtifactRepository, "_download_file", noting)
    return found


def test_a_decision_fetches_a_version_s_weights_once_and_the_champion_s_not_at_all(
    checkpoints, place, tmp_path, report_of, fetched
):
    store = open_store(str(tmp_path / "store"))

    def is_promoted(version):
        keep_report(store, place, version)
        where = Workplace(Quiet(), store.root, place)
        return promote(where, "m", version, "unused", EvaluateSettings(), DrawSettings(), again=False)["promoted"]

    for uri, fid in zip(checkpoints, (2.0, 0.5), strict=True):
        register(place, "m", uri, report_of(uri, fid=fid), None, {})
    first, second = (files_of(place, version) / "weights.safetensors" for version in (1, 2))
    assert is_promoted(1) and fetched.count(first) == 1
    fetched.clear()
    assert is_promoted(2) and fetched.count(second) == 1
    assert files_of(place, 1) / "report.json" in fetched and first not in fetched


def test_the_server_of_pictures_fetches_a_version_s_weights_once(checkpoints, place, report_of, fetched):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    served = load("models:/m/1", place, ServeSettings(batch=1))
    assert served.report["fid"] == 2.0 and "same bytes" in served.checked
    assert fetched.count(files_of(place, 1) / "weights.safetensors") == 1


def test_a_version_that_lies_in_a_run_is_found_by_its_run_too(checkpoints, place, report_of, monkeypatch):
    """As somebody may have registered it by hand: runs:/RUN/NAME, of a logged model, which MLflow looks for where the
    environment says."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    client = open_client(place)
    version = client.get_model_version("m", "1")
    logged = client.get_logged_model(version.tags["logged_model"])
    source = f"runs:/{version.run_id}/{logged.name}"
    client.create_model_version("m", source, version.run_id, tags=dict(version.tags))
    assert client.get_model_version("m", "2").source == source
    assert resolve("models:/m/2", place).origin.weights_sha256 == version.tags["weights_sha256"]
    assert figures(place, "m", 2) == figures(place, "m", 1)


AWAY = "MLflow at .* does not answer .{}"
GONE = "the files of models:/m/1 cannot be had from .* .{}.; see that they can be read, or, where they are lost, delete"


@pytest.mark.parametrize("when", ["list_artifacts", "_download_file"])
@pytest.mark.parametrize(
    ("problem", "kind", "said"),
    [
        (requests.exceptions.ConnectionError("Max retries exceeded with url: /x (Connection refused)"), Outage, AWAY.format("connection refused")),
        (requests.exceptions.ChunkedEncodingError("Connection broken: IncompleteRead(7 bytes)"), Outage, AWAY.format("Connection broken")),
        (requests.exceptions.HTTPError("503 Server Error: x for url: y"), Outage, AWAY.format("503 Server Error")),
        (requests.exceptions.HTTPError("403 Client Error: no"), Missing, GONE.format("403 Client Error: no")),
        (NoCredentialsError(), Missing, GONE.format("Unable to locate credentials")),
        (MlflowException("nobody knows why"), Missing, GONE.format("nobody knows why")),
    ],
)  # fmt: skip
def test_why_files_cannot_be_fetched_is_one_line(checkpoints, place, report_of, monkeypatch, when, problem, kind, said):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})

    def fail(self, *given, **named):
        raise problem

    monkeypatch.setattr(LocalArtifactRepository, when, fail)
    monkeypatch.setenv("DDPM_PATIENCE", "0")
    with pytest.raises(kind, match=said):
        figures(place, "m", 1)


def test_an_object_store_that_is_away_is_an_outage(checkpoints, place, report_of, monkeypatch):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})

    def fail(self, path=None):
        raise EndpointConnectionError(endpoint_url="http://s3")

    monkeypatch.setattr(LocalArtifactRepository, "list_artifacts", fail)
    monkeypatch.setenv("DDPM_PATIENCE", "0")
    with pytest.raises(Outage, match=AWAY.format("the endpoint cannot be reached")):
        figures(place, "m", 1)
