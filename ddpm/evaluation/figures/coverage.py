"""Whether all kinds of pictures are drawn, and as often as they are in the data: by class, or by cluster of features."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddpm.evaluation.figures.intervals import share_interval
from ddpm.evaluation.figures.sample import Drawn
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import Coverage, KindShares
from ddpm.randomness import key

CLUSTERS = 10
EXAMPLES = 8  # of a cluster, that are shown
SIMULATIONS = 500
SEED_LIMIT = 2**32  # scikit-learn's


def coverage(reference: Reference, draws: list[Drawn]) -> Coverage:
    """By class where a classifier of the data set knows them, else by cluster of features."""
    if reference.knows_classes:
        labels = torch.cat([torch.stack(drawn.logits).softmax(2).mean(0).argmax(1) for drawn in draws])
        return by_class(labels, reference.data.train.labels, reference.data.classes)
    return by_cluster(torch.cat([drawn.features[0] for drawn in draws]), reference.sides[0].train)


def by_class(generated: Tensor, real: Tensor, names: list[str]) -> Coverage:
    """Shares of the classes `names`, from labels int64 [n] of generated and of real pictures."""
    return _compared("class", generated.numpy(), real.numpy(), names)


def by_cluster(generated: Tensor, real: Tensor, clusters: int = CLUSTERS) -> Coverage:
    """Shares of the real pictures' k-means clusters, from features float32 [n,d] of generated and of real pictures.

    Each row has `examples`, too: the numbers of the real pictures in the cluster's middle. Its name says nothing.
    """
    from sklearn.cluster import KMeans

    clusters = min(clusters, len(real))
    fitted = KMeans(clusters, n_init=1, random_state=key("clusters") % SEED_LIMIT).fit(real.numpy())
    names = [f"cluster {number + 1}" for number in range(clusters)]
    found = _compared("cluster", fitted.predict(generated.numpy()), fitted.labels_, names)
    apart = fitted.transform(real.numpy())
    for number, row in enumerate(found["rows"]):
        own = (fitted.labels_ == number).nonzero()[0]
        row["examples"] = own[apart[own, number].argsort(kind="stable")[:EXAMPLES]].tolist()
    return found


def _compared(by: Literal["class", "cluster"], generated: np.ndarray, real: np.ndarray, names: list[str]) -> Coverage:
    """by; rows of name, generated, low, high (95%) and real; missing: names drawn less than half as often as they
    should be, beyond the interval; distance: half the sum of the shares' differences (total variation), and by_chance,
    its mean were the pictures drawn from the real shares.
    """
    n = len(generated)
    counts = np.bincount(generated, minlength=len(names))
    expected = np.bincount(real, minlength=len(names)) / max(len(real), 1)
    drawn = np.random.default_rng(key("coverage")).multinomial(n, expected / expected.sum(), SIMULATIONS) / n
    rows: list[KindShares] = []
    missing = []
    for name, count, share in zip(names, counts.tolist(), expected.tolist(), strict=True):
        low, high = share_interval(count / n, n)
        rows.append({"name": name, "generated": count / n, "low": low, "high": high, "real": share})
        if high < share / 2:
            missing.append(name)
    return {
        "by": by,
        "rows": rows,
        "missing": missing,
        "distance": float(np.abs(counts / n - expected).sum() / 2),
        "by_chance": float(np.abs(drawn - expected).sum(axis=1).mean() / 2),
    }
