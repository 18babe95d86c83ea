"""A folder with MLflow's records that was moved, copied or linked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ddpm.tracking import Tracker, client, open_client
from ddpm.tracking.moved import follow


def uri(folder):
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(client, "announce", lines.append)
    return lines


@pytest.fixture
def made(place, tmp_path, said):
    """A folder with a run and a registered version."""
    with Tracker(place, "run-1", "my digits").child("trial 0", {}, {}) as run:
        run.file("report.json", b"{}")
    there = open_client(place)
    there.create_registered_model("m")
    there.create_model_version("m", f"{there.get_run(run.run_id).info.artifact_uri}/model", run.run_id)
    assert said == []
    return tmp_path / "deep", run.run_id


def test_nothing_is_written_to_the_old_place_and_all_is_found_in_the_new_one(made, tmp_path, said):
    old, run_id = made
    new = tmp_path / "a new place"
    old.rename(new)
    there = open_client(uri(new))
    assert said == [
        f"MLflow's records were made in {old} and lie in {new} now: the places kept in them have been changed"
    ]
    assert Path(there.download_artifacts(run_id, "report.json")).read_bytes() == b"{}"
    assert there.get_model_version_download_uri("m", "1").startswith((new / "artifacts").as_uri())
    with Tracker(uri(new), "run-2", "my digits").child("trial 0", {}, {}) as run:
        run.picture("noising", np.zeros((8, 8, 3), dtype=np.uint8))
    assert there.get_run(run.run_id).info.artifact_uri.startswith(new.as_uri())
    assert not old.exists()
    assert len(said) == 1, "it is said once"


def test_a_copy_is_a_place_of_its_own(made, tmp_path, said):
    old, run_id = made
    new = tmp_path / "copy"
    shutil.copytree(old, new)
    before = sorted(path for path in old.rglob("*") if path.is_file())
    there = open_client(uri(new))
    assert there.get_run(run_id).info.artifact_uri.startswith(new.as_uri())
    assert sorted(path for path in old.rglob("*") if path.is_file()) == before
    assert open_client(uri(old)).get_run(run_id).info.artifact_uri.startswith(old.as_uri())


def test_another_name_of_the_same_folder_is_no_move(made, tmp_path, said):
    old, run_id = made
    (tmp_path / "link").symlink_to(old)
    assert open_client(uri(tmp_path / "link")).get_run(run_id).info.artifact_uri.startswith(old.as_uri())
    assert said == []


def test_a_place_that_a_person_chose_stays(place, tmp_path):
    there = open_client(place)
    kept = there.create_experiment("own", artifact_location=(tmp_path / "elsewhere" / "own").as_uri())
    bucket = there.create_experiment("s3", artifact_location="s3://bucket/artifacts/s3")
    assert follow(tmp_path / "deep" / "mlflow.db") == ""
    assert there.get_experiment(kept).artifact_location == (tmp_path / "elsewhere" / "own").as_uri()
    assert there.get_experiment(bucket).artifact_location == "s3://bucket/artifacts/s3"


def test_what_is_no_database_yet_has_not_moved(tmp_path):
    assert follow(tmp_path / "mlflow.db") == ""
    (tmp_path / "mlflow.db").touch()
    assert follow(tmp_path / "mlflow.db") == ""
