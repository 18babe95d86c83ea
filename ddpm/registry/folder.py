"""The folder of files that is a model: of a registered version, or one that was exported.

    weights.safetensors   the averaged weights
    settings.json         the settings of the network and of its training, picture size, how it draws, digests
    guide.safetensors, guide.json   the same of the weaker model that guides it, where there is one
    report.json           of a version, and of one that was exported: figures with their protocol
    provenance.json       of a version that was exported: where it comes from (exported.py)
    sample.json, sample.safetensors, sample.png   of a version: its recorded sample (sample.py)
    card.md               of a version, and of a Space's model: what it is, in words; README.md of any other exported one
    files.json            of a version: the digest of each other file

The digests that count are kept elsewhere, as tags of the version in MLflow: who writes other weights and another digest
beside them is found out. Versions of earlier releases have a tag for their weights alone, and no files.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar, cast

import torch
from safetensors.torch import save as save_tensors

from ddpm.errors import WrongInput
from ddpm.evaluation.report import Report
from ddpm.model.model import Model, Origin, suited
from ddpm.registry.catalogue import FILES_TAG, WEIGHTS_TAG
from ddpm.settings import FORMAT_VERSION, SAMPLERS, DrawSettings, ModelSettings, pick
from ddpm.store import Damaged
from ddpm.store.reading import parse_json, parse_tensors, read_file

WEIGHTS, SETTINGS, REPORT, LIST = "weights.safetensors", "settings.json", "report.json", "files.json"
GUIDE = ("guide.safetensors", "guide.json")
CARD, GRID = "card.md", "sample.png"
ENGINE_FILES = (WEIGHTS, SETTINGS)  # what an exported folder holds too
FILES = (*ENGINE_FILES, REPORT)
DRAWN_BY = ("sampler", "sampling_steps", "churn", "guidance")  # of DrawSettings, what is a model's own
RIGHT = "register or export it again"
AGAIN = "delete that version in MLflow, and register its checkpoint again"
T = TypeVar("T")


class ModelFacts(TypedDict):
    """settings.json."""

    format_version: int
    settings: dict[str, Any]
    image_size: int
    weights_sha256: str
    sampler: NotRequired[str]
    sampling_steps: NotRequired[int]
    churn: NotRequired[float]
    guidance: NotRequired[float]
    images_seen: NotRequired[int]
    dataset_digest: NotRequired[str | None]
    checkpoint: NotRequired[str | None]


class FileList(TypedDict):
    """files.json."""

    format_version: int
    sha256: dict[str, str]


class _Protocol(TypedDict):
    measurement: dict[str, Any]
    generation: NotRequired[dict[str, Any] | None]


class _Copying(TypedDict):
    share: float
    share_held_out: NotRequired[float | None]


class _Floor(TypedDict, total=False):
    fid: float | None
    kid: float | None
    precision: float | None
    recall: float | None


class _ReadReport(TypedDict):
    """report.json, as far as a card and a server tell of it; figures that were not finite are null, and an early
    release's may have no n."""

    n: NotRequired[int]
    metric: NotRequired[str]
    fid: float | None
    fid_std: float | None
    kid: float | None
    kid_std: float | None
    precision: NotRequired[float | None]
    recall: NotRequired[float | None]
    intervals: NotRequired[dict[str, list[float | None] | None] | None]
    noise_floor: NotRequired[_Floor | None]
    copying: NotRequired[_Copying | None]
    protocol: _Protocol


@dataclass(frozen=True)
class Folder:
    """A folder whose files are read through one door: each against its digest, as far as one is known."""

    path: Path
    name: str  # for messages
    sha256: Mapping[str, str]
    right: str = RIGHT

    def read(self, file: str) -> bytes:
        """Raises Missing or Damaged, with what to do."""
        return read_file(self.path / file, self._called(file), self.right, self.sha256.get(file))

    def json(self, file: str, kind: type[T]) -> T:
        return parse_json(self.read(file), kind, self._called(file), self.right)

    def text(self, file: str) -> str:
        """What is written in it; signs that are none of UTF-8 are marked."""
        return self.read(file).decode(errors="replace")

    def has(self, file: str) -> bool:
        return (self.path / file).is_file()

    def lists(self, file: str) -> bool:
        """Whether the version came with this file, be it there now or not."""
        return file in self.sha256

    def _called(self, file: str) -> str:
        return f"model: {self.name} is not whole: its {file}"


