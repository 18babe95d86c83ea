"""What a person reads at the end of a run: the trials, the choice, the figures, the version, and what to try next."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ddpm.cost import in_words, saved_in_words
from ddpm.evaluation.figures.numbers import distance_name, plus_minus
from ddpm.evaluation.figures.table import DECISIVE, FIGURES
from ddpm.evaluation.protocol import drawn_in_words
from ddpm.evaluation.report import Report, number_in
from ddpm.legible import legible
from ddpm.plan import Plan
from ddpm.run_page.going_on import going_on, runs_link
from ddpm.run_page.sets import Row, both_sets
from ddpm.summary import Summary, SummedFinalist, SummedTrial, most_telling, network, not_shown, priced


def short(path: str | Path) -> str:
    """A path as seen from here, where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def number(value: float | None, digits: int = 4) -> str:
    """A figure with so many digits that matter; a dash for none."""
    return "–" if value is None else f"{value:.{digits}g}"


def with_interval(value: float | None, std: float | None, digits: int = 4) -> str:
    """A figure with half its 95% interval."""
    return number(value, digits) if value is None else plus_minus(value, std, digits)


def show(summary: Summary, plan: Plan, anew: str, page: Path) -> None:
    """Print the summary (`var/last-run.json`) on standard output. `anew` is the command for another such run."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False, emoji=False)
    console.print()
    console.print(trials_table(summary, plan.search.score_n))
    if rows := both_sets(summary, plan):
        console.print(sets_table(rows))
    for line in [*lines(summary, plan, anew), "", f"[bold]look at it[/]  {escape(page.as_uri())}"]:
        console.print(line, soft_wrap=True)


def trials_table(summary: Summary, score_n: int) -> Table:
    """The study, one row a trial, scored by so many pictures each; the chosen one marked, and those it is in a tie with."""
    fid, kid = (distance_name(name, summary["final"].get("metric"), score_n) for name in ("fid", "kid"))
    title = f"{len(summary['trials'])} trials of run {summary['run_name']}, by {fid} and {kid}"
    table = Table(
        title=escape(legible(title)),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("mults", no_wrap=True)
    for name in ("lr", "FID", "KID", "images", "s"):
        table.add_column(name, justify="right", no_wrap=True)  # a row is a line of 80 columns
    if with_price := priced(summary):
        table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("state")
    shown = most_telling(summary["trials"], summary["best"])
    table.caption = not_shown(summary["trials"], shown) or None
    for trial in shown:
        best, tied = trial["number"] == summary["best"], trial["number"] in summary.get("tied", ())
        table.add_row(
            "★" if best else "≈" if tied else "", str(trial["number"]), escape(legible(network(trial))), number(trial["lr"], 3),
            with_interval(trial["fid"], trial.get("fid_std")), with_interval(trial["kid"], trial.get("kid_std"), 3), number(trial["images_seen"], 7), number(trial["seconds"], 3), *([_money(trial)] if with_price else []),
            trial["state"].lower().replace("complete", ""), style="bold" if best else None,
        )  # fmt: skip
    return table


def sets_table(rows: list[Row]) -> Table:
    """Both sets, a row a figure."""
    head, *rest = rows
    table = Table(title="both sets", title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for cell in ("", head.first, head.second):
        table.add_column(escape(legible(cell)))
    for row in rest:
        table.add_row(*(escape(legible(cell)) for cell in row))
    return table


def _money(trial: SummedTrial) -> str:
    return number(trial["cost"]["money"] if trial["cost"] else None)


def finalists_line(found: list[SummedFinalist]) -> list[str]:
    """What they scored, in a line; none where there are none."""
    words = "   ".join(
        f"trial {one['trial']} FID {with_interval(one['fid'], one['fid_std'])} KID {with_interval(one['kid'], one['kid_std'], 3)}"
        for one in found
    )
    return [f"finalists  {words}   ({found[0]['n']:,} pictures each)"] if found else []


def lines(summary: Summary, plan: Plan, anew: str) -> list[str]:
    """What stands below the table."""
    final, model, dataset = summary["final"], summary["model"], summary["dataset"]
    floor, measurement = final["noise_floor"], summary["protocol"]["measurement"]
    named_by = Report(metric=final.get("metric", "fid"), n=measurement.get("n", 0))
    figures = "   ".join(
        f"{figure.named(named_by)} {number(number_in(final, figure.name), figure.digits)} "
        f"(noise floor {number(number_in(floor, figure.name), figure.digits)}{', extrapolated' * bool(figure.floor_note(floor))})"
        for figure in (FIGURES[name] for name in DECISIVE)
    )
    aliases = ", ".join(model["aliases"]) or "no alias"
    measured = ", ".join(
        f"{name} {measurement[name]}" for name in ("extractor", "layer", "n") if measurement.get(name) is not None
    )
    shares = final.get("recognisable")
    drawn = drawn_in_words(summary["protocol"].get("generation", {}))
    text = [
        f"chosen     {summary['best_why']}",
        *finalists_line(summary.get("finalists", [])),
        f"final      {figures}   {measured}",
        *([f"drawn by   {drawn}"] if drawn else []),
        f"data set   {dataset['name']}, {dataset['n']:,} pictures, {dataset['digest'][:12]}"
        + (f"; {dataset['taken']}" if "taken" in dataset else ""),
        f"version    {model['name']} {model['version']} ({aliases}{'' if model['new'] else '; the same weights were registered before'})"
        + (f": {model['decision']}" if model.get("decision") else ""),
    ]
    others = {
        name: value for name, value in final.get("figures", {}).items() if name not in DECISIVE and name in FIGURES
    }
    if second := summary.get("transfer"):
        other = second["model"]
        version = f"{other['name']} {other['version']} ({', '.join(other['aliases']) or 'no alias'})"
        text.append(f"second set {version}" + (f": {other['decision']}" if other.get("decision") else ""))
        text.append(f"harder     {second['harder']}")
    if others:
        words = "   ".join(f"{FIGURES[name].title} {FIGURES[name].shown(value)}" for name, value in others.items())
        text.append(f"besides    {words}")
    if shares:
        text.append(
            f"seen       the classifier is sure of {shares['generated']:.0%} of the pictures, and of {shares['real']:.0%} of real held-out ones"
        )
    seconds, link = summary["seconds"], runs_link(summary, plan)
    text.append("seconds    " + ", ".join(f"{step} {value:.0f}" for step, value in seconds.items()))
    price = summary["cost"]["price_per_hour"]
    text.append(f"cost       {in_words(summary['cost']['run'], price)}")
    if saved := summary["cost"]["saved"]:
        text.append(f"pruning    {saved_in_words(saved, price)}")
    text += [
        "",
        "to go on",
        f"  make ui   # all runs, figures and pictures in MLflow{f', at {link}' if link else ''}",
        *(f"  {command.line}" for command in going_on(summary, plan)),
        f"  {anew}   # once more: the data set is recognised, and the new version meets the champion",
    ]
    return [escape(legible(line)) for line in text]
