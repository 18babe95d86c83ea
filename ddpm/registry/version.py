"""How a checkpoint becomes a registered version, and a reference a model.

A version is a folder (folder.py), with MLmodel and pyfunc.py beside it for `mlflow models serve` where ddpm is installed;
nothing in it needs pickle. Its tags in MLflow keep the digests of its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from ddpm.errors import WrongInput
from ddpm.evaluation.figures.table import DECISIVE
from ddpm.evaluation.report import Generation, Report, number_in
from ddpm.model.model import Model
from ddpm.places import without_file_scheme
from ddpm.registry.catalogue import FILES_TAG, WEIGHTS_TAG, find, open_registry, versions
from ddpm.registry.folder import (
    AGAIN,
    DRAWN_BY,
    ENGINE_FILES,
    LIST,
    REPORT,
    SETTINGS,
    WEIGHTS,
    list_of,
    load_files,
    load_version,
    open_folder,
)
from ddpm.settings import FORMAT_VERSION, require_name
from ddpm.store import FileStore, Missing
from ddpm.store.reading import checked
from ddpm.tracking import open_client, open_experiment
from ddpm.training.checkpoint import (
    Manifest,
    checkpoint_uri,
    drawn_from,
    is_checkpoint_folder,
    load_model,
    read_facts,
)

__all__ = ["Registered", "downloaded", "figures", "load_version", "register", "resolve", "resolve_or_folder"]

PYFUNC = Path(__file__).parent / "pyfunc.py"


class Registered(TypedDict):
    """A version of a registered model. Not `new`: its weights were registered before, by another run."""

    name: str
    version: int
    new: bool


def register(
    tracking_uri: str, name: str, checkpoint: str, report: Report, run_id: str | None, tags: dict[str, str]
) -> Registered:
    """Make a checkpoint's averaged weights and their report a version of `name`.

    Weights that are a version of that name already are not registered again: that version stays as it is, with its
    report, and `new` is false unless it was this very run that registered it.

    Raises WrongInput where the report is none, or of other weights.
    """
    from mlflow.exceptions import MlflowException

    from ddpm.evaluation.protocol import measurement_of  # it needs more than the engine has

    require_name("model_name", name)
    measurement_of(report)  # refuses what is no report
    uri = checkpoint_uri(checkpoint)
    facts = read_facts(uri)
    averaged = drawn_from(facts)
    sha256 = facts["sha256"][averaged]
    generation = report["protocol"].get("generation") or Generation()
    measured = generation.get("weights_sha256")
    if measured != sha256:
        of = f"of weights {measured[:12]}…" if measured else "of no checkpoint"
        raise WrongInput(f"report: it is {of}, and the checkpoint has weights {sha256[:12]}…; evaluate this checkpoint")
    client = open_client(tracking_uri)
    with contextlib.suppress(MlflowException):  # the name is there already
        client.create_registered_model(name)
    for number, version in sorted(versions(client, name).items()):
        if version.tags.get(WEIGHTS_TAG) == sha256:
            return {"name": name, "version": number, "new": tags.get("run_name", "") == version.tags.get("run_name")}
    if run_id is None:
        experiment = open_experiment(client, tracking_uri, name)
        run_id = client.create_run(experiment, run_name="registered by hand").info.run_id
        client.set_terminated(run_id)
    contents = _contents(uri, facts, averaged, report)
    with _model_folder(contents) as folder:
        client.log_artifacts(run_id, str(folder), f"model-{sha256[:12]}")
    source = f"{client.get_run(run_id).info.artifact_uri}/model-{sha256[:12]}"
    described = {
        **{name: f"{number_in(report, name):.6g}" for name in DECISIVE},
        "metric": report["metric"],
        "dataset_digest": facts.get("dataset_digest") or "",
        "dataset_uri": facts.get("dataset_uri") or "",
        **tags,
        WEIGHTS_TAG: sha256,
        FILES_TAG: hashlib.sha256(contents[LIST]).hexdigest(),
    }
    created = client.create_model_version(
        name, source, run_id, tags={key: value for key, value in described.items() if value}
    )
    return {"name": name, "version": int(created.version), "new": True}


def _contents(uri: str, facts: Manifest, averaged: str, report: Report) -> dict[str, bytes]:
    """The files of a version of this checkpoint. Raises Damaged where its weights are."""
    from ddpm.store import open_store

    store, sha256 = open_store(uri.rpartition("/")[0]), facts["sha256"][averaged]
    generation = report["protocol"].get("generation") or Generation()
    settings = {
        "format_version": FORMAT_VERSION,
        "settings": facts["settings"],  # the network's and its training's
        "image_size": facts["image_size"],
        **{name: value for name, value in generation.items() if name in DRAWN_BY},
        "images_seen": facts["images_seen"],
        "dataset_digest": facts.get("dataset_digest"),
        "checkpoint": uri,
        WEIGHTS_TAG: sha256,
    }
    weights = checked(store.read(averaged), store.uri(averaged), "use another checkpoint", sha256)
    contents = {WEIGHTS: weights, SETTINGS: _as_json(settings), REPORT: _as_json(report)}
    return {**contents, LIST: _as_json(list_of(contents))}


def _as_json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True).encode()


@contextlib.contextmanager
def _model_folder(contents: dict[str, bytes]) -> Iterator[Path]:
    """A temporary folder in MLflow's model format: our files as artifacts, the pyfunc as code."""
    import mlflow.pyfunc

    from ddpm.registry.generator import signature  # it needs pandas

    with tempfile.TemporaryDirectory() as temporary:
        files = FileStore(Path(temporary, "files"))
        for file, data in contents.items():
            files.write(file, data)
        folder = Path(temporary, "model")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example")  # the signature is given above
            mlflow.pyfunc.save_model(
                str(folder), python_model=str(PYFUNC), artifacts={file: str(files.path(file)) for file in contents},
                signature=signature(), pip_requirements=["ddpm"],
            )  # fmt: skip
        yield folder


