"""MLflow databases, made once and copied."""

import shutil

import pytest

from ddpm.tracking import open_client


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A migrated database without runs: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def place(tmp_path, empty_database):
    """An MLflow database's URI."""
    (tmp_path / "deep").mkdir()
    shutil.copy(empty_database, tmp_path / "deep" / "mlflow.db")
    return f"sqlite:///{tmp_path}/deep/mlflow.db"
