"""A report, and two of them side by side, as a terminal shows them: warnings first."""

from __future__ import annotations

from collections.abc import Sequence

from ddpm.evaluation.figures.table import FIGURES
from ddpm.evaluation.page.tables import figure_rows
from ddpm.evaluation.page.verdict import verdict
from ddpm.evaluation.protocol import Compared, Judged
from ddpm.evaluation.report import Report

GRADES = {"good": "good", "fair": "fair", "bad": "poor", "unknown": "open"}  # as the page has them


def printed(report: Report) -> str:
    """A report as a person reads it."""
    rows = [("", "value", "95%", "real pictures have")]
    rows += [(row.name, row.value, row.interval, row.floor) for row in figure_rows(report)]
    pictures = report.get("pictures") or {}
    places = {"page": report.get("page"), "pictures": pictures.get("grid"), "closest": pictures.get("pairs")}
    return "\n".join(
        [
            *(f"warning: {warning}" for warning in report.get("warnings") or []),
            f"{report.get('metric', 'fid')}, {report.get('n', 'as many')} pictures",
            *_columns(rows),
            *(f"{found.title}: {GRADES[found.level]}. {found.text}" for found in verdict(report)),
            *(f"{name:9} {uri}" for name, uri in places.items() if uri),
        ]
    )


def side_by_side(found: Compared) -> str:
    """What `compare` found, as a person reads it."""
    a, b = found["a"], found["b"]
    warnings = {side: found[side].get("warnings") or [] for side in ("a", "b")}
    rows = [("", "A", "B", "B - A", "95%", "better")]
    for name in (name for name in FIGURES if name in found):
        change: Judged = found[name]
        better = {"a": "A", "b": "B"}.get(change["better"], "neither")
        low, high = change["low"], change["high"]
        between = "not known" if low is None or high is None else f"{low:+.3g} to {high:+.3g}"
        shown = FIGURES[name].named(a)
        rows.append((shown, f"{a[name]:.4g}", f"{b[name]:.4g}", f"{change['difference']:+.3g}", between, better))
    lines = [f"{a.get('metric', 'fid')}, {a.get('n', 'as many')} pictures each", *_columns(rows)]
    if floor := a.get("noise_floor"):
        distances = [figure for figure in FIGURES.values() if figure.distance]
        floors = (f"{figure.named(a)} {floor[figure.name]:.4g}{figure.floor_note(floor)}" for figure in distances)
        lines.append(f"noise floor: {', '.join(floors)}")
    return "\n".join(
        [
            *(f"warning: {warning}" for warning in warnings["a"] if warning in warnings["b"]),
            *(f"warning, A: {warning}" for warning in warnings["a"] if warning not in warnings["b"]),
            *(f"warning, B: {warning}" for warning in warnings["b"] if warning not in warnings["a"]),
            *lines,
        ]
    )


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
