"""What a server asks the registry of a model: which version has which alias, and a version's card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ddpm.errors import Outage, WrongInput
from ddpm.registry.catalogue import WEIGHTS_TAG, open_registry
from ddpm.tracking import open_client

T = TypeVar("T")


def holders(tracking_uri: str, name: str) -> dict[str, int]:
    """The version of each alias of `name`; none where no such model is registered.

    Raises Outage where the registry does not answer, WrongInput where its URI is none.
    """
    found = _asked(tracking_uri, name, lambda client: client.get_registered_model(name).aliases)
    return {alias: int(version) for alias, version in (found or {}).items()}


def weights_of(tracking_uri: str, name: str, version: int) -> str | None:
    """The digest of a version's weights, as the registry has it now; None where there is none. Raises as `holders` does."""
    tags = _asked(tracking_uri, name, lambda client: client.get_model_version(name, str(version)).tags)
    return (tags or {}).get(WEIGHTS_TAG)


def _asked(tracking_uri: str, name: str, ask: Callable[[Any], T]) -> T | None:
    """What the registry answers; None where it has no such thing."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        return ask(open_registry(tracking_uri, f"models:/{name}"))
    except (WrongInput, Outage) as problem:
        if isinstance(problem, WrongInput) and urlsplit(tracking_uri).scheme in (
            "",
            "sqlite",
        ):  # a file that is not there does not come by waiting
            raise
        raise Outage(f"the registry does not answer: {problem}") from problem
    except MlflowException as problem:
        if problem.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise Outage(f"the registry does not answer: {' '.join(str(problem).split())[:160]}") from problem


def told_card(tracking_uri: str, name: str, version: int) -> str:
    """A version's card as the registry's page shows it; empty where it was registered without one."""
    return open_client(tracking_uri).get_model_version(name, str(version)).description or ""
