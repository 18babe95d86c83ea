"""Whatever is handed to MLflow is made fit for it first."""

import json
import math

import numpy as np
import pytest
import torch
from mlflow.utils.validation import _validate_metric, _validate_metric_name, _validate_param_name, _validate_tag_name

from ddpm.model.diffusion import Diffusion
from ddpm.settings import ModelSettings
from ddpm.tracking import fit
from ddpm.training.held_out import BANDS, PICTURES, by_band


@pytest.mark.parametrize(
    "model",
    [
        ModelSettings(),
        ModelSettings(schedule="cosine"),
        ModelSettings(objective="edm"),
        ModelSettings(timesteps=10),
    ],
    ids=["default", "cosine", "edm", "few steps"],
)
def test_the_levels_names_of_every_number_of_held_out_pictures(model):
    diffusion = Diffusion(model)
    for n in range(1, PICTURES + 1):
        found = by_band([1.0] * n, diffusion)
        assert 0 < len(found) <= BANDS
        for name in found:
            _validate_metric_name(name)
            assert fit.name(name) == name, "nothing is left to be mended"
            level = name.removeprefix("held_out_loss/sigma_")
            assert math.isfinite(float(level)) and "e" not in level


def test_a_level_above_a_hundred_is_written_out():
    names = {name for n in range(1, 65) for name in by_band([1.0] * n, Diffusion(ModelSettings(schedule="linear")))}
    assert any(float(name.rpartition("_")[2]) >= 100 for name in names)
    assert not [name for name in names if "+" in name]


NAMES = [
    "loss", "held_out_loss/sigma_0.01", "loss/1.1e+02", "a" * 400, "", "  ", "/abs", "../up", "a//b", "a/../b", "x/", ".",
    "..", "naïve", "日本語", "new\nline", "nul\0", "🙂", "a'b\"c`d", "50%", "{{$}}", "C:\\x", "a" * 249 + "é" * 9,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_taken(name):
    found = fit.name(name)
    _validate_metric(found, 1.0, 0, 0)
    _validate_param_name(found)
    _validate_tag_name(found)
    assert len(found) <= 250
    assert fit.name(found) == found


def test_long_names_that_differ_stay_different():
    assert fit.name("a" * 400) != fit.name("a" * 401)
    assert fit.image_name("gänse+1") == "g_nse_1"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0), (True, 1.0), (np.float32(0.5), 0.5), (torch.tensor(2.0), 2.0), ("3", 3.0), (-0.0, 0.0), (1e308, 1e308),
        (math.nan, None), (math.inf, None), (-math.inf, None), (None, None), ("many", None), (10**400, None),
        (torch.tensor([1.0, 2.0]), None), (np.array([1.0, 2.0]), None), ([], None),
    ],
)  # fmt: skip
def test_a_figure_is_a_finite_number_or_none(value, number):
    assert fit.figure(value) == number
    if number is not None:
        _validate_metric("x", fit.figure(value), 0, 0)


def test_texts_and_steps_have_a_length():
    assert fit.param("x" * 6000) == "x" * 6000
    assert fit.param("x" * 6001) == "x" * 5999 + "…"
    assert fit.tag("nul\0") == "nul\\x00"
    assert (fit.step(10**30), fit.step(-(10**30)), fit.step(7.0)) == (2**63 - 1, -(2**63 - 1), 7)


def test_a_data_sets_profile_stays_json():
    facts = {"n": 3, "held_out": 1, "classes": ["x" * 300] * 5000}
    assert json.loads(fit.profile(facts)) == {"n": 3, "held_out": 1}
    assert json.loads(fit.profile({"n": 3, "classes": ["a"]})) == {"n": 3, "classes": ["a"]}
