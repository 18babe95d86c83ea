"""Scores from 1 to 5 with their intervals, and whether two sets of them are apart."""

from __future__ import annotations

import math

import numpy as np

from ddpm.evaluation.figures.numbers import Z
from ddpm.evaluation.report import Mean, ToldApart
from ddpm.randomness import key

LOWEST, HIGHEST = 1, 5
BOOTSTRAPS = 1000
TOLD_APART = 0.8  # the AUC from which a judge is taken to see the difference


def mean_of(scores: list[int]) -> Mean | None:
    """mean, low and high (95%), and n; None of nothing.

    The spread is that of the scores and one 1 and one 5 besides, in the manner of Agresti and Coull's interval (1998):
    ten times the same answer is no proof that the eleventh will be the same.
    """
    if not scores:
        return None
    mean = float(np.mean(scores))
    half = Z * float(np.std([*scores, LOWEST, HIGHEST], ddof=1)) / math.sqrt(len(scores) + 2)
    return {
        "mean": mean, "low": max(float(LOWEST), mean - half), "high": min(float(HIGHEST), mean + half), "n": len(scores),
    }  # fmt: skip


def auc_of(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that one of `higher` is above one of `lower`, a tie counting half (Mann and Whitney's U over its maximum)."""
    from scipy.stats import rankdata

    n, m = len(higher), len(lower)
    u = rankdata(np.concatenate([higher, lower]))[:n].sum() - n * (n + 1) / 2
    return float(u / (n * m))


def told_apart(higher: list[int], lower: list[int]) -> ToldApart | None:
    """The AUC with its bootstrap interval, and whether it passes: at least 0.8, and above 0.5 beyond the interval."""
    if not higher or not lower:
        return None
    a, b = np.asarray(higher), np.asarray(lower)
    draw = np.random.default_rng(key("told apart"))
    drawn = [auc_of(draw.choice(a, len(a)), draw.choice(b, len(b))) for _ in range(BOOTSTRAPS)]
    value, (low, high) = auc_of(a, b), np.quantile(drawn, (0.025, 0.975))
    passed = value >= TOLD_APART and low > 0.5
    return {"value": value, "low": float(low), "high": float(high), "passed": bool(passed), "needed": TOLD_APART}
