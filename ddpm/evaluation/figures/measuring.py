"""The table's figures of a sample: generated pictures' features beside the real ones'."""

from __future__ import annotations

import math

from ddpm.evaluation.figures.fidelity import frechet, kid, statistics
from ddpm.evaluation.figures.sample import Sample, Value
from ddpm.evaluation.figures.uncertainty import bootstrap_fid


def fid(sample: Sample) -> float:
    """FID alone: its deviation takes longer. nan where a feature is not finite."""
    return frechet(statistics(sample.features), sample.side.statistics) if sample.finite else math.nan


def fid_with_std(sample: Sample) -> Value:
    """FID, and its deviation by bootstrap over the generated pictures."""
    if not sample.finite:
        return Value(math.nan, math.nan)
    return Value(fid(sample), bootstrap_fid(sample.features, sample.side.statistics))


def kid_with_std(sample: Sample) -> Value:
    """KID, and its deviation over subsets."""
    if not sample.finite:
        return Value(math.nan, math.nan)
    return Value(*kid(sample.features, sample.side.real, sample.reference.subset(len(sample.features))))


def precision(sample: Sample) -> Value:
    """The share of generated pictures that are among the real ones."""
    return Value(sample.precision_recall[0])


def recall(sample: Sample) -> Value:
    """The share of real pictures that are among the generated ones."""
    return Value(sample.precision_recall[1])
