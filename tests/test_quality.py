"""Benchmarks of quality, in miniature, and the small model that comes with the repository."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm
from bench.__main__ import main
from bench.evaluation import _random_weights
from bench.quality import RECIPES
from ddpm.data.ingest import ingest
from ddpm.progress import Quiet
from ddpm.settings import IngestSettings, ModelSettings, TrainSettings
from ddpm.store import open_store

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "docs" / "results" / "flowers32"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """What makes a benchmark of quality small: 72 pictures of 8x8, and an Inception of random weights up to layer 64."""
    root = tmp_path_factory.mktemp("quality")
    pictures = root / "pictures"
    pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (72, 8, 8, 3), dtype=np.uint8)
    for number, picture in enumerate(noise):
        Image.fromarray(picture).save(pictures / f"{number}.png")
    source = IngestSettings(source=str(pictures), dataset_name="tiny", image_size=8, held_out=0.1)
    ingest(source, open_store(str(root / "store")), Quiet(), 1)
    asked = {
        "dataset": "tiny", "store": root / "store", "out": root / "out", "weights": _random_weights(root), "layer": 64,
        "channel_mults": "1-2", "base_channels": 8, "blocks": 1, "attention_resolution": 4, "batch_size": 16, "images": 70,
        "n": 16, "choose_n": 16, "draws": 1, "sampling_steps": 2, "sample_batch": 16,
    }  # fmt: skip
    return root, [f"--set={name}={value}" for name, value in asked.items()]


def test_what_is_trained_and_measured_goes_on_where_it_was(tiny, capsys):
    root, flags = tiny
    flags += ["--out", str(root / "rows.json")]
    main(["recipes", *flags, "--set=recipes=founding"])
    (row,) = rows = json.loads((root / "out" / "tiny-8px" / "recipes-70.json").read_text())
    assert (row["name"], row["images"], row["n"]) == ("founding-12", 64, 16) and row["fid"] > 0
    trained = {path: path.read_bytes() for path in (root / "out").rglob("*.safetensors")}
    asked = {"images": 140, "samplers": "heun:2", "guide_images": 70, "guidances": 2, "guided": "dpm-solver++:2"}
    asked = [f"--set={name}={value}" for name, value in asked.items()]
    main(["drawing", *flags, "--set=recipe=founding", *asked])
    drawn = json.loads((root / "out" / "tiny-8px" / "drawing-140.json").read_text())
    told = [(row["name"], row["nfe"], row["guidance"]) for row in drawn]
    assert told == [("heun:2 1", 3, 1.0), ("dpm-solver++:2 2", 4, 2.0)]
    main(["recipes", *flags, "--set=recipes=founding"])
    assert json.loads((root / "out" / "tiny-8px" / "recipes-70.json").read_text()) == rows, "nothing is done twice"
    assert trained.items() <= {path: path.read_bytes() for path in (root / "out").rglob("*.safetensors")}.items()
    assert "founding-12, FID" in capsys.readouterr().out
    everything = [*(root / "out").rglob("*.safetensors")]
    asked = [f"--set=model={row['checkpoint']}", "--set=samplers=ddim:3,heun:2"]
    main(["drawing", *flags, *asked])
    assert json.loads((root / "out" / "tiny-8px" / "drawing-140.json").read_text()) == drawn, (
        "each has a table of its own"
    )
    drawn = json.loads((root / "out" / "tiny-8px" / f"drawing-{row['weights'][:8]}.json").read_text())
    assert [(one["name"], one["nfe"], one["weights"]) for one in drawn] == [
        ("ddim:3 1", 3, row["weights"]),
        ("heun:2 1", 3, row["weights"]),
    ]
    assert [*(root / "out").rglob("*.safetensors")] == everything, "a model that there is needs no training"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_settings(name):
    network = ModelSettings.__dataclass_fields__
    ModelSettings(**{setting: value for setting, value in RECIPES[name].items() if setting in network})
    TrainSettings(**{setting: value for setting, value in RECIPES[name].items() if setting not in network})


def test_commands_of_the_results_name_settings_and_recipes_that_there_are():
    """A page whose commands no longer run makes nothing again."""
    from bench.__main__ import _read_settings

    found = re.findall(r"make bench BENCH=(\w+)(?: SET='([^']*)')?", (ROOT / "docs" / "results.md").read_text())
    assert len(found) >= 6
    for bench, said in found:
        settings = _read_settings(said.split(), [bench])[bench]
        recipes = settings["recipes"].split(",") if bench == "recipes" else [settings.get("recipe", "ours")]
        assert {*recipes} <= RECIPES.keys()


def test_the_small_model_draws_the_pictures_that_the_readme_shows():
    """From a clone, without training. Another processor rounds otherwise, and that moves a pixel by little."""
    model = ddpm.open_model(RELEASED)
    drawn = model.draw(range(4)).permute(0, 2, 3, 1).numpy().astype(int)
    shown = np.array(Image.open(ROOT / "docs" / "pictures" / "flowers.png").convert("RGB")).astype(int)
    for seed, picture in enumerate(drawn):
        left = 4 + 68 * seed
        cell = shown[4:68, left : left + 64][::2, ::2]
        assert np.abs(picture - cell).mean() < 2, seed
    assert (RELEASED / "weights.safetensors").stat().st_size < 8_000_000
    card = (RELEASED / "README.md").read_text()
    assert model.origin.weights_sha256 in card and not re.search(r"/(root|home|work|tmp)/", card)
