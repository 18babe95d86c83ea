"""A weaker model that guides: how it draws, and that a version brings it along."""

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ddpm.cli import main
from ddpm.errors import WrongInput
from ddpm.registry.contest import _measured
from ddpm.registry.export import export, safetensors_files
from ddpm.registry.version import downloaded, find, open_registry, register, resolve
from ddpm.serving.server import tag_of
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.training.checkpoint import load_model

SEEDS = range(3)
PLAIN = DrawSettings(sampler="dpm-solver++", sampling_steps=5, sample_batch=4)


@pytest.fixture
def guided(checkpoints):
    """A checkpoint's model that another one guides."""
    return load_model(checkpoints[0]).guided_by(load_model(checkpoints[1]))


@pytest.fixture
def guided_report(checkpoints, report_of, guided):
    """A report of pictures that were guided at 2."""
    report = report_of(checkpoints[0])
    report["protocol"]["generation"] |= {"guidance": 2.0, "guide": guided.guide.origin.weights_sha256}
    return report


def test_guidance_leads_away_from_the_guide(guided):
    """D_guide + w (D - D_guide), and every step asks both: at 1 nothing else is drawn, and nothing else is asked."""
    x, sigma = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(1.5)
    with torch.inference_mode():
        own, weaker = guided.denoiser()(x, sigma), guided.guide.denoiser()(x, sigma)
        led = guided.denoiser(guidance=3.0)(x, sigma)
    torch.testing.assert_close(led, (weaker + 3 * (own - weaker)).clamp(-1, 1))
    assert torch.equal(guided.draw(SEEDS, PLAIN), replace(guided, guide=None).draw(SEEDS, PLAIN))
    strong = replace(PLAIN, guidance=2.0)
    assert not torch.equal(guided.draw(SEEDS, strong), guided.draw(SEEDS, PLAIN))
    assert (guided.evaluations(PLAIN), guided.evaluations(strong)) == (5, 10)
    assert torch.equal(guided.draw([2], strong)[0], guided.draw(SEEDS, strong)[2]), "a picture belongs to its seed"


def test_what_does_not_fit_is_refused(guided):
    plain = replace(guided, guide=None)
    with pytest.raises(WrongInput, match="1 \\(none\\) for a model with neither classes nor a guide"):
        plain.draw(SEEDS, replace(PLAIN, guidance=2.0))
    with pytest.raises(WrongInput, match="guide: its picture size is 16, and the model's is 8"):
        plain.guided_by(replace(plain, image_size=16))
    with pytest.raises(WrongInput, match="guide: its number of classes is 3, and the model's is 0"):
        plain.guided_by(replace(plain, settings=replace(plain.settings, classes=3)))
    with pytest.raises(WrongInput, match="guide: it has the model's own weights, and leads nowhere"):
        plain.guided_by(plain)


def test_a_version_brings_its_guide(checkpoints, place, guided, guided_report):
    made = register(place, "m", checkpoints[0], guided_report, None, {}, guide=checkpoints[1])
    reference = f"models:/m/{made['version']}"
    found = resolve(reference, place)
    assert found.drawing.guidance == 2.0
    assert found.guide.origin.weights_sha256 == guided.guide.origin.weights_sha256, "the same file, to the byte"
    drawing = replace(PLAIN, guidance=2.0)
    assert torch.equal(found.draw(SEEDS, drawing), guided.draw(SEEDS, drawing))
    client = open_registry(place, reference)
    with downloaded(client, find(client, reference), ["files.json", "guide.safetensors"]) as files:
        known = json.loads((files / "files.json").read_text())["sha256"]
        assert known["guide.safetensors"] == hashlib.sha256((files / "guide.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("missing", ["guide.safetensors", "guide.json"])
def test_a_guide_that_is_half_there_is_said(guided, tmp_path, missing):
    for name, data in safetensors_files(guided).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / missing).unlink()
    with pytest.raises(WrongInput, match=f"its {missing} is not there"):
        resolve(str(tmp_path), "")


def test_a_report_of_pictures_that_another_model_guided_is_refused(checkpoints, place, report_of, guided_report):
    with pytest.raises(WrongInput, match=r"report: it is guided by weights .*…, and no guide is given; give the guide"):
        register(place, "m", checkpoints[0], guided_report, None, {})
    with pytest.raises(WrongInput, match=r"report: it is of pictures that nothing guided, and guide has weights"):
        register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {}, guide=checkpoints[1])