def open_folder(path: Path, name: str, tags: Mapping[str, str] | None = None) -> Folder:
    """A model's folder, with the digests that its tags in MLflow name; without tags, those of its own list."""
    known, right = dict(tags or {}), AGAIN if tags else RIGHT
    digests: dict[str, str] = {}
    folder = Folder(path, name, {LIST: known[FILES_TAG]} if FILES_TAG in known else {}, right)
    if FILES_TAG in known or folder.has(LIST):
        digests = folder.json(LIST, FileList)["sha256"]
    if WEIGHTS_TAG in known:
        digests = {**digests, WEIGHTS: known[WEIGHTS_TAG]}
    return Folder(path, name, digests, right)


def report_in(folder: Folder) -> Report:
    """Its report.json. Raises Missing where there is none, Damaged for what is no report."""
    return cast(Report, folder.json(REPORT, _ReadReport))


def list_of(contents: Mapping[str, bytes]) -> FileList:
    """files.json of a version that holds these."""
    return {
        "format_version": FORMAT_VERSION,
        "sha256": {file: hashlib.sha256(data).hexdigest() for file, data in sorted(contents.items())},
    }


def described(model: Model, dtype: torch.dtype = torch.float32) -> tuple[bytes, bytes]:
    """A model as two of a folder's files: its weights, in this type, and what one must know of them."""
    data = save_tensors({name: tensor.to(dtype).contiguous() for name, tensor in model.net.state_dict().items()})
    origin = model.origin
    facts = {
        "format_version": FORMAT_VERSION,
        "settings": {**origin.settings, **asdict(model.settings)},
        "image_size": model.image_size,
        **{name: getattr(model.drawing, name) for name in DRAWN_BY},
        "images_seen": origin.images_seen,
        "dataset_digest": origin.dataset_digest,
        "checkpoint": origin.checkpoint,
        WEIGHTS_TAG: hashlib.sha256(data).hexdigest(),
    }
    return data, json.dumps(facts, indent=1, sort_keys=True).encode()


def load_version(path: Path, name: str, tags: Mapping[str, str] | None = None) -> Model:
    """The model in a version's folder of files. Raises WrongInput where they are not ours, or damaged."""
    missing = [file for file in FILES if not (path / file).is_file()]
    if missing and WEIGHTS_TAG not in (tags or {}):
        raise WrongInput(
            f"model: {name} holds no {missing[0]}; it was not registered by ddpm, and nothing else is loaded"
        )
    return load_files(path, name, tags)


def load_files(path: Path, name: str, tags: Mapping[str, str] | None = None) -> Model:
    """The model in a folder with ENGINE_FILES. Raises WrongInput where they are of another format, or damaged."""
    folder = open_folder(path, name, tags)
    model = _read_model(folder, name, *ENGINE_FILES)
    if not any(folder.has(file) or folder.lists(file) for file in GUIDE):
        return model
    return model.guided_by(_read_model(folder, f"{name}, its guide", *GUIDE))


def _read_model(folder: Folder, name: str, weights: str, described: str) -> Model:
    """The model in two of a folder's files: weights, and what describes them."""
    from ddpm.model.unet import UNet

    known = folder.json(described, ModelFacts)
    if known["format_version"] != FORMAT_VERSION:
        raise WrongInput(
            f"model: {name} has format_version {known['format_version']}; this release reads {FORMAT_VERSION}"
        )
    what = f"model: {folder.name} is not whole: its {weights}"
    tensors = parse_tensors(folder.read(weights), what, folder.right, known["weights_sha256"])
    settings = pick(ModelSettings, known["settings"])
    net = UNet(settings, known["image_size"])
    try:
        net.load_state_dict(tensors)
    except RuntimeError:  # other names or shapes
        raise Damaged(f"{what} is of another network than its {described}; {folder.right}") from None
    facts: Mapping[str, Any] = known
    own = {field: facts[field] for field in DRAWN_BY if field in facts}  # earlier releases wrote the first two alone
    if (sampler := own.get("sampler", SAMPLERS[0])) not in SAMPLERS:
        raise WrongInput(
            f"model: {name} is drawn by the sampler {sampler!r}, which is not known here; name the module that registers it in $DDPM_EXTENSIONS"
        )
    drawing = DrawSettings(**{**asdict(suited(settings)), **own})
    origin = Origin(
        reference=name,
        checkpoint=known.get("checkpoint") or name,
        weights_sha256=known["weights_sha256"],
        images_seen=known.get("images_seen", 0),
        dataset_digest=known.get("dataset_digest"),
        settings=known["settings"],
    )
    return Model(net.eval(), settings, known["image_size"], drawing, origin)
