"""An evaluation as one page that a person reads in a minute: no script, no request, pictures and charts within it.

What a report does not hold is said to be not measured; it is never drawn as nothing.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddpm.evaluation.figures.uncertainty import Z, share_excess
from ddpm.evaluation.page.charts import Line, curves

NOT_MEASURED = "not measured"
GOOD, FAIR, BAD, UNKNOWN = (
    "good",
    "fair",
    "bad",
    "unknown",
)  # of a finding; a word and a sign on the page, not only a colour

THIRD = 1 / 3  # of memorisation.py, which needs more than a page does
SPACES = {"pixel": "pixels", "feature": "features"}  # in which copies are looked for, and as a person says it
PICTURES = {  # by the report's name: a heading, and what one sees
    "grid": ("Samples", "The first generated pictures, by seed: not chosen."),
    "pairs": ("Closest pairs", "Generated pictures (left of each pair) beside the training pictures that are nearest to them (right), mirrored where that is nearer: the closest by pixels in the upper half, by features in the lower."),
    "noising": ("Noising", "Training pictures being destroyed, from left to right."),
    "denoising": ("Denoising", "Generated pictures appearing out of noise, from left to right."),
    "clusters": ("Clusters", "Real pictures, a row for each cluster of the coverage below, from cluster 1: those in its middle."),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A sentence of the verdict, and how good that is."""

    level: str
    title: str
    text: str


@dataclass(frozen=True)
class Row:
    """A figure: its value, 95% interval and noise floor as text, and what it means."""

    name: str
    value: str
    interval: str
    floor: str
    meaning: str


