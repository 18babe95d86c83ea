"""A study as one page: leaderboard, the choice, pictures side by side, curves, what mattered, cost, the winner's network.

It holds all of itself, is made when the choice is made, and stays as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ddpm.cost import HOUR, cost, in_words, saved, saved_in_words, trial_cost
from ddpm.errors import WrongInput
from ddpm.evaluation.figures.numbers import distance_name, duration, number, plus_minus
from ddpm.evaluation.page.charts import Line, curves
from ddpm.page.render import data_uri, template
from ddpm.pictures import grid, png
from ddpm.progress import Progress
from ddpm.run import STUDY, Run
from ddpm.search.choice import Choice, rank_trials, winner_settings
from ddpm.search.halving import Rung, rung_in_words
from ddpm.search.importances import importances
from ddpm.search.recorder import GRID_SEEDS
from ddpm.search.trial import TRIAL, TrialRow, trial_name, tried
from ddpm.store import Missing
from ddpm.study_page.coordinates import parallel_coordinates
from ddpm.study_page.network import network_figure
from ddpm.summary import MOST_ROWS, not_shown
from ddpm.training import checkpoint

MOST_CURVES = 8
MOST_GRIDS = 40  # of the best trials; and of bytes
MOST_LINES = 200  # of parallel coordinates
MOST_WORDS = 300  # characters of why a trial failed, in a cell
LOSSES = {"held_out_loss": "held-out loss", "loss": "training loss"}  # by MLflow's names
FEWEST_LOOKS = 3  # points of a curve
MOST_BYTES = 3_000_000  # of grids, as PNG files: with all else the page stays below 5 MB


def study_page(run: Run, choice: Choice, progress: Progress) -> bytes:
    """The page of the run's study, which the run keeps: made once, and found from then on."""
    try:
        return run.folder.read(STUDY)
    except Missing:
        run.folder.create(STUDY, _render(run, choice, progress).encode())
        return run.folder.read(STUDY)


def _render(run: Run, choice: Choice, progress: Progress) -> str:
    plan, rows = run.plan, choice["trials"]
    price, winner = plan.cost.price_per_hour, rows[choice["best"]]
    model, _ = winner_settings(plan, winner)
    order = [int(one["trial"].removeprefix(TRIAL)) for one in choice["ranking"]]
    leaders = _leaders(choice)
    shown, lines = leaders[:MOST_ROWS], order[:MOST_LINES]
    drawn = [row for row in leaders if row["checkpoint"] and row["state"] != "FAIL"]  # pruned ones behind the others
    grids = _grids(drawn[:MOST_GRIDS], plan.search.score_steps, progress)
    metric = next((one["metric"] for one in choice["finalists"]), None)
    spared = saved(rows, price)
    learning_name, learning = _learning(run, [row["number"] for row in drawn[:MOST_CURVES]])
    return template("ddpm.study_page", "study.html.j2").render(
        name=run.name,
        dataset=plan.ingest.dataset_name,
        image_size=plan.ingest.image_size,
        why=choice["best_why"],
        scored=[distance_name(name, metric, plan.search.score_n) for name in ("fid", "kid")],
        anew=[distance_name(name, metric, plan.search.final_n) for name in ("fid", "kid")],
        trials=len(rows),
        leaderboard=_leaderboard(shown, choice, price),
        not_shown=not_shown(rows, shown),
        finalists=[
            {
                "mark": _mark(one["trial"], choice),
                "cells": [one["trial"], rows[one["trial"]]["channel_mults"], plus_minus(one["fid"], one["fid_std"]), plus_minus(one["kid"], one["kid_std"]),
                          f"{one['fid_rank']:g}", f"{one['kid_rank']:g}", f"{one['mean_rank']:g}"],
            }
            for one in choice["finalists"]
        ],
        choices=_choices(choice),
        grids=grids,
        left_out=len(drawn) - len(grids),
        learning=learning,
        learning_name=learning_name,
        shown=min(len(drawn), MOST_CURVES),
        history=curves(_history(rows), "trial", "FID", "FID of each trial, and the best so far"),
        coordinates=parallel_coordinates([_point(rows[trial]) for trial in lines], lines.index(choice["best"])),
        lines=len(lines),
        completed=len(order),
        importances=[{"name": name, "share": f"{share:.0%}", "wide": round(100 * share, 1)} for name, share in importances(run).items()],
        priced=price > 0,
        taken=_taken(rows, price),
        failed=sum(row["state"] == "FAIL" for row in rows),
        saved=saved_in_words(spared, price) if spared else "",
        pruned=sum(row["state"] == "PRUNED" for row in rows),
        network=network_figure(model, plan.ingest.image_size),
        network_words=f"{model.channel_mults} of {model.base_channels}" + "".join(f", {one}" for one in tried(winner["point"])),
        parameters=winner["parameters"],
    )  # fmt: skip


