"""FID, KID and the Inception Score of features, by torch-fidelity's own functions.

FID: Heusel et al. 2017, https://arxiv.org/abs/1706.08500. KID: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401.
Inception Score: Salimans et al. 2016, https://arxiv.org/abs/1606.03498. Features are float32 [n,d].
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # at most, and at most half of either side
FEW_FEATURES = 512  # up to so many, a Fréchet distance takes milliseconds; of 2,048 it takes seconds


@dataclass(frozen=True)
class Statistics:
    """What FID sees of a set of features: mu float32 [d], sigma float64 [d,d]; not finite where the features are not."""

    mu: np.ndarray
    sigma: np.ndarray

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of sigma, float64 [d,d]."""
        values, vectors = torch.linalg.eigh(torch.from_numpy(self.sigma))
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def statistics(features: Tensor) -> Statistics:
    """The mean and covariance, as torch-fidelity has them."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(features)
    return Statistics(found["mu"], found["sigma"])


def frechet(a: Statistics, b: Statistics) -> float:
    """The Fréchet distance, as torch-fidelity has it. nan where it is not defined."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    if not (np.isfinite(a.sigma).all() and np.isfinite(b.sigma).all()):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = ({"mu": side.mu, "sigma": side.sigma} for side in (a, b))
        return float(fid_statistics_to_metric(*both, False)[KEY_METRIC_FID])


def quick_frechet(features: Tensor, other: Statistics) -> float:
    """The same distance by symmetric eigenvalues, for where it is taken many times: several times as fast.

    tr (A B)^1/2 is the sum of the roots of the eigenvalues of B^1/2 A B^1/2, or, where there are fewer pictures than
    features, of the small matrix X B X^T / (n - 1), with X the centred features. It differs from torch-fidelity's in
    rounding; where a covariance is singular, that rounding is theirs and may reach a thousandth.
    """
    x = features.double()
    n, d = x.shape
    mu = x.mean(0)
    x = x - mu
    sigma = torch.from_numpy(other.sigma)
    if n <= d:
        product, trace = x @ sigma @ x.T / (n - 1), x.square().sum() / (n - 1)
    else:
        mine = x.T @ x / (n - 1)
        product, trace = other.root @ mine @ other.root, mine.trace()
    if not bool(product.isfinite().all()):
        return math.nan
    cross = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
    apart = (mu - torch.from_numpy(other.mu)).square().sum()
    return float(apart + trace + sigma.trace() - 2 * cross)


def kid(a: Tensor, b: Tensor, subset: int, subsets: int = KID_SUBSETS) -> tuple[float, float]:
    """KID and the standard deviation of its mean over subsets, as torch-fidelity has it (its default seed).

    Subsets of one sample overlap, so their spread over the root of their number would be too small. What is given is
    their spread times the root of subset / n: the spread that disjoint subsets' mean would have.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    found = kid_features_to_metric(a, b, kid_subsets=subsets, kid_subset_size=subset, verbose=False)
    shrink = math.sqrt(subset / min(len(a), len(b)))
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD]) * shrink


def kid_subset(n: int, n_real: int) -> int:
    """The size of KID's subsets for so many pictures."""
    return max(2, min(KID_SUBSET_SIZE, n // 2, n_real // 2))


def inception_score(logits: Tensor) -> tuple[float, float]:
    """The Inception Score's mean and standard deviation over ten splits of logits [n,classes], as torch-fidelity has it."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    found = isc_features_to_metric(logits)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]
