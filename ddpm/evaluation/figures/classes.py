"""What the logits of an extractor's classes say: the Inception Score, and the share of pictures that are recognised."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ddpm.evaluation.figures.fidelity import inception_score
from ddpm.evaluation.figures.sample import Drawn
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import InceptionScore, Recognisable

CONFIDENT = 0.9  # the probability above which a classifier recognises a picture


def score_of_draw(drawn: Drawn) -> float | None:
    """The Inception Score of one draw; None without logits."""
    return float(np.mean([inception_score(logits)[0] for logits in drawn.logits])) if drawn.logits else None


def score_of_draws(reference: Reference, draws: list[Drawn]) -> InceptionScore:
    """Of all draws, with its deviation over ten splits of each."""
    why = reference.sides[0].extractor.no_logits
    if why:
        return {"mean": None, "std": None, "of": reference.extractor, "why": why}
    found = [inception_score(logits) for drawn in draws for logits in drawn.logits]
    mean, std = np.mean(found, axis=0).tolist()
    return {"mean": mean, "std": std, "of": reference.extractor, "why": ""}


def recognisable(reference: Reference, draws: list[Drawn]) -> Recognisable | None:
    """The shares of generated and of real (held-out) pictures that a classifier of the data set is confident of."""
    if not reference.knows_classes:
        return None
    generated = [confident_share(logits, CONFIDENT) for drawn in draws for logits in drawn.logits]
    real = [confident_share(logits, CONFIDENT) for logits in reference.held_out_logits]
    return {"generated": float(np.mean(generated)), "real": float(np.mean(real))}


def confident_share(logits: Tensor, threshold: float) -> float:
    """The share of pictures, by their logits [n,classes], to which some class is given at least `threshold` probability."""
    return float((logits.softmax(1).amax(1) >= threshold).double().mean())
