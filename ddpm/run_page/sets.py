"""Both sets of a run with two, side by side: a row a figure, for the terminal and the page alike."""

from __future__ import annotations

from typing import NamedTuple

from ddpm.evaluation.figures.numbers import number, plus_minus
from ddpm.evaluation.figures.table import DECISIVE, FIGURES
from ddpm.evaluation.protocol import drawn_in_words
from ddpm.evaluation.report import number_in
from ddpm.plan import Plan
from ddpm.summary import Summary, SummedSet


class Row(NamedTuple):
    name: str
    first: str
    second: str


def both_sets(summary: Summary, plan: Plan) -> list[Row]:
    """The rows, a dash where a set has not come so far; the first one has the sets' names. None where there is one set."""
    if not plan.transfer.transfer_source or not (second := summary.get("transfer")):
        return []
    sets: tuple[SummedSet, SummedSet] = (summary, second)
    plans = (plan, plan.second())
    weights = "the winner's weights" if second["begun_from"] == "winner" else second["begun_from"]
    rows = [
        Row("data set", *(each.ingest.dataset_name for each in plans)),
        Row("pictures", *(_pictures(one, each) for one, each in zip(sets, plans, strict=True))),
        Row("begun from", f"trial {summary['best']}" if "best" in summary else "–", weights),
        Row("trained on", *(_trained_on(one) for one in (summary.get("images_seen"), second.get("images_seen")))),
    ]
    for name in DECISIVE:
        rows.append(Row(FIGURES[name].title, *(_figure(one, name) for one in sets)))
        rows.append(Row(f"{FIGURES[name].title} above its noise floor", *(_above(one, name) for one in sets)))
    rows.append(
        Row("drawn by", *(drawn_in_words(one.get("protocol", {}).get("generation", {})) or "–" for one in sets))
    )
    return [*rows, Row("measured by", *map(_measured_by, sets)), Row("version", *map(_version, sets))]


def _pictures(one: SummedSet, plan: Plan) -> str:
    size = plan.ingest.image_size
    return f"{one['dataset']['n']:,} at {size}×{size}" if "dataset" in one else "–"


def _trained_on(images: int | None) -> str:
    return "–" if images is None else f"{images:,}"


def _figure(one: SummedSet, name: str) -> str:
    final = one.get("final", {})
    value = number_in(final, name)
    if value is None:
        return "–"
    return f"{plus_minus(value, number_in(final, f'{name}_std'))}, noise floor {number(number_in(final['noise_floor'], name))}"


def _above(one: SummedSet, name: str) -> str:
    final = one.get("final", {})
    value, floor = number_in(final, name), number_in(final.get("noise_floor", {}), name)
    return "–" if value is None or floor is None else number(value - floor)


def _measured_by(one: SummedSet) -> str:
    measured = one.get("protocol", {}).get("measurement", {})
    if not measured:
        return "–"
    return f"{measured.get('extractor')}, layer {measured.get('layer')}, n {measured.get('n'):,}"


def _version(one: SummedSet) -> str:
    if "model" not in one:
        return "–"
    model = one["model"]
    return f"{model['name']} {model['version']} ({', '.join(model['aliases']) or 'no alias'})"
