"""What there is to say of generated pictures: a folder of them, or those of a checkpoint or a registered model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import DatasetFacts
from ddpm.errors import WrongInput
from ddpm.evaluation import evaluate as evaluation
from ddpm.evaluation.figures.numbers import number
from ddpm.evaluation.figures.table import DECISIVE, FIGURES, logged
from ddpm.evaluation.page.render import publish
from ddpm.evaluation.report import Report, number_in
from ddpm.judge.controls import judge_with_controls
from ddpm.model.model import Model
from ddpm.progress import Progress
from ddpm.registry.catalogue import named_version
from ddpm.registry.version import resolve, resolve_or_folder
from ddpm.run import Run
from ddpm.search.choice import Choice, guide_of
from ddpm.settings import DrawSettings, EvaluateSettings, require_guidance
from ddpm.steps.task import task
from ddpm.training.ledger import Trained
from ddpm.workplace import Workplace


def evaluate(
    place: Workplace,
    generated: str,
    dataset_uri: str,
    settings: EvaluateSettings,
    drawing: DrawSettings,
    guide: str = "",
) -> Report:
    """The report on pictures of a folder, a checkpoint or a model reference (ddpm/evaluation/evaluate.py).

    `guide` refers to a weaker model, which a guidance above 1 leads away from.
    """
    data, found = open_dataset(dataset_uri), resolve_or_folder(generated, place.tracking_uri)
    if guide:
        if not isinstance(found, Model):
            raise WrongInput(f"guide: {generated} is a folder of pictures, which nothing guides; leave it out")
        require_guidance(guide, drawing)
        found = found.guided_by(resolve(guide, place.tracking_uri))
    report = evaluation.evaluate(found, data, settings, drawing, place.store, place.progress)
    if isinstance(found, Model) and (named := named_version(found.origin.reference)):
        report["subject"] = {"model": named[0], "version": named[1]}
    return report


@task("evaluate")
def in_pipeline(run: Run, progress: Progress, dataset: DatasetFacts, trained: Trained, page: str) -> Report:
    plan, store, checkpoint = run.plan, run.workplace(progress).store, trained["checkpoint"]
    data, model = open_dataset(dataset["uri"]), resolve(checkpoint, plan.tracking_uri)
    if guide := guide_of(run, cast(Choice, trained)):
        told = f"{guide.origin.reference} (weights {guide.origin.weights_sha256[:12]}…)"
        progress.say(f"guided, {plan.draw.guidance:g}, by {told}")
        with run.tracker.parent() as parent:
            parent.tag("guided_by", told)
        model = model.guided_by(guide)
    report = evaluation.evaluate(model, data, plan.evaluate, plan.draw, store, progress)
    if plan.judge.judge_url:
        verdict = judge_with_controls(model, checkpoint, data, plan.evaluate, plan.draw, plan.judge, store, progress)
        report["judge"], score = verdict, verdict["score"]
        progress.say(f"the judge: {score['mean'] if score else verdict['why']}")
    report["subject"] = {"model": plan.registry.model_name, "version": None, "run": run.name}
    progress.say(_in_words(report))
    run.tracker.open({"n": report["n"]})  # what a list of runs is read by, beside the figures
    with run.tracker.child(run.training, {"n": report["n"]}, {}) as tracked:
        decisive = {FIGURES[name].key(report["metric"]): number_in(report, name) for name in DECISIVE}
        tracked.metrics(decisive, trained["images_seen"])
        training = {name: tracked.history(name) for name in ("loss", "held_out_loss")}
    spent = {step: facts["seconds"] for step in ("ingest", "train") if (facts := run.facts(step))}
    text, report["page"] = publish({**report, "training": training, "run_seconds": spent}, store)
    Path(page).write_text(text, encoding="utf-8")
    with run.tracker.parent() as tracked:
        tracked.metrics(logged(report), 0)
        tracked.file("report.json", json.dumps(report, indent=1).encode())
        tracked.file("report.html", text.encode())
    return report


def _in_words(report: Report) -> str:
    """The figures that decide, with their noise floors, in a line."""
    found = [(FIGURES[name], FIGURES[name].reading(report)) for name in DECISIVE]
    return ", ".join(
        f"{figure.named(report)} {number(of.value)} (noise floor {number(of.beside)}{of.note})"
        for figure, of in found
        if of
    )
