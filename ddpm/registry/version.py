"""How a checkpoint becomes a registered version, and a reference a model.

A version is a folder (folder.py), with MLmodel and pyfunc.py beside it for `mlflow models serve` where ddpm is installed;
nothing in it needs pickle. Its tags in MLflow keep the digests of its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ddpm.data.manifest import read_manifest
from ddpm.errors import WrongInput
from ddpm.evaluation.figures.table import DECISIVE
from ddpm.evaluation.protocol import measurement_of
from ddpm.evaluation.report import Generation, Report, number_in
from ddpm.model.model import Model
from ddpm.places import without_file_scheme
from ddpm.registry.card import Provenance, card
from ddpm.registry.catalogue import FILES_TAG, GUIDE_TAG, REPORT_TAG, WEIGHTS_TAG, find, open_registry, versions
from ddpm.registry.contents import contents_of
from ddpm.registry.folder import (
    AGAIN,
    ENGINE_FILES,
    FILES,
    GRID,
    GUIDE,
    LIST,
    REPORT,
    load_files,
    load_version,
    open_folder,
    report_in,
)
from ddpm.registry.ranked import ranked
from ddpm.settings import require_name
from ddpm.store import FileStore, Missing
from ddpm.tracking import fit, in_a_line, open_client, open_experiment, patiently
from ddpm.tracking.origin import code_version, image
from ddpm.training.checkpoint import (
    Manifest,
    checkpoint_uri,
    drawn_from,
    is_checkpoint_folder,
    load_model,
    read_facts,
)
from ddpm.training.lineage import in_words

__all__ = [
    "Registered",
    "downloaded",
    "figures",
    "is_exported",
    "load_version",
    "register",
    "resolve",
    "resolve_or_folder",
]

DESCRIPTION = 5000  # characters that MLflow keeps of a version's description
INSIDE = "artifacts"  # where MLflow's format has our files
PYFUNC = Path(__file__).parent / "pyfunc.py"


class Registered(TypedDict):
    """A version of a registered model. Not `new`: its weights were registered before, by another run; then it may have
    another report than the one that was to be registered."""

    name: str
    version: int
    new: bool
    other_report: NotRequired[bool]


def register(
    tracking_uri: str,
    name: str,
    checkpoint: str,
    report: Report,
    run_id: str | None,
    tags: dict[str, str],
    guide: str | Model | None = None,
) -> Registered:
    """Make a checkpoint's averaged weights and their report a version of `name`.

    Weights that are a version of that name already are not registered again: that version stays as it is, with its
    report, and `new` is false unless it was this very run that registered it. `other_report` says where that report is
    another one.

    Args:
        guide: the weaker model, or a reference to it, that guided the pictures of the report; the version carries its weights.

    Raises WrongInput where the report is none, or of other weights, or of pictures that another model guided, or none.
    """
    from mlflow.exceptions import MlflowException

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
    weaker = resolve(guide, tracking_uri) if isinstance(guide, str) else guide
    guided, own = generation.get("guide", ""), weaker.origin.weights_sha256 if weaker else ""
    if guided != own:
        by = f"guided by weights {guided[:12]}…" if guided else "of pictures that nothing guided"
        given = f"guide has weights {own[:12]}…" if own else "no guide is given"
        raise WrongInput(f"report: it is {by}, and {given}; give the guide that `ddpm evaluate` had")
    client = open_client(tracking_uri)
    with contextlib.suppress(MlflowException):  # the name is there already
        client.create_registered_model(name)
    for number, version in sorted(versions(client, name).items()):
        if version.tags.get(WEIGHTS_TAG) == sha256 and version.tags.get(GUIDE_TAG, "") == own:
            before: Registered = {
                "name": name, "version": number, "new": tags.get("run_name", "") == version.tags.get("run_name"),
            }  # fmt: skip
            if not _is_report_of(version.tags, report):
                before["other_report"] = True
            return before
    if run_id is None:
        experiment = open_experiment(client, tracking_uri, name)
        run_id = client.create_run(experiment, run_name="registered by hand").info.run_id
        client.set_terminated(run_id)
    origin = _provenance(facts, tags)
    contents = contents_of(uri, facts, report, origin, weaker)
    described = {
        **_filters(contents.model, report, origin),
        "dataset_digest": facts.get("dataset_digest") or "",
        "dataset_uri": facts.get("dataset_uri") or "",
        "lineage": "; ".join(map(in_words, facts.get("lineage", []))),
        **tags,
        REPORT_TAG: report.get("sha256", ""),
        WEIGHTS_TAG: sha256,
        GUIDE_TAG: own,
        FILES_TAG: hashlib.sha256(contents.files[LIST]).hexdigest(),
    }
    kept = {key: fit.tag(value) for key, value in described.items() if value}
    with _model_folder(contents.files) as folder:
        logged = ranked(client, name, run_id, contents.model, report, kept, folder)
    created = client.create_model_version(
        name, logged.artifact_location, run_id, tags={**kept, "logged_model": logged.model_id}, model_id=logged.model_id
    )
    number = int(created.version)
    client.set_logged_model_tags(
        logged.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": number}])}
    )
    grid = f"model-versions/get-artifact?name={name}&version={number}&path=artifacts/{GRID}"
    words = card(contents.model, f"models:/{name}/{number}", "ema", report, origin, grid, short=True)
    client.update_model_version(name, str(number), description=words[:DESCRIPTION])
    return {"name": name, "version": number, "new": True}


def _is_report_of(tags: Mapping[str, str], report: Report) -> bool:
    """Whether a version was registered with this report; by its figures, where the version has not the report's seal."""
    if REPORT_TAG in tags:
        return tags[REPORT_TAG] == report.get("sha256")
    return all(tags.get(name, of) == of for name, of in _figures_of(report).items())


