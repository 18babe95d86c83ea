"""What a server asks the registry of a model: which version has which alias, and a version's card."""

from __future__ import annotations

from urllib.parse import urlsplit

from ddpm.errors import Outage, WrongInput
from ddpm.registry.catalogue import open_registry
from ddpm.tracking import open_client


def holders(tracking_uri: str, name: str) -> dict[str, int]:
    """The version of each alias of `name`; none where no such model is registered.

    Raises Outage where the registry does not answer, WrongInput where its URI is none.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        client = open_registry(tracking_uri, f"models:/{name}")
        found = client.get_registered_model(name).aliases
    except (WrongInput, Outage) as problem:
        if isinstance(problem, WrongInput) and urlsplit(tracking_uri).scheme in (
            "",
            "sqlite",
        ):  # a file that is not there does not come by waiting
            raise
        raise Outage(f"the registry does not answer: {problem}") from problem
    except MlflowException as problem:
        if problem.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return {}
        raise Outage(f"the registry does not answer: {' '.join(str(problem).split())[:160]}") from problem
    return {alias: int(version) for alias, version in found.items()}


def told_card(tracking_uri: str, name: str, version: int) -> str:
    """A version's card as the registry's page shows it; empty where it was registered without one."""
    return open_client(tracking_uri).get_model_version(name, str(version)).description or ""
