"""What high learning rates do to a training, with the guard and without, over several seeds.

    make bench BENCH=spikes SET='dataset=flowers32 images=40000 rates=1e-3,3e-3'

See docs/results.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench import quality
from bench.quality import FOUNDING, Place, Say
from bench.table import Row
from ddpm.errors import Refused
from ddpm.training.checkpoint import load_model

SETTINGS: dict[str, Any] = {
    **quality.SETTINGS,
    "images": 80_000,
    "draws": 1,
    "n": 2048,
    "rates": "1e-3,3e-3",
    "seeds": "0,1,2",
    "clip_norm": 0.0,  # as the founding work had it; the guard is then alone
}


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    place = Place.of(settings, say)
    rows: list[dict[str, Any]] = []
    for rate in settings["rates"].split(","):
        for guard in (0.0, 10.0):
            for seed in settings["seeds"].split(","):
                at = replace(place, settings={**settings, "train_seed": int(seed)})
                recipe = {
                    **FOUNDING, "lr": float(rate), "guard_factor": guard, "clip_norm": settings["clip_norm"],
                    "ema_half_lives": "10k",
                }  # fmt: skip
                name = f"spikes-{rate}-{'guarded' if guard else 'bare'}"
                row: dict[str, Any] = {"name": f"{name}-{seed}"}
                try:
                    facts = at.trained(name, recipe)
                except Refused as problem:
                    row |= {"refused": str(problem), "fid": float("nan")}
                else:
                    model = load_model(facts["last_checkpoint"])
                    told = {what: facts[what] for what in ("loss", "held_out_loss", "skipped_steps", "rollbacks")}
                    row |= at.figures(row["name"], model) | told
                rows.append(row)
    place.keep("spikes", rows)
    return [Row("spikes", row["name"], "FID", row["fid"]) for row in rows]