def _figures_of(report: Report) -> dict[str, str]:
    return {name: f"{value:.6g}" for name in (*DECISIVE, "precision") if (value := number_in(report, name)) is not None}


def told(facts: Registered) -> str:
    """What a person is to know of a registration, in a line."""
    version = f"{facts['name']} version {facts['version']}"
    if facts.get("other_report"):
        return f"the same weights are {version} already, with another report; it stays as it is, and `ddpm promote` goes by what the store has measured; where this report is to be the version's, delete that version in MLflow and register again"
    return f"registered as {version}" if facts["new"] else f"the same weights were registered before, as {version}"


def _provenance(facts: Manifest, tags: Mapping[str, str]) -> Provenance:
    """Where a version comes from: what the run says, and what the data set's manifest says of its licence."""
    uri, source = tags.get("dataset_uri") or facts.get("dataset_uri") or "", {}
    with contextlib.suppress(WrongInput):  # no URI of a data set, or one that is there no more: nothing is known of it
        source = read_manifest(uri)[1]["source"]
    return Provenance(
        dataset_name=uri.rsplit("/", 2)[1] if uri.count("/") > 1 else "",
        dataset_licence=str(source.get("licence") or ""),
        study=tags.get("study", ""),
        trial=tags.get("trial", ""),
        commit=code_version(),
        image=image(),
    )


def provenance_of(tracking_uri: str, name: str, version: int) -> Provenance:
    """The same of a version that is registered, by its tags."""
    tags = open_client(tracking_uri).get_model_version(name, str(version)).tags
    told = {field.name: tags.get(field.name, "") for field in dataclasses.fields(Provenance) if field.name != "commit"}
    return Provenance(**told, commit=tags.get("git_commit", ""))


def _filters(model: Model, report: Report, origin: Provenance) -> dict[str, str]:
    """What people look for versions by."""
    return {
        **_figures_of(report),
        "metric": report["metric"],
        "image_size": str(model.image_size),
        "channel_mults": model.settings.channel_mults,
        "sampler": model.drawing.sampler,
        "sampling_steps": str(model.drawing.sampling_steps),
        "dataset_name": origin.dataset_name,
        "dataset_licence": origin.dataset_licence,
        "git_commit": origin.commit,
        "image": origin.image,
    }


