"""What a registered version holds, and how a reference becomes a model.

weights.safetensors   the averaged weights
settings.json         the settings of the network and of its training, picture size, default sampler, digests
report.json           figures with their protocol
MLmodel, pyfunc.py    for `mlflow models serve` where ddpm is installed; nothing here needs pickle
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from ddpm.errors import WrongInput
from ddpm.evaluation.figures.table import DECISIVE
from ddpm.evaluation.report import Generation, Report, number_in
from ddpm.model.model import Model, Origin, suited
from ddpm.places import without_file_scheme
from ddpm.settings import FORMAT_VERSION, SAMPLERS, DrawSettings, ModelSettings, pick, require_name
from ddpm.store import FileStore
from ddpm.tracking import open_client, open_experiment
from ddpm.training.checkpoint import checkpoint_uri, drawn_from, is_checkpoint_folder, load_model, read_facts

ENGINE_FILES = ("weights.safetensors", "settings.json")  # what an exported folder holds too
FILES = (*ENGINE_FILES, "report.json")
WEIGHTS_TAG = "weights_sha256"
DRAWN_BY = ("sampler", "sampling_steps", "churn", "guidance")  # of DrawSettings, what is a model's own
PYFUNC = Path(__file__).parent / "pyfunc.py"
_REFERENCE = re.compile(
    r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(@(?P<alias>[A-Za-z0-9._-]+)|/(?P<version>[0-9]+))"
)


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
    from ddpm.store import open_store

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
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(WEIGHTS_TAG) == sha256:
            return {
                "name": name,
                "version": int(version.version),
                "new": tags.get("run_name", "") == version.tags.get("run_name"),
            }
    if run_id is None:
        experiment = open_experiment(client, tracking_uri, name)
        run_id = client.create_run(experiment, run_name="registered by hand").info.run_id
        client.set_terminated(run_id)
    store = open_store(uri.rpartition("/")[0])
    weights = store.read(averaged)
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise WrongInput(
            f"{store.uri(averaged)} is damaged: its sha256 is not the one in its manifest; use another checkpoint"
        )
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
    contents = {"weights.safetensors": weights, "settings.json": _as_json(settings), "report.json": _as_json(report)}
    with _model_folder(contents) as folder:
        client.log_artifacts(run_id, str(folder), f"model-{sha256[:12]}")
    source = f"{client.get_run(run_id).info.artifact_uri}/model-{sha256[:12]}"
    figures = {name: f"{number_in(report, name):.6g}" for name in DECISIVE}
    created = client.create_model_version(
        name, source, run_id, tags={**tags, **figures, "metric": report["metric"], WEIGHTS_TAG: sha256}
    )
    return {"name": name, "version": int(created.version), "new": True}


def _as_json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True).encode()


@contextlib.contextmanager
def _model_folder(contents: dict[str, bytes]) -> Iterator[Path]:
    """A temporary folder in MLflow's model format: our files as artifacts, the pyfunc as code."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "n"), ColSpec("long", "seed")]),
        outputs=Schema([ColSpec("long", "seed"), ColSpec(Array(DataType.string), "images_png_b64")]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        files = FileStore(Path(temporary, "files"))
        for file, data in contents.items():
            files.write(file, data)
        folder = Path(temporary, "model")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example")  # the signature is given above
            mlflow.pyfunc.save_model(
                str(folder), python_model=str(PYFUNC), artifacts={file: str(files.path(file)) for file in contents},
                signature=signature, pip_requirements=["ddpm"],
            )  # fmt: skip
        yield folder


def resolve(reference: str, tracking_uri: str) -> Model:
    """The model that a reference names: a checkpoint's URI, models:/NAME@ALIAS, models:/NAME/VERSION, an exported folder.

    A registered version and an exported folder bring the way in which their pictures were drawn when they were measured.
    Raises WrongInput, saying what there is.
    """
    reference = without_file_scheme(reference)
    if not reference.startswith("models:"):
        return load_files(Path(reference), reference) if _is_exported(Path(reference)) else load_model(reference)
    client = _open_registry(tracking_uri, reference)
    version = _find(client, reference)
    with _downloaded(client, version) as files:
        return load_version(files, f"models:/{version.name}/{version.version}")


def resolve_or_folder(reference: str, tracking_uri: str) -> Model | Path:
    """The model that a reference names, or the path of a folder that holds no model: of pictures, then."""
    folder = Path(without_file_scheme(reference))
    if folder.is_dir() and not (_is_exported(folder) or is_checkpoint_folder(folder)):
        return folder
    return resolve(reference, tracking_uri)


def _is_exported(folder: Path) -> bool:
    return all((folder / file).is_file() for file in ENGINE_FILES)


def figures(tracking_uri: str, name: str, version: int) -> Report:
    """The report of a registered version."""
    client = _open_registry(tracking_uri, f"models:/{name}/{version}")
    with _downloaded(client, _find(client, f"models:/{name}/{version}")) as files:
        if not (files / "report.json").is_file():
            raise WrongInput(f"model: {name} version {version} holds no report.json; it was not registered by ddpm")
        return json.loads((files / "report.json").read_text())


def _open_registry(tracking_uri: str, reference: str) -> Any:
    """A client of the registry in which a reference is looked up. Of one that is not there none is made: WrongInput."""
    if tracking_uri.startswith("sqlite:") and not Path(tracking_uri.removeprefix("sqlite:///")).is_file():
        raise WrongInput(
            f"model: there is no {reference}: nothing was ever registered at {tracking_uri}; say where with --tracking-uri or $MLFLOW_TRACKING_URI"
        )
    return open_client(tracking_uri)


def _find(client: Any, reference: str) -> Any:
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
    versions = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
    if versions:
        aliases = client.get_registered_model(name).aliases
        named = "".join(f", @{alias} is {version}" for alias, version in sorted(aliases.items()))
        return f"{name} has versions {', '.join(map(str, versions))}{named}"
    names = sorted(model.name for model in client.search_registered_models())
    return f"the registered models are {', '.join(names)}" if names else "no model is registered there"


@contextlib.contextmanager
def _downloaded(client: Any, version: Any) -> Iterator[Path]:
    """The version's files, in a temporary folder."""
    import mlflow.artifacts

    with tempfile.TemporaryDirectory(prefix="ddpm-version-") as folder:
        uri = client.get_model_version_download_uri(version.name, str(version.version))
        yield Path(
            mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=client.tracking_uri), "artifacts"
        )


