"""How pictures of one trained model come out by each sampler, and with a weaker model as its guide.

    make bench BENCH=drawing SET='dataset=flowers32 images=500000 guide_images=60000'
    make bench BENCH=drawing SET='dataset=flowers32 model=docs/results/flowers32'

The second trains nothing. See docs/results.md. Network evaluations are counted whole: guided pictures take two a step.
"""

from __future__ import annotations

import time
from typing import Any

from bench import quality
from bench.quality import RECIPES, Place, Say
from bench.table import Row
from ddpm.api import open_model
from ddpm.model.model import Model

SETTINGS: dict[str, Any] = {
    **quality.SETTINGS,
    "model": "",  # that draws: a folder, a version or a checkpoint; empty: one that is trained by the recipe
    "recipe": "ours",
    "tag": "",
    "samplers": "dpm-solver++:10,dpm-solver++:20,heun:18,ddim:50,ddim:250,ancestral:1000",  # NAME:STEPS
    "guide_images": 0,  # the guide's budget; 0: none
    "guidances": "1.3,1.6,2,2.5",
    "guided": "dpm-solver++:20",
}


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    place = Place.of(settings, say)
    name = "-".join(
        part for part in (settings["recipe"], settings["channel_mults"].replace("-", ""), settings["tag"]) if part
    )
    model = open_model(settings["model"]) if settings["model"] else _trained(place, name)
    asked = [(one, model, 1.0) for one in settings["samplers"].split(",") if one]
    if settings["guide_images"]:
        weaker = {**RECIPES[settings["recipe"]], "ema_half_lives": "10k"}  # the same, but short
        short = place.trained(f"{name}-guide", weaker, settings["guide_images"])
        guide = place.average_of(short["last_checkpoint"], (10_000,))
        guided = model.guided_by(guide)
        asked += [(settings["guided"], guided, float(weight)) for weight in settings["guidances"].split(",")]
    rows = []
    for sampler, drawn, weight in asked:
        solver, steps = sampler.split(":")
        drawing = place.drawing(sampler=solver, sampling_steps=int(steps), guidance=weight)
        began = time.monotonic()
        drawn.draw(range(settings["sample_batch"]), drawing)
        speed = settings["sample_batch"] / (time.monotonic() - began)
        rows.append({**place.figures(f"{sampler} {weight:g}", drawn, drawing), "pictures_per_second": speed})
    of = model.origin.weights_sha256[:8] if settings["model"] else settings["images"]
    place.keep(f"drawing-{settings['tag'] or of}", rows)
    return [Row("drawing", f"{row['name']}, {row['nfe']} evaluations, FID", "", row["fid"]) for row in rows]


def _trained(place: Place, name: str) -> Model:
    recipe = RECIPES[place.settings["recipe"]]
    facts = place.trained(name, recipe)
    _, train = place.settings_of(recipe, place.settings["images"])
    return place.average_of(facts["last_checkpoint"], train.half_lives)
