"""Inception-v3 as FID defines it (Heusel et al. 2017, https://arxiv.org/abs/1706.08500), up to one of its layers."""

from __future__ import annotations

import torch

from ddpm.data.dataset import PictureSet
from ddpm.evaluation.extractors.features import BATCH, Opened, from_torch_fidelity
from ddpm.evaluation.extractors.weights import inception_weights
from ddpm.progress import Progress
from ddpm.settings import EvaluateSettings
from ddpm.store import Store

NAME = "inception-v3-compat"  # torch-fidelity's
LOGITS = "logits_unbiased"  # as torch-fidelity's Inception Score takes them
# No slower than 64, with the same bits, and half the memory: of 299x299 pixels 64 pictures take gigabytes.
AT_ONCE_ON_A_CPU = 16


def open_inception(
    settings: EvaluateSettings, data: PictureSet, store: Store, device: str, progress: Progress
) -> Opened:
    """Inception from a weights file, or from the one in the store; it may be shown every training picture.

    Raises WrongInput where the file has no weights up to the layer.
    """
    found, layer = inception_weights(settings, store, progress), settings.layer
    no_logits = "" if found.logits else f"the weights (sha256 {found.sha256[:12]}…) have no layer of classes"
    at_once = AT_ONCE_ON_A_CPU if device == "cpu" else BATCH
    extractor = from_torch_fidelity(NAME, layer, found.path, found.sha256, device, LOGITS, no_logits, at_once)
    facts: dict[str, str | int | float] = {"extractor": NAME, "layer": layer, "weights_sha256": found.sha256}
    return Opened(f"fid_{layer}", [(extractor, torch.arange(len(data.train)))], facts)
