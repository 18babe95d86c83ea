"""Feature extractors, all of them torch-fidelity's or registered with it.

Pictures go in as uint8 [n,3,h,w]; features come out as float32 [n,d], and in the same pass the logits of the classes
[n,c] where the network has some, on the CPU. Importing torch_fidelity takes ten seconds, so it is imported by what
needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm.device import keep_memory, threads_for
from ddpm.errors import WrongInput
from ddpm.evaluation.extractors.classifier import FEATURES, WIDTH, Classifier
from ddpm.evaluation.extractors.weights import inception_weights
from ddpm.progress import Progress
from ddpm.store import Store

CLASSIFIER = "ddpm-classifier"  # the name under which torch-fidelity knows it
INCEPTION = "inception-v3-compat"
LOGITS = {CLASSIFIER: "logits", INCEPTION: "logits_unbiased"}  # as torch-fidelity's Inception Score takes them
BATCH = 64


@dataclass(frozen=True)
class Extractor:
    """A way from pictures to features, and what names it in a protocol."""

    name: str
    layer: int
    weights_sha256: str
    extract: Callable[[Tensor], tuple[Tensor, Tensor | None]]  # uint8 [b,3,h,w] to float32 [b,d] and [b,classes]
    no_logits: str = ""  # why there are none, where there are none

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """float32 [n,d] of uint8 [n,3,h,w], in batches of one size so that a picture's features are its own."""
        return torch.cat([self.extract(batch)[0] for batch in images.split(BATCH)])

    @torch.inference_mode()
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Both, float32 [n,d] and [n,classes], in one pass; None for logits that the weights cannot give."""
        features, logits = zip(*(self.extract(batch) for batch in images.split(BATCH)), strict=True)
        return torch.cat(features), None if self.no_logits else torch.cat(logits)


def register_classifier() -> None:
    """Let torch-fidelity's own functions use the classifier by its name; its weights are a safetensors file."""
    from torch_fidelity import register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if CLASSIFIER in FEATURE_EXTRACTORS_REGISTRY:
        return

    class ClassifierExtractor(FeatureExtractorBase):
        def __init__(
            self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **others: Any
        ) -> None:
            super().__init__(name, features_list)
            if feature_extractor_weights_path is None:
                raise WrongInput(f"{CLASSIFIER}: give feature_extractor_weights_path, a classifier's safetensors file")
            weights = load_file(feature_extractor_weights_path)
            self.network = Classifier(len(weights["head.bias"]))
            self.network.load_state_dict(weights)
            self.requires_grad_(False)
            self.eval()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (str(FEATURES), LOGITS[CLASSIFIER])

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS[CLASSIFIER] if metric == "isc" else str(FEATURES)

        @staticmethod
        def can_be_compiled() -> bool:
            return True

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 8, 8, dtype=torch.uint8)

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            with threads_for(WIDTH, input.device):
                features, logits = self.network.features_and_logits(input)
            found = {str(FEATURES): features, LOGITS[CLASSIFIER]: logits}
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor(CLASSIFIER, ClassifierExtractor)


def _create(name: str, layer: int, path: Path, sha256: str, device: str, no_logits: str = "") -> Extractor:
    from torch_fidelity.utils import create_feature_extractor

    keep_memory(torch.device(device))
    wanted = [str(layer)] if no_logits else [str(layer), LOGITS[name]]
    network = create_feature_extractor(
        name, wanted, feature_extractor_weights_path=str(path), cuda=device.startswith("cuda"), verbose=False
    )
    # Left in torch's own memory layout: channels_last is 1.7 times as fast on two cores and moves FID by less than 1e-6,
    # but KID, the small difference of single-precision sums, by 1e-4.

    def extract(batch: Tensor) -> tuple[Tensor, Tensor | None]:
        features, *logits = (found.float().cpu() for found in network(batch.to(device)))
        return features, logits[0] if logits else None

    return Extractor(name, layer, sha256, extract, no_logits)


def classifier_extractors(sha256s: list[str], store: Store, device: str) -> list[Extractor]:
    """The published classifiers as extractors."""
    register_classifier()
    return [
        _create(CLASSIFIER, FEATURES, store.local(f"classifiers/{sha256}.safetensors", sha256), sha256, device)
        for sha256 in sha256s
    ]


def inception_extractor(
    layer: int, weights: str, sha256: str, store: Store, device: str, progress: Progress
) -> Extractor:
    """Inception-v3 as FID defines it (Heusel et al. 2017), from a weights file, or from the one in the store.

    Raises WrongInput where the file has no weights up to the layer.
    """
    found = inception_weights(weights, sha256, store, progress)
    if layer > found.top_layer:
        raise WrongInput(
            f"layer: {weights} has weights up to layer {found.top_layer} only; give layer={found.top_layer}, or another file"
        )
    no_logits = "" if found.logits else f"the weights (sha256 {found.sha256[:12]}…) have no layer of classes"
    return _create(INCEPTION, layer, found.path, found.sha256, device, no_logits)