def resolve(reference: str, tracking_uri: str) -> Model:
    """The model that a reference names: a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, an exported folder.

    A registered version and an exported folder bring the way in which their pictures were drawn when they were measured.
    Raises WrongInput, saying what there is, and Damaged where a version's files are not those that were registered.
    """
    reference = without_file_scheme(reference)
    if not reference.startswith("models:"):
        return load_files(Path(reference), reference) if _is_exported(Path(reference)) else load_model(reference)
    client = open_registry(tracking_uri, reference)
    version = find(client, reference)
    with downloaded(client, version) as files:
        return load_version(files, f"models:/{version.name}/{version.version}", version.tags)


def resolve_or_folder(reference: str, tracking_uri: str) -> Model | Path:
    """The model that a reference names, or the path of a folder that holds no model: of pictures, then."""
    folder = Path(without_file_scheme(reference))
    if folder.is_dir() and not (_is_exported(folder) or is_checkpoint_folder(folder)):
        return folder
    return resolve(reference, tracking_uri)


def _is_exported(folder: Path) -> bool:
    return all((folder / file).is_file() for file in ENGINE_FILES)


def figures(tracking_uri: str, name: str, version: int) -> Report:
    """The report of a registered version: the one that it was registered with, or Damaged is raised."""
    from ddpm.evaluation.protocol import measurement_of

    client = open_registry(tracking_uri, f"models:/{name}/{version}")
    found = find(client, f"models:/{name}/{version}")
    with downloaded(client, found) as files:
        if not (files / REPORT).is_file() and WEIGHTS_TAG not in found.tags:
            raise WrongInput(f"model: {name} version {version} holds no {REPORT}; it was not registered by ddpm")
        folder = open_folder(files, f"models:/{name}/{version}", found.tags)
        report = cast(Report, folder.json(REPORT, dict[str, Any]))
        measurement_of(report, folder.name)
        return report


@contextlib.contextmanager
def downloaded(client: Any, version: Any) -> Iterator[Path]:
    """The version's files, in a temporary folder. Raises Missing where they are gone."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="ddpm-version-") as folder:
        uri = client.get_model_version_download_uri(version.name, str(version.version))
        try:
            got = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=client.tracking_uri)
        except (OSError, MlflowException) as problem:
            words = " ".join(str(problem).split())[:160]
            raise Missing(
                f"model: the files of models:/{version.name}/{version.version} cannot be had from {uri} ({words}); bring them back, or {AGAIN}"
            ) from None
        yield Path(got, "artifacts")
