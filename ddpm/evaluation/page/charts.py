"""Small charts as inline SVG. Their colours are the page's (CSS classes), so that they suit a dark one too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 10, 38  # at the right for half of the last number
MOST_TICKS = 6
MOST_POINTS = 240


@dataclass(frozen=True)
class Line:
    """A curve: its name and points (x, y). Points that are not numbers, or not above 0 on a logarithmic axis, are left out."""

    name: str
    points: Sequence[tuple[float, float]]


def curves(
    lines: Sequence[Line], x: str, y: str, label: str, log_x: bool = False, log_y: bool = False, level: float | None = None, level_name: str = "",
) -> Markup:  # fmt: skip
    """Curves over a common pair of axes, and a dashed `level` across. Empty where there is nothing to draw."""
    kept = [(line.name, _usable(line.points, log_x, log_y)) for line in lines]
    kept = [(name, points) for name, points in kept if points]
    if not kept:
        return Markup("")
    xs = [point[0] for _, points in kept for point in points]
    ys = [point[1] for _, points in kept for point in points] + ([level] if level is not None else [])
    at_x, x_ticks = _axis(xs, LEFT, WIDTH - RIGHT, log_x)
    at_y, y_ticks = _axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    parts = []
    for value in y_ticks:
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(value):.1f}" y2="{at_y(value):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 5}" y="{at_y(value) + 3.5:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in x_ticks:
        parts.append(
            f'<text x="{at_x(value):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{_short(value)}</text>'
        )
    if level is not None:
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(level):.1f}" y2="{at_y(level):.1f}"><title>{escape(level_name)} {_short(level)}</title></line>'
        )
    for number, (_, points) in enumerate(kept):
        path = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="curve c{number}" points="{path}"/>')
        if len(points) <= 16:
            parts += [
                f'<circle class="dot c{number}" cx="{at_x(a):.1f}" cy="{at_y(b):.1f}" r="2.5"/>' for a, b in points
            ]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    parts.append(
        f'<text transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    legend = [(f"c{number}", name) for number, (name, _) in enumerate(kept)]
    if level is not None:
        legend.append(("dashed", level_name))
    keys = "".join(f'<span><i class="{mark}"></i>{escape(name)}</span>' for mark, name in legend)
    drawing = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    return Markup(f'{drawing}<p class="legend">{keys}</p>')


def _usable(points: Sequence[tuple[float, float]], log_x: bool, log_y: bool) -> list[tuple[float, float]]:
    found = [
        (float(a), float(b))
        for a, b in points
        if a is not None
        and b is not None
        and math.isfinite(a)
        and math.isfinite(b)
        and not (log_x and a <= 0)
        and not (log_y and b <= 0)
    ]
    step = math.ceil(len(found) / MOST_POINTS) or 1
    return found[::-step][::-1]  # the last one stays


def _axis(values: Sequence[float], start: float, end: float, log: bool) -> tuple[Callable[[float], float], list[float]]:
    """Where a value lies, and the values to name."""
    low, high = min(values), max(values)
    if log:
        ticks = _logarithmic(low, high)
        bottom, height = math.log10(ticks[0]), math.log10(ticks[-1] / ticks[0])
        return lambda value: start + (end - start) * (math.log10(value) - bottom) / height, ticks
    if high == low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [step * number for number in range(first, last + 1)]
    return lambda value: start + (end - start) * (value - ticks[0]) / (ticks[-1] - ticks[0]), ticks


def _logarithmic(low: float, high: float) -> list[float]:
    """The values to name from at or below `low` to at or above `high`: 1, 2, 5, 10 … or, where those are too many, powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    from_ = max([i for i, value in enumerate(fine) if value <= low], default=0)
    to = next((i for i, value in enumerate(fine) if value >= high), len(fine) - 1)
    to = max(to, from_ + 1)
    if to - from_ < MOST_TICKS:
        return fine[from_ : to + 1]
    every = max(1, len(powers) // 4)
    return [10.0**power for power in range(powers[0], powers[-1] + every, every)]


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
