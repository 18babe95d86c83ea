"""What an extractor is: a way from pictures to features, by a network that torch-fidelity knows.

Pictures go in as uint8 [n,3,h,w]; features come out as float32 [n,d], and in the same pass the logits of the classes
[n,c] where the network has some, on the CPU. Importing torch_fidelity takes ten seconds, so it is imported by what
needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddpm.device import keep_memory

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


@dataclass(frozen=True)
class Opened:
    """Extractors as they were opened for a data set. Figures by several are averaged."""

    metric: str  # what FID by them is called: "fid_" and more
    sides: list[tuple[Extractor, Tensor]]  # each with the rows, int64 [n], of the training split that it may be shown
    facts: Mapping[str, str | int | float]  # what names them in a measurement
    knows_classes: bool = False  # logits are of the data set's classes; it is then tried on pictures that lack some


def from_torch_fidelity(
    name: str, layer: int, path: Path, sha256: str, device: str, logits: str, no_logits: str = "", at_once: int = BATCH
) -> Extractor:
    """The network that torch-fidelity knows by `name`, with the weights of a file.

    Args:
        logits: its layer of classes, unless `no_logits` says why there is none.
        at_once: pictures that go through the network at once.
    """
    from torch_fidelity.utils import create_feature_extractor

    keep_memory(torch.device(device))
    wanted = [str(layer)] if no_logits else [str(layer), logits]
    network = create_feature_extractor(
        name, wanted, feature_extractor_weights_path=str(path), cuda=device.startswith("cuda"), verbose=False
    )
    # Left in torch's own memory layout: channels_last is 1.7 times as fast on two cores and moves FID by less than 1e-6,
    # but KID, the small difference of single-precision sums, by 1e-4.

    def extract(batch: Tensor) -> tuple[Tensor, Tensor | None]:
        parts = [network(part.to(device)) for part in batch.split(at_once)]
        features, *logits = (torch.cat([one.float().cpu() for one in found]) for found in zip(*parts, strict=True))
        return features, logits[0] if logits else None

    return Extractor(name, layer, sha256, extract, no_logits)
