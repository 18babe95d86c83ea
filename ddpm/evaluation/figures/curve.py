"""FID at growing n, and what it comes to at infinite n."""

from __future__ import annotations

import math

import numpy as np

from ddpm.evaluation.figures.sample import Drawn
from ddpm.evaluation.figures.uncertainty import fid_at_infinity, fid_curve
from ddpm.evaluation.reference import Reference
from ddpm.evaluation.report import CurvePoint


def curve_of(reference: Reference, drawn: Drawn, fid_std: float) -> tuple[list[CurvePoint], float | None, float | None]:
    """The curve, its value at infinite n, and that one's standard deviation: None where there are too few pictures."""
    curves = [
        fid_curve(features, side.statistics) for side, features in zip(reference.sides, drawn.features, strict=True)
    ]
    points = [(curves[0][i][0], float(np.mean([curve[i][1] for curve in curves]))) for i in range(len(curves[0]))]
    rows: list[CurvePoint] = [{"n": n, "fid": fid} for n, fid in points]
    if points[0][0] < 2 * drawn.features[0].shape[1]:  # below, the bias is no multiple of 1/n
        return rows, None, None
    value, std = fid_at_infinity(points)
    return rows, value, math.hypot(std, fid_std)