def load_version(folder: Path, name: str) -> Model:
    """The model in a version's folder of files. Raises WrongInput where they are not ours, or damaged."""
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise WrongInput(
            f"model: {name} holds no {missing[0]}; it was not registered by ddpm, and nothing else is loaded"
        )
    return load_files(folder, name)


def load_files(folder: Path, name: str) -> Model:
    """The model in a folder with ENGINE_FILES. Raises WrongInput where they are of another format, or damaged."""
    from safetensors.torch import load as load_tensors

    from ddpm.model.unet import UNet

    try:
        known = json.loads((folder / "settings.json").read_text())
        _ = known["settings"], known["image_size"], known[WEIGHTS_TAG], known.get("format_version")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WrongInput(
            f"model: {name} is damaged: its settings.json is not what was written; register or export it again"
        ) from None
    if known.get("format_version") != FORMAT_VERSION:
        raise WrongInput(
            f"model: {name} has format_version {known.get('format_version')}; this release reads {FORMAT_VERSION}"
        )
    data = (folder / "weights.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != known[WEIGHTS_TAG]:
        raise WrongInput(
            f"model: {name} is damaged: its weights' sha256 is not the one in settings.json; register or export it again"
        )
    settings = pick(ModelSettings, known["settings"])
    net = UNet(settings, known["image_size"])
    net.load_state_dict(load_tensors(data))
    own = {name: known[name] for name in DRAWN_BY if name in known}  # earlier releases wrote the first two alone
    if (sampler := own.get("sampler", SAMPLERS[0])) not in SAMPLERS:
        raise WrongInput(
            f"model: {name} is drawn by the sampler {sampler!r}, which is not known here; name the module that registers it in $DDPM_EXTENSIONS"
        )
    drawing = DrawSettings(**{**asdict(suited(settings)), **own})
    origin = Origin(
        reference=name,
        checkpoint=known.get("checkpoint") or name,
        weights_sha256=known[WEIGHTS_TAG],
        images_seen=known.get("images_seen", 0),
        dataset_digest=known.get("dataset_digest"),
        settings=known["settings"],
    )
    return Model(net.eval(), settings, known["image_size"], drawing, origin)
