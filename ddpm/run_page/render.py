"""A run as one page: pictures, verdict, trials, the choice, figures, cost, and the commands to go on.

It holds all of itself, is made of the run's summary and its report, and shows of a failed run what there is of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from markupsafe import Markup

from ddpm.cost import Cost, hours_in_words, in_words, saved_in_words
from ddpm.evaluation.figures.numbers import distance_name, duration, number, plus_minus
from ddpm.evaluation.figures.table import DECISIVE
from ddpm.evaluation.page.tables import figure_rows
from ddpm.evaluation.page.verdict import verdict
from ddpm.evaluation.protocol import drawn_in_words
from ddpm.evaluation.report import Report
from ddpm.page.render import data_uri, template
from ddpm.run import Run
from ddpm.run_page.going_on import Command, going_on, reference, runs_link
from ddpm.run_page.sets import both_sets
from ddpm.store import Missing, read_object
from ddpm.summary import (
    ALL_STEPS,
    Summary,
    SummedFinalist,
    SummedTrial,
    gather,
    most_telling,
    network,
    not_shown,
    priced,
)

UNFINISHED = "UNFINISHED"  # the state of a run without a summary
SERVER = "http://127.0.0.1:8000"  # where `make serve` and `make demo` listen
PAGE = "index.html"  # its name, in the run's folder of the store too
PICTURES = {  # by the report's name: a heading, and what one sees
    "grid": ("Samples", "The first pictures of the final model, by seed: not chosen."),
    "denoising": ("Denoising", "Pictures appearing out of noise, from left to right."),
    "pairs": ("Closest pairs", "Generated pictures (left of each pair) beside the training pictures nearest to them."),
}


@dataclass(frozen=True)
class Links:
    """Where what belongs to the page is, as it is written there; empty where it is not beside it."""

    study: str = ""
    report: str = ""
    samples: str = ""
    second_report: str = ""
    second_samples: str = ""


def page_of(run: Run, links: Links | None = None, more: Sequence[Command] = ()) -> str:
    """The page of a run, with `more` commands at its end. Of one that has not ended it shows what there is."""
    summary = cast("Summary | None", run.facts("summary")) or Summary(**{**gather(run, False), "state": UNFINISHED})
    report = cast("Report", run.facts("evaluate") or {})
    of_second = cast("Report", run.second.facts("evaluate") or {}) if run.second else Report()
    shown = most_telling(summary.get("trials", []), summary.get("best"))
    script = files("ddpm.run_page").joinpath("draw.js").read_text(encoding="utf-8")
    return template("ddpm.run_page", "run.html.j2").render(
        name=summary["run_name"],
        state=summary["state"],
        ended=summary.get("ended", ""),  # a summary of an earlier release has none
        error=summary.get("error", ""),
        dataset=summary.get("dataset"),
        model=summary.get("model"),
        why=summary.get("best_why", ""),
        plan=run.plan,
        pictures=_pictures(report),
        findings=verdict(report) if report else [],
        sets=both_sets(summary, run.plan),
        harder=summary.get("transfer", {}).get("harder", ""),
        second_pictures=_pictures(of_second),
        second_findings=verdict(of_second) if of_second else [],
        figures=figure_rows(report) if report else [],
        drawn=drawn_in_words(summary.get("protocol", {}).get("generation", {})),
        priced=priced(summary),
        trials=[_trial_cells(row, summary) for row in shown],
        not_shown=not_shown(summary.get("trials", []), shown),
        scored=[
            distance_name(name, summary.get("final", {}).get("metric"), run.plan.search.score_n) for name in DECISIVE
        ],
        finalists=[_finalist_cells(one, summary) for one in summary.get("finalists", [])],
        finalist_scored=[
            distance_name(name, summary.get("final", {}).get("metric"), run.plan.search.final_n) for name in DECISIVE
        ],
        saved=_saved_words(summary),
        cost=_cost(summary),
        cost_words=_cost_words(summary),
        commands=[*going_on(summary, run.plan), *more],
        links=links or Links(),
        server=SERVER,
        reference=reference(summary) if "model" in summary else "",
        draw=Markup(script),
        draw_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tracking=runs_link(summary, run.plan),
        served=run.plan.tracking_uri.startswith("http"),
    )


def _pictures(report: Report) -> list[dict[str, str]]:
    uris = report.get("pictures") or {}
    found = []
    for name, (heading, caption) in PICTURES.items():
        uri = uris.get(name)
        if not isinstance(uri, str):
            continue
        try:
            found.append({"heading": heading, "caption": caption, "data": data_uri(read_object(uri))})
        except Missing:
            found.append({"heading": heading, "caption": f"it is gone from the store ({uri})", "data": ""})
    return found


def _trial_cells(row: SummedTrial, summary: Summary) -> dict[str, object]:
    seen = row["images_seen"]
    return {
        "chosen": row["number"] == summary.get("best"),
        "tied": row["number"] in summary.get("tied", ()),
        "cells": [
            str(row["number"]), network(row), number(row["lr"]),
            *(_with_interval(cast("float | None", row.get(name)), cast("float | None", row.get(f"{name}_std"))) for name in DECISIVE),
            "–" if seen is None else f"{seen:,}", "–" if row["seconds"] is None else duration(row["seconds"]),
            *([_taken(row.get("cost"))["money"]] if priced(summary) else []), row["state"].lower(),
        ],
    }  # fmt: skip


def _finalist_cells(one: SummedFinalist, summary: Summary) -> dict[str, object]:
    return {
        "chosen": one["trial"] == summary.get("best"),
        "tied": one["trial"] in summary.get("tied", ()),
        "cells": [
            str(one["trial"]), _with_interval(one["fid"], one["fid_std"]), _with_interval(one["kid"], one["kid_std"]),
            f"{one['mean_rank']:g}",
        ],
    }  # fmt: skip


def _with_interval(value: float | None, std: float | None) -> str:
    return number(value) if value is None else plus_minus(value, std)


def _cost(summary: Summary) -> list[dict[str, object]]:
    """A row a step: its time, its share of the longest one's for the bar, and what else it took, as far as that is known."""
    seconds = dict(sorted(summary.get("seconds", {}).items(), key=lambda item: ALL_STEPS.index(item[0])))
    longest = max(seconds.values(), default=0) or 1
    steps = summary["cost"]["steps"] if "cost" in summary else {}  # a summary of an earlier release has none
    return [
        {"step": step, "time": duration(value), "share": round(100 * value / longest, 1), **_taken(steps.get(step))}
        for step, value in seconds.items()
    ]


def _taken(found: Cost | None) -> dict[str, str]:
    """Device-hours, pictures trained on, energy and money, in cells; a dash for what there is not."""
    if found is None:
        return {"hours": "–", "images": "–", "energy": "–", "money": "–"}
    return {
        "hours": hours_in_words(found) if found["device_hours"] else "–",
        "images": "–" if found["images"] is None else f"{found['images']:,}",
        "energy": "–" if found["energy_kwh"] is None else f"{found['energy_kwh']:.3g} kWh",
        "money": f"{found['money']:.4g}" if found["money"] else "–",
    }


def _saved_words(summary: Summary) -> str:
    found = summary["cost"].get("saved") if "cost" in summary else None  # one of an earlier release has none
    return saved_in_words(found, summary["cost"]["price_per_hour"]) if found else ""


def _cost_words(summary: Summary) -> str:
    return in_words(summary["cost"]["run"], summary["cost"]["price_per_hour"]) if "cost" in summary else ""
