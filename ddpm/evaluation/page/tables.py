"""The rows of the page's tables: figures, and what was found of copying."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.evaluation.figures.numbers import number, share
from ddpm.evaluation.figures.table import FIGURES, Figure
from ddpm.evaluation.page.verdict import spaces
from ddpm.evaluation.report import THIRD, Closer, Copying, Nearness, Report, number_in


@dataclass(frozen=True)
class Row:
    """A figure: its value, 95% interval and noise floor as text, and what it means."""

    name: str
    value: str
    interval: str
    floor: str
    meaning: str


def figure_rows(report: Report) -> list[Row]:
    """The table of figures."""
    return [row for figure in FIGURES.values() if (row := _row(figure, report))]


def _row(figure: Figure, report: Report) -> Row | None:
    found = figure.reading(report)
    if found is None:
        return None
    interval = "" if found.low is None or found.high is None else f"{number(found.low)} to {number(found.high)}"
    beside = figure.shown(found.beside) if figure.distance or found.beside is not None else ""
    meaning = found.meaning or f"{figure.meaning}; {figure.direction}"
    return Row(figure.named(report), figure.shown(found.value), interval, beside + found.note, meaning)


@dataclass(frozen=True)
class CopyingRow:
    """A share of the generated pictures, and the held-out ones' beside it, in one space."""

    space: str
    text: str
    generated: str
    held_out: str


def copying_rows(report: Report) -> list[CopyingRow]:
    """By space: generated pictures beside held-out ones."""
    rows = []
    for space, facts in spaces(report.get("copying") or Copying()):
        generated, held_out = facts.get("generated") or Nearness(), facts.get("held_out") or Nearness()
        figures = {
            "nearer_to_train": "nearer to training than to as many held-out pictures (50%: no copying)",
            "below_third": "nearest training picture less than a third as far as the second nearest",
        }
        if facts.get("threshold") != THIRD:
            figures["below_threshold"] = (
                f"nearest less than {number(facts.get('threshold'))} as far, which few held-out pictures are below"
            )
        for figure, text in figures.items():
            rows.append(
                CopyingRow(space, text, share(number_in(generated, figure)), share(number_in(held_out, figure)))
            )
        text = "nearer to training than a held-out picture is (50%: no copying; less: far from both)"
        closer = facts.get("closer") or Closer()
        value = share(closer.get("share"))
        if "low" in closer:
            value += f" (95%: {closer['low']:.1%} to {closer['high']:.1%})"
        rows.append(CopyingRow(space, text, value, "50%"))
    return rows


def widest(report: Report) -> float:
    """The widest share of the table of coverage."""
    coverage = report.get("coverage")
    rows = coverage["rows"] if coverage else []
    return max([max(row["high"], row["real"]) for row in rows], default=0) or 1.0
