"""What to do after a run: the commands that its page and its last lines on the terminal show."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ddpm.places import default_places
from ddpm.plan import Plan
from ddpm.summary import Summary, SummedSet, SummedTransfer


@dataclass(frozen=True)
class Command:
    """A command line, and what it is for."""

    line: str
    meaning: str = ""


def reference(summary: SummedSet) -> str:
    """A set's version, as other commands take it: by its alias where it has one."""
    model = summary["model"]
    named = f"@{model['aliases'][0]}" if model["aliases"] else f"/{model['version']}"
    return f"models:/{model['name']}{named}"


def going_on(summary: Summary, plan: Plan) -> list[Command]:
    """What can be done with what a run has left; nothing where it registered no version."""
    if "model" not in summary:
        return []
    tracking, store = _flag(plan, "tracking_uri"), _flag(plan, "store")
    found = [
        Command(
            f".venv/bin/ddpm sample --model {reference(summary)} --n 16 --seed 0 --out var/samples{tracking}",
            "sixteen pictures, and a grid of them",
        ),
        Command(f".venv/bin/ddpm history --model-name {summary['model']['name']}{store}", "what was promoted, and why"),
    ]
    second = summary.get("transfer", SummedTransfer())
    if "model" in second:
        line = f".venv/bin/ddpm sample --model {reference(second)} --n 16 --seed 0 --out var/samples-2{tracking}"
        found.append(Command(line, "the same of the second set"))
    return found


def runs_link(summary: Summary, plan: Plan) -> str:
    """Where MLflow shows the run: on its server, or, once `make ui` is started, on this machine. Empty: nobody knows."""
    if not (page := summary.get("runs_page")):  # of a run that has not ended, or of an earlier release's
        return ""
    server = plan.tracking_uri.rstrip("/") if plan.tracking_uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/{page}"


def _flag(plan: Plan, place: str) -> str:
    """What a command must be told of a place that is not where it would look."""
    where = getattr(plan, place)
    return "" if where == default_places()[place] else f" --{place.replace('_', '-')} {shlex.quote(where)}"
