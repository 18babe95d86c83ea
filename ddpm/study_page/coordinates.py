"""Parallel coordinates: a line a trial through what it tried, to its FID."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT, SIDE, TOP, BOTTOM = 720, 240, 60, 34, 16
LOGARITHMIC = ("lr",)


def parallel_coordinates(rows: Sequence[Mapping[str, str | float]], best: int) -> Markup:
    """Rows of the same names, the last the figure; the best one stands out. Empty of fewer than two rows."""
    if len(rows) < 2:
        return Markup("")
    names = list(rows[0])
    parts, places = [], []
    for number, name in enumerate(names):
        x = SIDE + (WIDTH - 2 * SIDE) * number / (len(names) - 1)
        at, ticks = _axis([row[name] for row in rows], name)
        places.append((x, at))
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 16}" text-anchor="middle">{escape(name)}</text>')
        beside = f'x="{x + 6:.1f}"' if number == len(names) - 1 else f'x="{x - 6:.1f}" text-anchor="end"'
        parts += [f'<text {beside} y="{y + 3.5:.1f}">{escape(word)}</text>' for word, y in ticks]
    for number in [*(n for n in range(len(rows)) if n != best), best]:  # the best above the others
        points = " ".join(f"{x:.1f},{at(rows[number][name]):.1f}" for name, (x, at) in zip(names, places, strict=True))
        parts.append(f'<polyline class="curve trial{" best" * (number == best)}" points="{points}"/>')
    return Markup(
        f'<svg role="img" aria-label="What each trial tried, and its FID" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    )


def _axis(values: Sequence[str | float], name: str) -> tuple[Callable[[str | float], float], list[tuple[str, float]]]:
    """Where a value lies, and the words beside the axis."""
    top, bottom = TOP + 6, HEIGHT - BOTTOM - 6
    if isinstance(values[0], str):
        order = sorted(set(map(str, values)))
        step = (bottom - top) / max(1, len(order) - 1)
        where = {value: top + step * number for number, value in enumerate(order)}
        return lambda value: where[str(value)], list(where.items())
    numbers = [math.log(float(value)) if name in LOGARITHMIC else float(value) for value in values]
    low, high = min(numbers), max(numbers)

    def at(value: str | float) -> float:
        number = math.log(float(value)) if name in LOGARITHMIC else float(value)
        return bottom - (bottom - top) * (number - low) / ((high - low) or 1)

    ends = dict.fromkeys((min(map(float, values)), max(map(float, values))))
    return at, [(f"{value:.3g}", at(value)) for value in ends]