def _mark(trial: int, choice: Choice) -> str:
    return "★" if trial == choice["best"] else "≈" if trial in choice["tied"] else ""


def _leaders(choice: Choice) -> list[TrialRow]:
    """Completed trials by their mean ranks, then the others by how far they came, and by what they scored there."""
    places = {one["trial"]: place for place, one in enumerate(choice["ranking"])}

    def place(row: TrialRow) -> tuple[int, int, float]:
        last = _last_rung(row)
        mean_rank = places.get(trial_name(row["number"]), len(places))
        return mean_rank, -(row["images_seen"] or 0), last[1]["score"] if last else 0.0

    return sorted(choice["trials"], key=place)


def _last_rung(row: TrialRow) -> tuple[str, Rung] | None:
    """The epoch of the last rung that a trial came to, and what it scored there."""
    epoch = max(row["rungs"], key=int, default=None)
    return (epoch, row["rungs"][epoch]) if epoch else None


def _state(row: TrialRow) -> str:
    """How a trial ended, and where, or why."""
    if row["state"] == "PRUNED" and (last := _last_rung(row)):
        return f"pruned at epoch {last[0]}: {rung_in_words(last[1])}"
    return row["state"].lower() + (f": {_short(row['problem'])}" if row["problem"] else "")


def _leaderboard(leaders: Sequence[TrialRow], choice: Choice, price: float) -> list[dict[str, object]]:
    ranks = {one["trial"]: one for one in choice["ranking"]}
    found: list[dict[str, object]] = []
    for row in leaders:
        rank, took = ranks.get(trial_name(row["number"])), trial_cost(row, price)
        seen, budget = row["images_seen"], row["budget_images"]
        found.append({
            "mark": _mark(row["number"], choice),
            "chosen": row["number"] == choice["best"],
            "cells": [
                row["number"], ", ".join([row["channel_mults"] or "–", *tried(row["point"])]), number(row["lr"]) if row["lr"] else "–",
                _figure(row["fid"], row["fid_std"]), _figure(row["kid"], row["kid_std"]),
                *((f"{rank['fid_rank']:g}", f"{rank['kid_rank']:g}", f"{rank['mean_rank']:g}") if rank else ("–",) * 3),
                "–" if seen is None else f"{seen:,}" + (f" ({seen / budget:.0%})" if budget and seen < budget else ""),
                "–" if row["seconds"] is None else duration(row["seconds"]),
                *([number(took["money"]) if took else "–"] if price else []),
                _state(row),
            ],
        })  # fmt: skip
    return found


def _short(words: str) -> str:
    return words if len(words) <= MOST_WORDS else f"{words[: MOST_WORDS - 1]}…"


def _figure(value: float | None, std: float | None) -> str:
    return "–" if value is None else plus_minus(value, std)


