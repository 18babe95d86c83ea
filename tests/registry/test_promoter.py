"""Aliases set by an account of their own."""

import os

import pytest

from ddpm.errors import WrongInput
from ddpm.registry import promotion
from ddpm.registry.promoter import as_promoter

PIPELINE = {"MLFLOW_TRACKING_USERNAME": "pipeline", "MLFLOW_TRACKING_PASSWORD": "a-pipeline-s-password"}
PROMOTER = {"DDPM_PROMOTER_USERNAME": "promote", "DDPM_PROMOTER_PASSWORD": "a-promoter-s-password"}
NAMES = (*PIPELINE, "MLFLOW_TRACKING_TOKEN")


def say(monkeypatch, told):
    for name in (*PIPELINE, *PROMOTER, "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def asks():
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_mlflow_is_asked_by_it_for_as_long_as_the_block_lasts(monkeypatch):
    say(monkeypatch, {**PIPELINE, **PROMOTER, "MLFLOW_TRACKING_TOKEN": "a-token"})
    with pytest.raises(ZeroDivisionError), as_promoter():
        assert asks() == {
            "MLFLOW_TRACKING_USERNAME": "promote", "MLFLOW_TRACKING_PASSWORD": "a-promoter-s-password",
        }  # fmt: skip
        raise ZeroDivisionError
    assert asks() == {**PIPELINE, "MLFLOW_TRACKING_TOKEN": "a-token"}
    say(monkeypatch, PROMOTER)
    with as_promoter():
        assert asks()["MLFLOW_TRACKING_USERNAME"] == "promote"
    assert asks() == {}


def test_without_one_all_is_asked_by_the_same(monkeypatch):
    say(monkeypatch, PIPELINE)
    with as_promoter():
        assert asks() == PIPELINE


def test_half_of_it_is_wrong_input(monkeypatch):
    say(monkeypatch, {**PIPELINE, "DDPM_PROMOTER_USERNAME": "promote"})
    with pytest.raises(WrongInput, match="DDPM_PROMOTER_PASSWORD is not said, and the other one of"), as_promoter():
        pass


def test_an_account_that_may_not_is_told_in_one_line(monkeypatch):
    """What the log says stays so: the same again, by an account that may, sets the aliases."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    class Client:
        def get_registered_model(self, name):
            return type("Model", (), {"aliases": {}})

        def set_registered_model_alias(self, *words):
            raise MlflowException(
                "failed with error code 403 != 200. Response body: 'Permission denied'", PERMISSION_DENIED
            )

    monkeypatch.setattr(promotion, "open_client", lambda uri: Client())
    monkeypatch.setattr(promotion, "settle", lambda *words: [])
    monkeypatch.setattr(promotion, "standing", lambda log: {"champion": 1})
    with pytest.raises(WrongInput) as refused:
        promotion.project_aliases(None, "http://mlflow:5000", "ddpm-digits")
    assert str(refused.value) == (
        "model_name: MLflow does not let this account set the aliases of ddpm-digits, which the promotion log gives; the account that may goes into DDPM_PROMOTER_USERNAME and DDPM_PROMOTER_PASSWORD, and the same again sets them"
    )
