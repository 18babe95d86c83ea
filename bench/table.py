"""What a benchmark finds: rows of figures beside those of its peers."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is above 1 where ours is better than the best peer's; None where there is no peer."""

    bench: str
    metric: str
    unit: str
    ours: float
    peers: dict[str, float] = field(default_factory=dict)
    ratio: float | None = None


def in_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Call each piece of work once a round, in an order that rotates; returns what each call returned, by name.

    A machine that is shared is fast one minute and slow the next: only figures of the same round compare.
    """
    found: Rates = {name: [] for name in work}
    names = list(work)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(work[name]())
    return found


def rate_row(bench: str, metric: str, unit: str, rates: Rates, ours: str = "ours") -> Row:
    """A row of rates, where more is better: the medians, and the median over the rounds of ours to the best peer's."""
    peers = {name: statistics.median(found) for name, found in rates.items() if name != ours}
    ratio = None
    if peers:
        best = max(peers, key=lambda name: peers[name])
        ratio = statistics.median(mine / other for mine, other in zip(rates[ours], rates[best], strict=True))
    return Row(bench, metric, unit, statistics.median(rates[ours]), peers, ratio)


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    cells = [["bench", "metric", "unit", "ours", "peers", "ratio"]]
    for row in rows:
        peers = "  ".join(f"{name} {value:.4g}" for name, value in row.peers.items())
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells.append([row.bench, row.metric, row.unit, f"{row.ours:.4g}", peers, ratio])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