@contextlib.contextmanager
def _model_folder(contents: Mapping[str, bytes]) -> Iterator[Path]:
    """A temporary folder in MLflow's model format: our files as artifacts, the pyfunc as code."""
    import mlflow.pyfunc
    import pandas

    from ddpm.registry.generator import ROW, signature  # it needs pandas

    with tempfile.TemporaryDirectory() as temporary:
        files = FileStore(Path(temporary, "files"))
        for file, data in contents.items():
            files.write(file, data)
        folder = Path(temporary, "model")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example")  # the signature is given above
            mlflow.pyfunc.save_model(
                str(folder), python_model=str(PYFUNC), artifacts={file: str(files.path(file)) for file in contents},
                signature=signature(), input_example=pandas.DataFrame([{"n": 1, "seed": 0}]), pip_requirements=["ddpm"],
                metadata={"row": ROW},
            )  # fmt: skip
        yield folder


def resolve(reference: str, tracking_uri: str) -> Model:
    """The model that a reference names: a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, an exported folder.

    A registered version and an exported folder bring the way in which their pictures were drawn when they were measured.
    Raises WrongInput, saying what there is, and Damaged where a version's files are not those that were registered.
    """
    reference = without_file_scheme(reference)
    if not reference.startswith("models:"):
        return load_files(Path(reference), reference) if is_exported(reference) else load_model(reference)
    client = open_registry(tracking_uri, reference)
    version = find(client, reference)
    with downloaded(client, version, (*FILES, LIST, *GUIDE)) as files:
        return load_version(files, f"models:/{version.name}/{version.version}", version.tags)


def resolve_or_folder(reference: str, tracking_uri: str) -> Model | Path:
    """The model that a reference names, or the path of a folder that holds no model: of pictures, then."""
    folder = Path(without_file_scheme(reference))
    if folder.is_dir() and not (is_exported(folder) or is_checkpoint_folder(folder)):
        return folder
    return resolve(reference, tracking_uri)


def is_exported(folder: str | Path) -> bool:
    """Whether a folder of this machine holds an exported model."""
    return all(Path(folder, file).is_file() for file in ENGINE_FILES)


def figures(tracking_uri: str, name: str, version: int) -> Report:
    """The report of a registered version: the one that it was registered with, or Damaged is raised."""
    client = open_registry(tracking_uri, f"models:/{name}/{version}")
    found = find(client, f"models:/{name}/{version}")
    with downloaded(client, found, (REPORT, LIST)) as files:
        if not (files / REPORT).is_file() and WEIGHTS_TAG not in found.tags:
            raise WrongInput(f"model: {name} version {version} holds no {REPORT}; it was not registered by ddpm")
        folder = open_folder(files, f"models:/{name}/{version}", found.tags)
        report = report_in(folder)
        measurement_of(report, folder.name)
        return report


@contextlib.contextmanager
def downloaded(client: Any, version: Any, files: Collection[str]) -> Iterator[Path]:
    """Those of these files that the version has, in a temporary folder: who asks for a report need not wait for the weights.

    Raises Missing where they cannot be had, Outage where MLflow or its object store stays away.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="ddpm-version-") as folder:
        uri = client.get_model_version_download_uri(version.name, str(version.version))
        ours = WEIGHTS_TAG in version.tags
        try:
            place = patiently(client.tracking_uri, lambda: _fetch(uri, client.tracking_uri, files, folder, ours))
        except (OSError, MlflowException, BotoCoreError, ClientError) as problem:
            raise Missing(
                f"model: the files of models:/{version.name}/{version.version} cannot be had from {uri} ({in_a_line(problem)[:160]}); see that they can be read, or, where they are lost, {AGAIN}"
            ) from None
        yield place


def _fetch(uri: str, tracking_uri: str, files: Collection[str], folder: str, ours: bool) -> Path:
    """Where the files are that were fetched into the folder. Of a version of `ours` something must be there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    there = get_artifact_repository(uri, tracking_uri=tracking_uri)
    listed = {one.path.rpartition("/")[2] for one in there.list_artifacts(INSIDE)}
    if ours and not listed and not there.list_artifacts(None):
        raise FileNotFoundError("nothing is there")
    place = Path(folder, INSIDE)
    for file in files:
        if file in listed:  # of runs:/RUN/NAME it lies below NAME
            place = Path(there.download_artifacts(f"{INSIDE}/{file}", folder)).parent
    return place
