"""How pictures are measured."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.fields import Typed, setting
from ddpm.settings.words import LARGEST_SEED

EXTRACTORS = ["inception", "classifier"]  # ddpm.evaluation.extractors.table has them; `register` adds to them
INCEPTION_LAYERS = (64, 192, 768, 2048)


@dataclass(frozen=True)
class EvaluateSettings(Typed):
    """How generated pictures are measured."""

    extractor: str = setting(
        "inception",
        "what turns pictures into features: Inception-v3, or a classifier by the set's own labels",
        choices=EXTRACTORS,
    )
    layer: int = setting(2048, "Inception's feature layer; the classifier has one layer only", choices=INCEPTION_LAYERS)
    weights: str = setting("", "Inception's weights, a path or URI; empty: downloaded once into the store", place=True)
    weights_sha256: str = setting(
        "",
        "digest that the weights file must have; empty: any file, and its digest is in the protocol",
        pattern="([0-9a-f]{64})?",
        form="64 hexadecimal digits, or empty",
    )
    # Not `n`, which is false to whoever reads YAML 1.1, kubectl for one.
    evaluate_n: int = setting(0, "generated pictures", low=16, high=10**8, zero="as many as training pictures", was="n")
    sample_seed: int = setting(0, "seed of the first picture; the others' follow it", low=0, high=LARGEST_SEED)
    seeds: int = setting(
        1,
        "draws of evaluate_n pictures, each from seeds of its own; figures are their means, with their spread",
        low=1,
        high=100,
    )
    copying_gate: float = setting(
        0.05, "no version is promoted of which surely a larger share of pictures are copies; 1: any may", low=0, high=1
    )
    noise_gate: float = setting(
        0.75,
        "how far from real pictures a model's first champion must stay below, in shares of the way to noise, by KID: 0 as real ones are, 1 as noise is; 1: any may be",
        low=0.01,
        high=1,
    )
    lineage_gate: float = setting(
        0.1,
        "the least share of pictures that the data sets of a version and of the champion have in common, for the two to be measured against each other",
        low=0,
        high=1,
        zero="any two are, and the log says so",
    )
