"""An MLflow database of each test's own."""

import shutil

import pytest


@pytest.fixture
def place(tmp_path, empty_database):
    """An MLflow database's URI."""
    (tmp_path / "deep").mkdir()
    shutil.copy(empty_database, tmp_path / "deep" / "mlflow.db")
    return f"sqlite:///{tmp_path}/deep/mlflow.db"
