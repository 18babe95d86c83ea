"""MLflow's registry: its versions, and what a reference names there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ddpm.errors import WrongInput
from ddpm.tracking import open_client

GUIDE_TAG = "guide_sha256"  # of the weaker model that guides it, where there is one
WEIGHTS_TAG = "weights_sha256"
REPORT_TAG = "report_sha256"  # the seal of the report that a version was registered with
FILES_TAG = "files_sha256"  # the digest of files.json, which has those of a version's other files
PAGE = 1000  # versions asked for at once
_REFERENCE = re.compile(
    r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<alias>[A-Za-z0-9._-]+)|/(?P<version>[0-9]+))"
)


def versions(client: Any, name: str) -> dict[int, Any]:
    """All versions of a model that MLflow has, by number: every page of them."""
    found, token = {}, None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
        found.update({int(version.version): version for version in page})
        token = page.token
        if not token:
            return found


def version_of(client: Any, name: str, number: int) -> Any | None:
    """One version; None where MLflow has it not, or no more."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as problem:
        if problem.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def named_version(reference: str) -> tuple[str, int] | None:
    """Name and number, of models:/NAME/VERSION; None for any other reference."""
    parts = _REFERENCE.fullmatch(reference)
    return (parts["name"], int(parts["version"])) if parts and parts["version"] else None


def open_registry(tracking_uri: str, reference: str) -> Any:
    """A client of the registry in which a reference is looked up. Of one that is not there none is made: WrongInput."""
    if tracking_uri.startswith("sqlite:") and not Path(tracking_uri.removeprefix("sqlite:///")).is_file():
        raise WrongInput(
            f"model: there is no {reference}: nothing was ever registered at {tracking_uri}; say where with --tracking-uri or $MLFLOW_TRACKING_URI"
        )
    return open_client(tracking_uri)


def find(client: Any, reference: str) -> Any:
    """The version that a reference names. Raises WrongInput, saying what there is."""
    from mlflow.exceptions import MlflowException

    parts = _REFERENCE.fullmatch(reference)
    if not parts:
        raise WrongInput(f"model: '{reference}' is no reference; write models:/NAME@champion or models:/NAME/1")
    try:
        if parts["alias"]:
            return client.get_model_version_by_alias(parts["name"], parts["alias"])
        return client.get_model_version(parts["name"], parts["version"])
    except MlflowException:
        raise WrongInput(
            f"model: there is no {reference} at {client.tracking_uri}; {_what_there_is(client, parts['name'])}"
        ) from None


def _what_there_is(client: Any, name: str) -> str:
    if there := sorted(versions(client, name)):
        aliases = client.get_registered_model(name).aliases
        named = "".join(f", @{alias} is {version}" for alias, version in sorted(aliases.items()))
        return f"{name} has versions {', '.join(map(str, there))}{named}"
    names = sorted(model.name for model in client.search_registered_models())
    return f"the registered models are {', '.join(names)}" if names else "no model is registered there"
