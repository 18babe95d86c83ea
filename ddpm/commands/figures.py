"""Figures: evaluation, the judge, comparing, ranking, and the page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ddpm.arguments import chosen_settings, read_report
from ddpm.commands.table import (
    DATASET,
    GENERATED,
    GUIDE,
    TEXT,
    Facts,
    command,
    dataset_of,
    flag,
    judging,
    number,
    output,
    place,
    places,
    settings,
)
from ddpm.errors import Refused
from ddpm.places import output_file
from ddpm.settings import DrawSettings, EvaluateSettings, JudgeSettings, pick
from ddpm.workplace import Workplace


@command(
    "FID, KID, precision, recall and copying of a folder of pictures, a checkpoint or a registered model",
    GENERATED,
    GUIDE,
    DATASET,
    output("--html", metavar="FILE", help="the report as a page, here too (default: in the store alone)"),
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings, JudgeSettings),
)
def evaluate(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.page.render import publish
    from ddpm.evaluation.printed import printed
    from ddpm.steps.evaluate import evaluate
    from ddpm.store import FileStore

    html = output_file("html", arguments.html) if arguments.html else None
    chosen = chosen_settings(arguments)
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), judging(chosen, place)
    dataset = dataset_of(arguments, place)
    report = evaluate(place, arguments.generated, dataset, measuring, drawing, arguments.guide or "")
    if asked.judge_url:
        from ddpm.steps.judge import judge

        report["judge"] = judge(place, arguments.generated, dataset, measuring, drawing, asked)
    page, report["page"] = publish(report, place.store)
    if html:
        FileStore(html.parent).write(html.name, page.encode())
    return report if arguments.json else {TEXT: printed(report)}


@command(
    "ask a vision model how much pictures resemble the subject, with controls among them",
    GENERATED,
    DATASET,
    places("store", "tracking_uri"),
    settings(DrawSettings, EvaluateSettings, JudgeSettings),
)
def judge(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.steps.judge import judge

    chosen = chosen_settings(arguments)
    measuring, drawing, asked = pick(EvaluateSettings, chosen), pick(DrawSettings, chosen), judging(chosen, place)
    verdict = judge(place, arguments.generated, dataset_of(arguments, place), measuring, drawing, asked)
    if not verdict["reported"]:
        raise Refused(f"no score: {verdict['why']}", verdict)
    return verdict


@command(
    "two evaluations side by side",
    place("a", metavar="A.json", help="what `ddpm evaluate --json` printed of the one"),
    place("b", metavar="B.json", help="and of the other"),
)
def compare(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.evaluation.printed import side_by_side
    from ddpm.evaluation.protocol import compare

    found = compare(read_report(arguments.a), read_report(arguments.b))
    return found if arguments.json else {TEXT: side_by_side(found)}


@command(
    "the best of several models by the mean of their ranks by FID and KID",
    place(
        "file",
        metavar="FILE.csv",
        help="columns model, fid, kid (or fid_768, kid_768 …) and, if you like, parameters and n; between them commas, semicolons or tabs; -: standard input",
    ),
)
def rank(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.search.candidates import read_candidates
    from ddpm.search.ranking import explain, rank

    table = read_candidates(arguments.file)
    ranked = rank(table.models)
    rows = [
        {"model": r.candidate.model, "fid_rank": r.fid_rank, "kid_rank": r.kid_rank, "mean_rank": r.mean_rank}
        for r in ranked
    ]
    by = f"{table.fid} and {table.kid}"
    return {"best": ranked[0].candidate.model, "why": explain(ranked), "by": by, "ranking": rows}


@command(
    "the page of a run: pictures, verdict, trials, figures, time, and how to go on",
    flag("--run-name", default="", metavar="NAME", help="the run (default: the one that ended last)"),
    output(
        "--out",
        metavar="FOLDER",
        help="where index.html, study.html, samples.png and report.html go (default: var/runs/NAME)",
    ),
    places("store"),
)
def page(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.run_page.folder import find_run, write_page

    run = find_run(arguments.run_name, arguments.store)
    return {"run": run.name, "page": str(write_page(run, Path(arguments.out or f"var/runs/{run.name}")))}


@command(
    "Optuna's dashboard of a run's study, with each trial's pictures; it changes nothing",
    flag("--run-name", default="", metavar="NAME", help="the run (default: the one that ended last)"),
    number("--port", "int", 8080, "the port of this machine to listen at", low=0, high=65535, zero="a free one"),
    flag("--browse", action="store_true", help="open it in the browser, where there is one"),
    places("store"),
)
def dashboard(arguments: argparse.Namespace, place: Workplace) -> Facts:
    from ddpm.run_page.folder import find_run
    from ddpm.search.dashboard import serve_dashboard

    run = find_run(arguments.run_name, arguments.store)
    return {"run": run.name, "page": serve_dashboard(run, arguments.port, arguments.browse, place.progress)}
