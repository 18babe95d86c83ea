"""How much harder a second set was than the first: their FIDs, less what real pictures of each score, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ddpm.evaluation.figures.intervals import is_biased
from ddpm.evaluation.figures.numbers import between, distance_name, number
from ddpm.evaluation.report import Generation, Measurement, Protocol, Report

# What must be the same for one set's FID to say anything beside another's. The numbers of pictures need not be: what FID
# owes to them its noise floor owes to them too.
MEASURED, DRAWN = (
    ("extractor", "layer", "weights_sha256", "image_size"),
    ("sampler", "sampling_steps", "churn", "guidance"),
)


def harder(first: Report, second: Report) -> str:
    """The sentence: what FID has above its noise floor on the second set, less that on the first, with its 95% interval.

    Where they were not measured alike, or with few pictures for the features, it says so, and claims nothing.
    """
    name, other = first["dataset"]["name"], second["dataset"]["name"]
    unsaid = f"How much harder {other} is than {name} cannot be said: "
    if problem := _unlike(first, second) or _too_few(first) or _too_few(second):
        return f"{unsaid}{problem}."
    metric = distance_name("fid", first.get("metric"))
    above, above_first = (report["excess"]["fid"] for report in (second, first))
    difference = above - above_first
    half = math.hypot(*(report["excess"]["fid_interval"][1] - report["excess"]["fid"] for report in (first, second)))
    words = f"{metric} is {number(above)} above its noise floor there, and {number(above_first)} on {name}"
    less = f"a difference of {number(difference)}{between(difference - half, difference + half)}"
    if abs(difference) <= half:
        return f"{other} is neither surely harder nor easier than {name}: {words}, {less}."
    return f"{other} is {'harder' if difference > 0 else 'easier'} than {name}: {words}, {less}."


def _unlike(first: Report, second: Report) -> str:
    """In what two reports were not made alike; empty where in nothing that matters."""
    a, b = (_facts(report) for report in (first, second))
    for name in (*MEASURED, *DRAWN):
        if a.get(name) == b.get(name):
            continue
        if name == "weights_sha256" and a.get("extractor") == "classifier":
            return "each set was measured by a classifier of its own; extractor=inception measures both alike"
        return f"they were measured with different {name} ({a.get(name)} and {b.get(name)})"
    return ""


def _facts(report: Report) -> dict[str, object]:
    """What a report was measured with, and how its pictures were drawn."""
    protocol = report.get("protocol") or Protocol()
    measured: Mapping[str, object] = protocol.get("measurement") or Measurement()
    drawn: Mapping[str, object] = protocol.get("generation") or Generation()
    return {name: measured.get(name) for name in MEASURED} | {name: drawn.get(name) for name in DRAWN}


def _too_few(report: Report) -> str:
    """Why FID says little of a set; empty where it does not."""
    measurement = report["protocol"]["measurement"]
    fewest = min(report["n"], measurement.get("n_real") or report["n"])
    features = measurement.get("layer")
    if not features or not is_biased(fewest, features):
        return ""
    return f"{fewest:,} pictures of {report['dataset']['name']} are few for {features:,} features, so that FID is not to be trusted there"