def _choices(choice: Choice) -> list[dict[str, str]]:
    """Which trial is chosen by both figures, and by each: of the finalists, where there are any."""
    rows = choice["trials"]
    if choice["finalists"]:
        figures = {one["trial"]: (one["fid"], one["kid"]) for one in choice["finalists"]}
    else:
        done = [row for row in rows if row["fid"] is not None and row["kid"] is not None]
        figures = {row["number"]: (row["fid"] or 0.0, row["kid"] or 0.0) for row in done}
    chosen = {
        "both, the mean of ranks": choice["best"],
        "FID alone": min(figures, key=lambda trial: figures[trial][0]),
        "KID alone": min(figures, key=lambda trial: figures[trial][1]),
        "the trials' own scores": int(rank_trials(rows)[0].candidate.model.removeprefix(TRIAL)),
    }
    return [{"by": by, "trial": f"trial {trial}, {rows[trial]['channel_mults']}"} for by, trial in chosen.items()]


def _grids(rows: Sequence[TrialRow], steps: int, progress: Progress) -> list[dict[str, str]]:
    """The same seeds' pictures of each trial, the best first, until the page has its fill."""
    found: list[dict[str, str]] = []
    size, task = 0, "the study's pictures"
    for done, row in enumerate(rows):
        progress.update(task, done, len(rows), trial_name(row["number"]))
        came = f"FID {_figure(row['fid'], row['fid_std'])}" if row["fid"] is not None else _state(row)
        caption = f"Trial {row['number']}: {row['channel_mults']}, rate {number(row['lr'])}, {came}"
        try:
            model = checkpoint.load_model(str(row["checkpoint"]))
        except WrongInput as problem:  # of a run that was begun long ago: its pictures are the least of it
            found.append({"data": "", "caption": f"{caption}; it cannot be drawn from: {problem}"})
            continue
        picture = _of_size(model.draw(GRID_SEEDS, model.quick(steps, len(GRID_SEEDS))))
        size += len(picture)
        if size > max(MOST_BYTES, len(picture)):
            break
        found.append({"data": data_uri(picture), "caption": caption})
    progress.drop(task)
    return found


def _of_size(pictures: Tensor) -> bytes:
    """Pictures uint8 [n,3,h,w] in rows, as a PNG file; halved until the page has room for a few such, but not below 16."""
    while len(file := png(grid(pictures))) > MOST_BYTES // 4 and pictures.shape[-1] >= 32:
        pictures = avg_pool2d(pictures.float(), 2).round().to(pictures.dtype)
    return file


def _learning(run: Run, trials: Sequence[int]) -> tuple[str, Markup]:
    """The curves that MLflow keeps of each trial: of the held-out loss, or, where that was looked at too rarely, of the loss."""
    runs = {name: run.tracker.child(name, {}, {}) for name in map(trial_name, trials)}
    found = {metric: [Line(name, one.history(metric)) for name, one in runs.items()] for metric in LOSSES}
    drawn = next(
        (metric for metric in LOSSES if any(len(line.points) >= FEWEST_LOOKS for line in found[metric])), "loss"
    )
    words = LOSSES[drawn]
    return words, curves(found[drawn], "images", words, f"The {words} over images", log_y=True)


def _taken(rows: Sequence[TrialRow], price: float) -> str:
    """What all trials took, in a line."""
    costs = [found for row in rows if (found := trial_cost(row, price))]
    joules = [row["joules"] for row in rows]
    known = None if None in joules else sum(each or 0.0 for each in joules)
    hours = sum(found["device_hours"] for found in costs)
    return in_words(cost(hours * HOUR, price, images=sum(found["images"] or 0 for found in costs), joules=known), price)


def _history(rows: Sequence[TrialRow]) -> list[Line]:
    done = [(float(row["number"]), row["fid"]) for row in rows if row["fid"] is not None]
    best = itertools.accumulate((fid for _, fid in done), min)
    return [
        Line("FID", done),
        Line("the best so far", [(trial, fid) for (trial, _), fid in zip(done, best, strict=True)]),
    ]


def _point(row: TrialRow) -> Mapping[str, str | float]:
    return {"multipliers": str(row["channel_mults"]), "lr": row["lr"] or 0.0, **{name: str(value) for name, value in row["point"].items()}, "FID": row["fid"] or 0.0}  # fmt: skip
