"""What recipes come to, at one budget of images, by the same network: the founding one, ours, and ours but for one thing.

    make bench BENCH=recipes SET='dataset=flowers32 recipes=founding,ours images=500000'

See docs/results.md. With several lists of multipliers each recipe is trained with each of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench import quality
from bench.quality import RECIPES, Place, Say
from bench.table import Row

SETTINGS: dict[str, Any] = {
    **quality.SETTINGS,
    "recipes": "founding,ours",  # of bench.quality.RECIPES
    "lists": "",  # of multipliers, separated by commas; empty: channel_mults alone
    "tag": "",  # tells these trainings from others of the same recipes
}


def run(settings: dict[str, Any], say: Say) -> list[Row]:
    place = Place.of(settings, say)
    rows: list[dict[str, Any]] = []
    for mults in (settings["lists"] or settings["channel_mults"]).split(","):
        at = replace(place, settings={**settings, "channel_mults": mults})
        for recipe in settings["recipes"].split(","):
            name = "-".join(part for part in (recipe, mults.replace("-", ""), settings["tag"]) if part)
            facts = at.trained(name, RECIPES[recipe])
            _, train = at.settings_of(RECIPES[recipe], settings["images"])
            model = at.average_of(facts["last_checkpoint"], train.half_lives)
            rows.append({**at.figures(name, model), "spent": facts["spent"], "images": facts["images_seen"]})
    place.keep(f"recipes-{settings['tag'] or settings['images']}", rows)
    return [Row("recipes", f"{row['name']}, FID (floor {row['floor']:.2f})", "", row["fid"]) for row in rows]
