"""What the page lists as name and value: the judge's word, the protocol, the cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict

from ddpm.evaluation.figures.numbers import NOT_MEASURED, between, duration, number
from ddpm.evaluation.report import Cost, Generation, Mean, Measurement, Protocol, Report, Subject


def judge_facts(report: Report) -> dict[str, object] | None:
    judge = report.get("judge")
    if not judge:
        return None
    kinds = []
    of: dict[str, Mean | None] = {"generated": judge["score"], **judge["controls"]}
    for kind, name in (("generated", "generated"), ("real", "real"), ("other", "something else")):
        facts, counts = of[kind], judge["distribution"].get(kind)
        mean = f"{facts['mean']:.2f} ({facts['low']:.2f} to {facts['high']:.2f})" if facts else "not reported"
        total = sum(counts or [])
        bars = [round(100 * count / total, 1) for count in counts] if counts and total else None
        kinds.append({"name": name, "mean": mean, "n": facts["n"] if facts else "", "counts": counts, "bars": bars})
    auc = judge["auc"]
    apart = f"{auc['value']:.2f}{between(auc['low'], auc['high'])}" if auc else NOT_MEASURED
    listed: dict[str, int | str] = {name.replace("_", " "): value for name, value in judge["counted"].items()}
    listed |= {"tokens sent": judge["tokens"]["sent"], "tokens answered": judge["tokens"]["answered"],
             "cost": NOT_MEASURED if judge["cost"] is None else number(judge["cost"])}  # fmt: skip
    return {**judge, "kinds": kinds, "apart": apart, "facts": listed}


NOT_KNOWN = "not known"


def subject_facts(report: Report) -> tuple[str, dict[str, str]]:
    """What the page is about: a title, and model, version, data set and date by name."""
    protocol = report.get("protocol") or Protocol()
    generation = protocol.get("generation") or Generation()
    measurement = protocol.get("measurement") or Measurement()
    subject = report.get("subject") or Subject()
    version, dataset = subject.get("version"), report.get("dataset")
    source = str(generation.get("checkpoint") or generation.get("pictures") or "")
    name = subject.get("model") or source or "generated pictures"
    if subject.get("run"):
        name += f", run {subject['run']}"
    facts = {
        "model": subject.get("model") or ("none: a folder of pictures" if generation.get("pictures") else NOT_KNOWN)
    }
    facts["version"] = str(version) if version else "not registered as one when this page was made"
    digest = str(measurement.get("dataset_digest") or "")[:12]
    words = (
        [f"{dataset['name']}: {dataset['pictures']:,} training and {dataset['held_out']:,} held-out pictures"]
        if dataset
        else []
    )
    facts["data set"] = ", ".join([*words, *([f"digest {digest}…"] if digest else [])]) or NOT_KNOWN
    facts["measured on"] = report.get("made") or NOT_KNOWN
    if source:
        facts["pictures from"] = source
    return f"{name}, version {version}" if version else name, facts


class Half(TypedDict):
    """A part of the protocol; no facts where they are not known."""

    heading: str
    facts: dict[str, str]


def protocol_facts(report: Report) -> list[Half]:
    protocol = report.get("protocol") or Protocol()
    halves: list[tuple[str, Mapping[str, object] | None]] = [
        ("Measurement", protocol.get("measurement")),
        ("Generation", protocol.get("generation")),
    ]
    if judge := report.get("judge"):
        halves.append(("Judge", judge["protocol"]))
    return [
        {"heading": heading, "facts": {name: _word(value) for name, value in half.items()} if half else {}}
        for heading, half in halves
    ]


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def cost_facts(report: Report) -> dict[str, str]:
    cost = report.get("cost") or Cost()
    found = {f"evaluation: {stage}": duration(seconds) for stage, seconds in (cost.get("seconds") or {}).items()}
    found |= {f"run: {step}": duration(seconds) for step, seconds in (report.get("run_seconds") or {}).items()}
    if (pictures := cost.get("pictures")) is not None:
        found["pictures drawn or read"] = f"{pictures:,}"
    if (nfe := cost.get("nfe")) is not None:
        found["network evaluations a picture"] = f"{nfe:,}"
    return found
