"""Where things are kept when nobody says so."""

import os
import tempfile

import pytest

from ddpm.errors import WrongInput
from ddpm.places import VARIABLES, cache_folder, default_places, fill_places


def test_empty_places_are_the_environments(monkeypatch):
    monkeypatch.setenv("DDPM_STORE", "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("DDPM_STUDY_STORAGE", "postgresql+psycopg://o@p/o")
    given = {"store": "", "tracking_uri": "http://other", "study_storage": "", "lr": 0.1}
    assert fill_places(given) == {
        "store": "s3://bucket/x", "tracking_uri": "http://other", "study_storage": "postgresql+psycopg://o@p/o", "lr": 0.1,
    }  # fmt: skip


def test_a_place_that_nobody_names_is_one_line(monkeypatch):
    monkeypatch.delenv("DDPM_STORE", raising=False)
    with pytest.raises(WrongInput, match="store: missing; give it as a parameter, or DDPM_STORE"):
        fill_places({"store": ""})


def test_on_one_machine_all_is_below_var_or_where_the_environment_says(monkeypatch, tmp_path):
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_places() == {
        "store": f"{tmp_path}/var/store", "tracking_uri": f"sqlite:///{tmp_path}/var/mlflow/mlflow.db",
        "study_storage": f"{tmp_path}/var/optuna/journal.log",
    }  # fmt: skip
    told = {
        "store": "s3://ddpm/main",
        "tracking_uri": "http://mlflow:5000",
        "study_storage": "postgresql+psycopg://o@p/o",
    }
    for name, place in told.items():
        monkeypatch.setenv(VARIABLES[name], place)
    assert default_places() == told


def test_the_cache_is_where_one_says_or_at_home_or_among_the_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    monkeypatch.setenv("DDPM_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ddpm"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    temporary = tmp_path / "tmp" / f"ddpm-cache-{os.getuid()}"
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write everywhere
    assert cache_folder() == temporary
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os, "access", lambda place, mode: True)
    monkeypatch.setattr(os.path, "expanduser", lambda path: "")
    assert cache_folder() == temporary