def test_with_another_guide_or_none_it_is_another_version(checkpoints, place, report_of, guided_report):
    plain = register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    made = register(place, "m", checkpoints[0], guided_report, None, {}, guide=checkpoints[1])
    again = register(place, "m", checkpoints[0], guided_report, None, {}, guide=checkpoints[1])
    assert [(one["version"], one["new"]) for one in (plain, made, again)] == [(1, True), (2, True), (2, False)]
    client = open_registry(place, "models:/m/2")
    assert "Guided: by 2 away from a weaker model" in find(client, "models:/m/2").description
    assert "Guided" not in find(client, "models:/m/1").description


@pytest.mark.parametrize("guide", [True, False])
def test_a_version_is_measured_again_with_a_guide_where_it_has_one(
    checkpoints, place, report_of, guided_report, monkeypatch, guide
):
    """Whichever of the two has one: the gate's settings are the other's."""
    if guide:
        register(place, "m", checkpoints[0], guided_report, None, {}, guide=checkpoints[1])
    else:
        register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    seen, of_other = [], PLAIN if guide else replace(PLAIN, guidance=1.25)
    monkeypatch.setattr(
        "ddpm.registry.contest.evaluate", lambda model, data, settings, drawing, *rest: seen.append((model, drawing))
    )
    monkeypatch.setattr("ddpm.registry.contest.open_dataset", lambda uri: None)
    one = SimpleNamespace(reference="models:/m/1")
    _measured(SimpleNamespace(tracking_uri=place, store=None, progress=None), one, "", EvaluateSettings(), of_other)
    ((model, drawing),) = seen
    assert (model.guide is not None) == guide and drawing == replace(PLAIN, guidance=2.0 if guide else 1.0)


def test_a_tag_follows_from_the_guide_too(guided):
    strong = replace(PLAIN, guidance=2.0)
    other = replace(guided.guide, origin=replace(guided.guide.origin, weights_sha256="other"))
    served = [
        SimpleNamespace(model=one, reference="x", arithmetic="", on={}) for one in (guided, guided.guided_by(other))
    ]
    first, second = (tag_of(one, strong, 3) for one in served)
    assert first != second
    assert len({tag_of(one, PLAIN, 3) for one in served}) == 1, "where nothing guides, the bytes are the same"


def test_an_exported_folder_brings_it_too_and_half_as_large_where_that_is_asked(guided, place, tmp_path, checkpoints):
    for name, data in safetensors_files(guided).items():
        (tmp_path / name).write_bytes(data)
    found = resolve(str(tmp_path), "")
    drawing = replace(PLAIN, guidance=1.5)
    assert torch.equal(found.draw(SEEDS, drawing), guided.draw(SEEDS, drawing))
    export(str(tmp_path), "safetensors", str(tmp_path / "small"), place, dtype="bf16")
    small = resolve(str(tmp_path / "small"), "")
    for name, weight in small.net.state_dict().items():
        assert torch.equal(weight, guided.net.state_dict()[name].bfloat16().float()), name
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (tmp_path, tmp_path / "small")]
    assert sizes[1] < 0.6 * sizes[0]
    with pytest.raises(WrongInput, match="guide: diffusers' DDPMPipeline has one network"):
        export(str(tmp_path), "diffusers", str(tmp_path / "theirs"), place)
    for dtype, form in (("int8", "safetensors"), ("bf16", "diffusers")):
        with pytest.raises(WrongInput, match="dtype: "):
            export(checkpoints[0], form, str(tmp_path / "none"), place, dtype=dtype)
    assert not (tmp_path / "none").exists() and not (tmp_path / "theirs").exists()


def test_by_hand(checkpoints, tmp_path, guided):
    """`ddpm sample --guide`, whose pictures are the same bytes."""
    out = tmp_path / "out"
    flags = [
        "--model",
        checkpoints[0],
        "--n",
        "2",
        "--sampler",
        "dpm-solver++",
        "--sampling-steps",
        "5",
        "--sample-batch",
        "4",
    ]
    assert main(["sample", *flags, "--out", str(out), "--guide", checkpoints[1], "--guidance", "2"]) == 0
    import numpy as np
    from PIL import Image

    drawn = guided.draw(range(2), replace(PLAIN, guidance=2.0)).permute(0, 2, 3, 1).numpy()
    for seed in range(2):
        assert np.array_equal(np.array(Image.open(out / f"{seed:04d}.png")), drawn[seed])
    shutil.rmtree(out)
    assert main(["sample", *flags, "--out", str(out), "--guidance", "2"]) == 2
    assert main(["sample", *flags, "--out", str(out), "--guide", checkpoints[1]]) == 2, "at 1 nothing guides"
    assert not out.exists()
