"""FID and KID against held-out pictures, and against as many training ones: whether a model fits what it has seen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ddpm.evaluation.figures.fidelity import kid, quick_frechet, statistics
from ddpm.evaluation.figures.sample import Drawn
from ddpm.evaluation.figures.uncertainty import Sides, against_both
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import Difference, HeldOut
from ddpm.randomness import generator

FEWEST = 16  # held-out pictures
SETS = 5  # of training pictures, each as large as the held-out set
SUBSETS = 20  # of KID against each of them


def held_out(reference: Reference, drawn: Drawn) -> HeldOut | None:
    """None where there are too few held-out pictures."""
    if len(reference.data.held_out) < FEWEST:
        return None
    size = min(len(reference.data.held_out), *(len(side.rows) for side in reference.sides))
    fids, kids = [], []
    for which, (side, features) in enumerate(zip(reference.sides, drawn.features, strict=True)):
        generated = statistics(features)
        order = torch.randperm(len(side.real), generator=generator("cpu", "held out", which))
        sets = [rows for rows in order.split(size) if len(rows) == size][:SETS]
        real = [*(side.real[rows] for rows in sets), side.held_out[:size]]
        fids.append([quick_frechet(chosen, generated) for chosen in real])
        kids.append([_quick_kid(features, chosen) for chosen in real])
    found = {"fid": _averaged(fids), "kid": _averaged(kids)}
    return {
        "n": size,
        "train": {name: sides.train for name, sides in found.items()},
        "held_out": {name: sides.held_out for name, sides in found.items()},
        "difference": {name: _difference(sides) for name, sides in found.items()},
    }


def _quick_kid(generated: Tensor, real: Tensor) -> float:
    subset = max(2, min(len(generated), len(real), 1000) // 2)
    return kid(generated, real, subset, SUBSETS)[0]


def _averaged(values: list[list[float]]) -> Sides:
    """Of several sides' figures; the last of each is against the held-out pictures."""
    mean = np.mean([row[: min(map(len, values)) - 1] + row[-1:] for row in values], axis=0).tolist()
    return against_both(mean[:-1], mean[-1])


def _difference(sides: Sides) -> Difference:
    value = sides.held_out - sides.train
    low, high = (None if math.isnan(sides.half) else end for end in (value - sides.half, value + sides.half))
    return {"difference": value, "low": low, "high": high}