def render(report: dict[str, Any], pictures: dict[str, bytes]) -> str:
    """The page of a report (docs/evaluation.md), with pictures (PNG files' bytes) by the report's names for them.

    The same report and pictures give the same bytes.
    """
    page = Environment(
        loader=PackageLoader("ddpm.evaluation.page", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return page.get_template("report.html.j2").render(
        title=_title(report),
        findings=verdict(report),
        rows=rows(report),
        pictures=[
            {"heading": heading, "caption": caption, "data": _data_uri(pictures[name]) if name in pictures else None, "name": name}
            for name, (heading, caption) in PICTURES.items()
            if name != "clusters" or (report.get("coverage") or {}).get("by") == "cluster"
        ],
        copying=_copying_rows(report),
        coverage=report.get("coverage"),
        widest=_widest(report),
        charts=charts(report),
        judge=_judge(report),
        protocol=_protocol(report),
        cost=_cost(report),
        warnings=report.get("warnings") or [],
        not_measured=NOT_MEASURED,
    )  # fmt: skip


def _title(report: dict[str, Any]) -> str:
    generation = (report.get("protocol") or {}).get("generation") or {}
    return str(generation.get("checkpoint") or generation.get("pictures") or "generated pictures")


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


# -- the verdict -----------------------------------------------------------------------------------------------------


def verdict(report: dict[str, Any]) -> list[Finding]:
    """What the figures come to: quality, copying, coverage, and the judge's word where it was asked."""
    found = [_quality(report), _copies(report), _all_kinds(report)]
    return found + ([_judged(report["judge"])] if report.get("judge") else [])


def _quality(report: dict[str, Any]) -> Finding:
    fid, floor, excess = report.get("fid"), (report.get("noise_floor") or {}).get("fid"), report.get("excess") or {}
    if fid is None or floor is None or excess.get("fid") is None:
        return Finding(UNKNOWN, "Likeness", NOT_MEASURED)
    low, high = excess.get("fid_interval") or (None, None)
    words = f"{_named('fid', report)} {number(fid)}, where real pictures against other real ones have {number(floor)}"
    above = f"{number(excess['fid'])} above that{_between(low, high)}"
    if low is not None and low <= 0:
        return Finding(GOOD, "Likeness", f"{words}: no difference beyond the interval ({above}).")
    return Finding(FAIR if fid <= 10 * floor else BAD, "Likeness", f"{words}: {above}.")


def _copies(report: dict[str, Any]) -> Finding:
    copying = report.get("copying") or {}
    share, usual, surely = copying.get("share"), copying.get("share_held_out"), copying.get("excess_low")
    if share is None:
        return Finding(UNKNOWN, "Copying", NOT_MEASURED)
    words = f"{share:.1%} look like copies of a training picture"
    if usual is None:
        return Finding(UNKNOWN, "Copying", f"{words}; there are no held-out pictures to say what is usual.")
    words += f", and {usual:.1%} of unseen real pictures do"
    if surely is not None and surely > 0:
        return Finding(BAD, "Copying", f"{words}: {surely:.1%} too many at least.")
    words += ": no more than usual, beyond the interval."
    if leaning := _leaning(copying):
        return Finding(FAIR, "Copying", f"{words} But {leaning}.")
    return Finding(GOOD, "Copying", words)


def _leaning(copying: dict[str, Any]) -> str:
    """What there is to say where pictures are no copies, but lie nearer to the training pictures than unseen ones do.

    Two witnesses must agree. A model that draws one bad picture all the time may have them all nearer to a training
    picture, by chance, but no nearer than real ones; one that draws grey is near to everything, the unseen too.
    """
    for space, name in SPACES.items():
        facts = copying.get(space) or {}
        generated, real, closer = (facts.get(what) or {} for what in ("generated", "held_out", "closer"))
        share, usual, low = generated.get("nearer_to_train"), real.get("nearer_to_train"), closer.get("low")
        if share is None or usual is None or low is None or low <= 0.5:
            continue
        if share_excess(share, generated["n"], usual, real["n"])[1] > 0:
            return f"by {name} {share:.1%} are nearer to training pictures than to as many unseen ones, and {usual:.1%} of unseen real pictures are: it begins to learn its pictures by heart"
    return ""


def _all_kinds(report: dict[str, Any]) -> Finding:
    coverage, recall = report.get("coverage"), report.get("recall")
    words = f" Recall {recall:.2f}." if recall is not None else ""
    if not coverage:
        return Finding(UNKNOWN, "Coverage", f"By kind: {NOT_MEASURED}.{words}")
    many = {"class": "classes"}.get(coverage["by"], f"{coverage['by']}s")
    apart = f"Shares are {coverage['distance']:.1%} apart, where chance alone gives {coverage['by_chance']:.1%}.{words}"
    if coverage["missing"]:
        missing = ", ".join(coverage["missing"][:8]) + (" …" if len(coverage["missing"]) > 8 else "")
        return Finding(BAD, "Coverage", f"Drawn less than half as often as they should be: {missing}. {apart}")
    level = GOOD if coverage["distance"] <= 3 * coverage["by_chance"] else FAIR
    return Finding(level, "Coverage", f"None of {len(coverage['rows'])} {many} is missing. {apart}")


def _judged(judge: dict[str, Any]) -> Finding:
    if not judge["reported"]:
        return Finding(UNKNOWN, "Judge", f"No score: {judge['why']}.")
    score, real, other = judge["score"], judge["controls"]["real"], judge["controls"]["other"]
    words = f"{score['mean']:.2f} of 5{_between(score['low'], score['high'])}; real pictures have {real['mean']:.2f}, something else {other['mean']:.2f}."
    if score["high"] >= real["low"]:
        return Finding(GOOD, "Judge", words)
    return Finding(FAIR if score["low"] > other["high"] else BAD, "Judge", words)


# -- figures ---------------------------------------------------------------------------------------------------------


def rows(report: dict[str, Any]) -> list[Row]:
    """The table of figures."""
    floor, held_out = report.get("noise_floor") or {}, report.get("held_out") or {}
    extrapolated = " (extrapolated)" if floor.get("extrapolated") else ""
    score, recognisable = report.get("inception_score") or {}, report.get("recognisable") or {}
    against = (held_out.get("held_out") or {}).get("fid")
    found = [
        Row(_named("fid", report), number(report.get("fid")), _interval(report, "fid"), number(floor.get("fid")) + (extrapolated if floor.get("fid") is not None else ""), "distance from the training pictures; lower is better"),
        Row(_named("kid", report), number(report.get("kid")), _interval(report, "kid"), number(floor.get("kid")), "the same without FID's bias; lower is better"),
        Row("FID at infinite n", number(report.get("fid_infinity")), _spread(report.get("fid_infinity"), report.get("fid_infinity_std")), "0", "without the part that is due to the number of pictures"),
        Row("FID, held-out pictures", number(against), "", f"{number((held_out.get('train') or {}).get('fid'))} (training)" if held_out else "", _beyond_training(held_out) if held_out else ""),
        Row("Precision", number(report.get("precision")), _interval(report, "precision"), "", "generated pictures that are among the real ones; higher is better"),
        Row("Recall", number(report.get("recall")), _interval(report, "recall"), "", "real pictures that are among the generated ones; higher is better"),
        Row("Inception Score", number(score.get("mean")), _spread(score.get("mean"), score.get("std")), "", score.get("why") or "clear and varied classes; higher is better"),
    ]  # fmt: skip
    if recognisable:
        real = f"{recognisable['real']:.1%} (real)"
        found.append(Row("Recognisable", f"{recognisable['generated']:.1%}", "", real, "a classifier is sure of them"))
    return found


def _named(figure: str, report: dict[str, Any]) -> str:
    """FID_768, KID_classifier: figures of different features are different figures."""
    return (report.get("metric") or "fid").replace("fid", figure.upper())


def _beyond_training(held_out: dict[str, Any]) -> str:
    words = f"against {held_out.get('n')} of either"
    found = (held_out.get("difference") or {}).get("fid") or {}
    if found.get("low") is None or found.get("high") is None:
        return f"{words}; far above training: it fits what it has seen"
    fits = "it fits what it has seen" if found["low"] > 0 else "none beyond the interval"
    return f"{words}; difference {number(found['difference'])}{_between(found['low'], found['high'])}: {fits}"


def number(value: float | None) -> str:
    """As people read it: four digits, or that it was not measured."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:.6f}" if 1e-6 < abs(value) < 1e-4 else f"{value:.4g}"


def _interval(report: dict[str, Any], name: str) -> str:
    low, high = (report.get("intervals") or {}).get(name) or (None, None)
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def _spread(value: float | None, std: float | None) -> str:
    return "" if value is None or std is None else f"{number(value - Z * std)} to {number(value + Z * std)}"


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95%: {number(low)} to {number(high)})"


def _copying_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """By space: generated pictures beside held-out ones."""
    found = []
    for space, name in SPACES.items():
        facts = (report.get("copying") or {}).get(space)
        if not facts:
            continue
        closer = facts.get("closer") or {}
        figures = {
            "nearer_to_train": "nearer to training than to as many held-out pictures (50%: no copying)",
            "below_third": "nearest training picture less than a third as far as the second nearest",
        }
        if facts.get("threshold") != THIRD:
            figures["below_threshold"] = (
                f"nearest less than {number(facts.get('threshold'))} as far, which few held-out pictures are below"
            )
        for figure, text in figures.items():
            values = [_share((facts.get(who) or {}).get(figure)) for who in ("generated", "held_out")]
            found.append({"space": name, "text": text, "generated": values[0], "held_out": values[1]})
        text = "nearer to training than a held-out picture is (50%: no copying; less: far from both)"
        value = _share(closer.get("share"))
        if closer.get("low") is not None:
            value += f" (95%: {closer['low']:.1%} to {closer['high']:.1%})"
        found.append({"space": name, "text": text, "generated": value, "held_out": "50%"})
    return found


def _share(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.1%}"


def _widest(report: dict[str, Any]) -> float:
    rows = (report.get("coverage") or {}).get("rows") or []
    return max([max(row["high"], row["real"]) for row in rows], default=0) or 1.0


# -- curves ----------------------------------------------------------------------------------------------------------


def charts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each with a heading, and its drawing: empty where it was not measured."""
    training, levels = report.get("training") or {}, report.get("levels") or {}
    sigma = levels.get("sigma") or []
    by_level = [
        Line(name, list(zip(sigma, levels[key], strict=True)))
        for key, name in (("train", "training pictures"), ("held_out", "held-out pictures"))
        if levels.get(key)
    ]
    over_images = [
        Line(name, training[key])
        for key, name in (("loss", "training"), ("held_out_loss", "held out"))
        if training.get(key)
    ]
    at_n = [(point["n"], point["fid"]) for point in report.get("curve") or []]
    found: list[tuple[str, Markup]] = [
        ("FID at growing n", curves([Line("FID", at_n)], "pictures", "FID", "FID over the number of generated pictures", level=report.get("fid_infinity"), level_name="at infinite n")),
        ("Loss while training", curves(over_images, "images seen", "loss", "Training and held-out loss over images seen", log_y=True)),
        ("Loss by noise level", curves(by_level, "noise level σ", "loss", "Loss of training and of held-out pictures over the noise level", log_x=True, log_y=True)),
    ]  # fmt: skip
    return [{"heading": heading, "drawing": drawing} for heading, drawing in found]


# -- the judge, the protocol, the cost -------------------------------------------------------------------------------


def _judge(report: dict[str, Any]) -> dict[str, Any] | None:
    judge = report.get("judge")
    if not judge:
        return None
    kinds = []
    of = {"generated": judge["score"], **judge["controls"]}
    for kind, name in (("generated", "generated"), ("real", "real"), ("other", "something else")):
        facts, counts = of[kind], judge["distribution"].get(kind)
        mean = f"{facts['mean']:.2f} ({facts['low']:.2f} to {facts['high']:.2f})" if facts else "not reported"
        total = sum(counts or [])
        bars = [round(100 * count / total, 1) for count in counts] if counts and total else None
        kinds.append({"name": name, "mean": mean, "n": facts["n"] if facts else "", "counts": counts, "bars": bars})
    auc = judge["auc"]
    apart = f"{auc['value']:.2f}{_between(auc['low'], auc['high'])}" if auc else NOT_MEASURED
    counted = {name.replace("_", " "): value for name, value in judge["counted"].items()}
    spent = {"tokens sent": judge["tokens"]["sent"], "tokens answered": judge["tokens"]["answered"],
             "cost": NOT_MEASURED if judge["cost"] is None else number(judge["cost"])}  # fmt: skip
    return {**judge, "kinds": kinds, "apart": apart, "facts": {**counted, **spent}}


def _protocol(report: dict[str, Any]) -> list[dict[str, Any]]:
    protocol = report.get("protocol") or {}
    halves = [("Measurement", protocol.get("measurement")), ("Generation", protocol.get("generation"))]
    judge = (report.get("judge") or {}).get("protocol")
    return [
        {"heading": heading, "facts": {name: _word(value) for name, value in half.items()} if half else {}}
        for heading, half in [*halves, *([("Judge", judge)] if judge else [])]
    ]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cost(report: dict[str, Any]) -> dict[str, str]:
    cost = report.get("cost") or {}
    found = {f"evaluation: {stage}": _duration(seconds) for stage, seconds in (cost.get("seconds") or {}).items()}
    found |= {f"run: {step}": _duration(seconds) for step, seconds in (report.get("run_seconds") or {}).items()}
    if cost.get("pictures") is not None:
        found["pictures drawn or read"] = f"{cost['pictures']:,}"
    if cost.get("nfe") is not None:
        found["network evaluations a picture"] = f"{cost['nfe']:,}"
    return found


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
