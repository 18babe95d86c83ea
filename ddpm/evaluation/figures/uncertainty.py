"""How far a figure can be trusted: its deviation, its noise floor, and what it would be with more pictures.

FID is biased: with n pictures it is too large by about a constant over n (Chong & Forsyth 2020,
https://arxiv.org/abs/1911.07023). So it stands beside what real pictures score at that n, and beside its own curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddpm.evaluation.figures.fidelity import FEW_FEATURES, Statistics, kid, kid_subset, quick_frechet, statistics
from ddpm.evaluation.figures.intervals import students_t
from ddpm.evaluation.figures.numbers import Z
from ddpm.randomness import generator

BOOTSTRAPS = {True: 50, False: 8}  # by whether the features are few
FLOOR_SPLITS = {True: 5, False: 1}
CURVE_POINTS = 6
CURVE_DRAWS = {True: 3, False: 1}


def bootstrap_fid(generated: Tensor, real: Statistics) -> float:
    """The standard deviation of FID over draws, with replacement, of as many generated pictures as there are.

    The real pictures are held fixed: they are part of the measurement, the same for everything that is compared.
    """
    draw = generator("cpu", "bootstrap")
    values = [
        quick_frechet(generated[torch.randint(len(generated), (len(generated),), generator=draw)], real)
        for _ in range(BOOTSTRAPS[generated.shape[1] <= FEW_FEATURES])
    ]
    return float(np.std(values, ddof=1))


@dataclass(frozen=True)
class Floor:
    """What n real pictures score against others. `measured_n`: how many there were; fewer than n: FID is extrapolated."""

    fid: float
    fid_std: float  # over splits; nan where there was one
    kid: float
    measured_n: int


def noise_floor(real: Tensor, n: int) -> Floor:
    """FID and KID of real pictures against disjoint real ones, brought to n pictures against all.

    FID's bias goes with 1/n of either side; KID has none.
    """
    n_real = len(real)
    one = min(n, n_real // 2)
    values = []
    for split in range(FLOOR_SPLITS[real.shape[1] <= FEW_FEATURES]):
        order = torch.randperm(n_real, generator=generator("cpu", "noise floor", split))
        a, b = real[order[:one]], real[order[one:]]
        values.append((quick_frechet(a, statistics(b)), kid(a, b, kid_subset(len(a), len(b)))[0]))
    scale = (1 / n + 1 / n_real) / (1 / one + 1 / (n_real - one))
    fids, kids = np.array(values).T
    spread = float(np.std(fids, ddof=1)) if len(fids) > 1 else math.nan
    return Floor(float(fids.mean()) * scale, spread * scale, float(kids.mean()), one)


def fid_curve(generated: Tensor, real: Statistics) -> list[tuple[int, float]]:
    """FID of growing numbers of the generated pictures, from a quarter of them to all: (n, FID)."""
    n, d = generated.shape
    first = max(2, n // 4, min(2 * d, n // 2))
    curve = []
    for size in np.linspace(first, n, CURVE_POINTS).round().astype(int).tolist():
        draws = 1 if size == n else CURVE_DRAWS[d <= FEW_FEATURES]
        chosen = [torch.randperm(n, generator=generator("cpu", "curve", size, draw))[:size] for draw in range(draws)]
        curve.append((size, float(np.mean([quick_frechet(generated[rows], real) for rows in chosen]))))
    return curve


def fid_at_infinity(curve: list[tuple[int, float]]) -> tuple[float, float]:
    """The intercept of FID over 1/n, and its standard deviation by the points' distance from the line.

    The points share pictures, so that deviation is too small by itself: add that of FID.
    """
    n, fid = np.array(curve).T
    design = np.stack([np.ones_like(n), 1 / n], axis=1)
    found, *_ = np.linalg.lstsq(design, fid, rcond=None)
    residual = fid - design @ found
    variance = float(residual @ residual) / (len(n) - 2)
    return float(found[0]), math.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])


@dataclass(frozen=True)
class Sides:
    """A figure against training pictures and against as many held-out ones; the interval of the difference, if known."""

    train: float
    held_out: float
    half: float  # of the difference's 95% interval; nan where there was only one set of training pictures


def against_both(values: list[float], held_out: float) -> Sides:
    """From the figures against several disjoint sets of training pictures, and the one against held-out ones.

    The training sets' spread is what chance does to such a set, so the held-out one may be off by as much.
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    few = students_t(len(values) - 1) if len(values) > 1 else Z  # so few values do not tell their own spread well
    return Sides(float(np.mean(values)), held_out, few * spread * math.sqrt(1 + 1 / len(values)))
