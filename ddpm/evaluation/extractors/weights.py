"""Inception's weights: a file that is named, or the published one, downloaded once into the store."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import Outage, WrongInput
from ddpm.places import cache_folder, local_path
from ddpm.plain_files import read_plain, why
from ddpm.progress import Progress
from ddpm.settings import EvaluateSettings
from ddpm.store import FileStore, Missing, Store, open_object

INCEPTION_KEY = "weights/inception-2015-12-05.pth"
WEIGHTS_BYTES = 2**30  # that a file of weights has at most
INCEPTION_SHA256_PREFIX = "6726825d"  # stands in the file's published name


@dataclass(frozen=True)
class InceptionWeights:
    """A file of Inception's weights, and how far up they go: some files leave what lies above a layer at zero."""

    path: Path
    sha256: str
    top_layer: int  # 2048 or 768
    logits: bool  # whether the classes' layer has weights


def inception_weights(settings: EvaluateSettings, store: Store, progress: Progress) -> InceptionWeights:
    """A weights file on this disk: the one that is named, or the published one, downloaded once into the store.

    The published file is always checked; one that is named, where `weights_sha256` says what it must have.

    Raises: Outage where they cannot be downloaded; WrongInput, also where the file has no weights up to the layer, or
    holds anything but tensors: torch-fidelity itself would unpickle it.
    """
    weights, sha256 = settings.weights, settings.weights_sha256
    path = _fetch(weights) if weights else _published(store, progress)
    try:
        data = read_plain(path, WEIGHTS_BYTES)
    except OSError as problem:
        raise WrongInput(
            f"weights: {weights or path} cannot be read: {why(problem)}; name Inception's weights, or leave weights out"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise WrongInput(
            f"weights: {weights or INCEPTION_KEY} has sha256 {digest}, not {sha256} as weights_sha256 says"
        )
    state = _require_inception(data, weights or str(path))
    whole = all(
        bool(state[name].any()) for name in state if name.startswith("Mixed_7") and name.endswith("conv.weight")
    )
    found = InceptionWeights(path, digest, 2048 if whole else 768, whole and bool(state["fc.weight"].any()))
    if settings.layer > found.top_layer:
        raise WrongInput(
            f"layer: {weights or path} has weights up to layer {found.top_layer} only; give layer={found.top_layer}, or another file"
        )
    return found


def check_weights(weights: str) -> None:
    """Raise WrongInput for a weights file that is not there. Cheap: a URI is looked at when its turn comes."""
    if weights and "://" not in weights and not local_path(weights).is_file():
        raise WrongInput(
            f"weights: there is no file {weights}; name Inception's weights as torch-fidelity loads them, or leave weights out"
        )


def _fetch(weights: str) -> Path:
    check_weights(weights)
    if "://" not in weights:
        return local_path(weights)
    source, key = open_object(weights)
    if isinstance(source, FileStore):
        if not source.exists(key):
            raise Missing(f"weights: there is no object {weights}")
        return source.path(key)
    data = source.read(key)
    name = f"{hashlib.sha256(data).hexdigest()}.pth"
    FileStore(cache_folder()).create(name, data)
    return cache_folder() / name


def _published(store: Store, progress: Progress) -> Path:
    """The file of torch-fidelity's release, from the store, where the first use puts it."""
    if not store.exists(INCEPTION_KEY):
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        progress.say("downloading Inception's weights into the store, once (91 MB)")
        folder = tempfile.mkdtemp()
        try:
            path = Path(folder, "weights.pth")
            import torch

            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), INCEPTION_SHA256_PREFIX, progress=False)
            store.create(INCEPTION_KEY, path.read_bytes())
        except (OSError, RuntimeError) as problem:
            words = " ".join(str(problem).split())[:160]
            raise Outage(
                f"weights: Inception's could not be downloaded ({words}); fetch {URL_INCEPTION_V3} (sha256 {INCEPTION_SHA256_PREFIX}…) by hand, "
                f"and go on with SET='weights=/path/to/{URL_INCEPTION_V3.rpartition('/')[2]}' (--weights)"
            ) from None
        finally:
            shutil.rmtree(folder)
    data = store.read(INCEPTION_KEY)
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(INCEPTION_SHA256_PREFIX):
        raise WrongInput(
            f"{store.uri(INCEPTION_KEY)} is damaged (sha256 {digest[:12]}…); delete it, and it will be downloaded again"
        )
    return store.local(INCEPTION_KEY, digest)


def _require_inception(data: bytes, called: str) -> dict[str, Any]:
    """The file's tensors. Refuses a file that holds more than tensors, or other ones than Inception's."""
    import torch

    try:
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        known = {"Mixed_6e.branch1x1.conv.weight", "Mixed_7c.branch1x1.conv.weight", "fc.weight"} <= state.keys()
    except Exception:  # whatever a file of anything may make the loader raise: it is refused below
        known = False
    if not known:
        raise WrongInput(
            f"weights: {called} is no state dict of torch-fidelity's Inception-v3; give the file of its release, or leave weights out"
        )
    return state
