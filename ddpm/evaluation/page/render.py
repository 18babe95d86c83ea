"""An evaluation as one page that a person reads in a minute: no script, no request, pictures and charts within it.

What a report does not hold is said to be not measured; it is never drawn as nothing.
"""

from __future__ import annotations

import hashlib
from typing import TypedDict

from markupsafe import Markup

from ddpm.evaluation.figures.numbers import NOT_MEASURED, distance_name
from ddpm.evaluation.page.charts import Line, curves
from ddpm.evaluation.page.clusters import strips
from ddpm.evaluation.page.facts import cost_facts, judge_facts, protocol_facts, subject_facts
from ddpm.evaluation.page.tables import copying_rows, figure_rows, widest
from ddpm.evaluation.page.verdict import verdict
from ddpm.evaluation.report import Levels, Report
from ddpm.page.render import data_uri, template
from ddpm.store import Store, read_object

PICTURES = {  # by the report's name: a heading, and what one sees
    "grid": ("Samples", "The first generated pictures, by seed: not chosen."),
    "pairs": ("Closest pairs", "Generated pictures (left of each pair) beside the training pictures that are nearest to them (right), mirrored where that is nearer: the closest by pixels in the upper half, by features in the lower."),
    "noising": ("Noising", "Training pictures being destroyed, from left to right."),
    "denoising": ("Denoising", "Generated pictures appearing out of noise, from left to right."),
    "clusters": ("Clusters", "Real pictures, a row for each cluster of the coverage below, from cluster 1: those in its middle."),
}  # fmt: skip


class Chart(TypedDict):
    """A heading, and the drawing: empty where it was not measured."""

    heading: str
    drawing: Markup


def publish(report: Report, store: Store) -> tuple[str, str]:
    """The page, kept as `reports/KEY.DIGEST.html`, and its URI.

    The digest is the page's own: one report has several pages, with the judge's word or without, with a run's curves
    or without, and a later one must not take the place of one that somebody has a link to.
    """
    page = page_of(report)
    key = f"{report['key']}.{hashlib.sha256(page.encode()).hexdigest()[:16]}.html"
    store.create(key, page.encode())
    return page, store.uri(key)


def page_of(report: Report) -> str:
    """The page of a report whose pictures are where it says they are. Raises Missing where they are not."""
    return render(report, {name: read_object(uri) for name, uri in (report.get("pictures") or {}).items() if uri})


def render(report: Report, pictures: dict[str, bytes]) -> str:
    """The page of a report (docs/evaluation.md), with pictures (PNG files' bytes) by the report's names for them.

    The same report and pictures give the same bytes.
    """
    coverage, (title, subject) = report.get("coverage"), subject_facts(report)
    by_cluster = coverage is not None and coverage["by"] == "cluster"
    sheet = pictures.get("clusters") if by_cluster else None
    thumbnails = strips(sheet, len(coverage["rows"])) if coverage and sheet else []
    return template("ddpm.evaluation.page", "report.html.j2").render(
        title=title,
        subject=subject,
        findings=verdict(report),
        rows=figure_rows(report),
        pictures=[
            {"heading": heading, "caption": caption, "data": data_uri(pictures[name]) if name in pictures else None, "name": name}
            for name, (heading, caption) in PICTURES.items()
            if name != "clusters" or (by_cluster and not thumbnails)
        ],
        copying=copying_rows(report),
        coverage=coverage,
        thumbnails=[data_uri(strip) for strip in thumbnails],
        widest=widest(report),
        charts=charts(report),
        judge=judge_facts(report),
        protocol=protocol_facts(report),
        cost=cost_facts(report),
        warnings=report.get("warnings") or [],
        not_measured=NOT_MEASURED,
    )  # fmt: skip


def charts(report: Report) -> list[Chart]:
    """The curves of FID over n, of the losses over images seen, and of the losses over noise levels."""
    training, levels = report.get("training") or {}, report.get("levels") or Levels()
    sigma = levels.get("sigma") or []
    by_level = [
        Line(name, list(zip(sigma, losses, strict=True)))
        for losses, name in ((levels.get("train"), "training pictures"), (levels.get("held_out"), "held-out pictures"))
        if losses
    ]
    over_images = [
        Line(name, training[key])
        for key, name in (("loss", "training"), ("held_out_loss", "held out"))
        if training.get(key)
    ]
    at_n = [(point["n"], point["fid"]) for point in report.get("curve") or []]
    fid = distance_name("fid", report.get("metric"))
    found: list[tuple[str, Markup]] = [
        (f"{fid} at growing n", curves([Line(fid, at_n)], "pictures", fid, f"{fid} over the number of generated pictures", level=report.get("fid_infinity"), level_name="at infinite n")),
        ("Loss while training", curves(over_images, "images seen", "loss", "Training and held-out loss over images seen", log_y=True)),
        ("Loss by noise level", curves(by_level, "noise level σ", "loss", "Loss of training and of held-out pictures over the noise level", log_x=True, log_y=True)),
    ]  # fmt: skip
    return [{"heading": heading, "drawing": drawing} for heading, drawing in found]
