"""A number becomes a picture: the same bytes for the same seed, whatever shares its batch, and those of `ddpm sample`."""

import base64
import hashlib
import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.errors import WrongInput
from ddpm.model.sampling import Between, PictureNoise, slerp
from ddpm.progress import Quiet
from ddpm.serving.settings import ServeSettings, from_environment
from ddpm.serving.shapes import Shape, choose, fixed, measure
from ddpm.settings import DrawSettings
from ddpm.steps.sample import sample
from ddpm.training.checkpoint import load_model
from ddpm.workplace import Workplace


@pytest.fixture(scope="module")
def sampled(checkpoint, tmp_path_factory):
    """What `ddpm sample` writes of seeds 0 to 19: the files' bytes, and the grid's."""
    out = tmp_path_factory.mktemp("sampled")
    facts = sample(Workplace(Quiet()), checkpoint, 20, 0, str(out), sampling_steps=5)
    return (
        [(out / f"{number:04d}.png").read_bytes() for number in range(20)] + [(out / "grid.png").read_bytes()] + [facts]
    )


def test_the_same_bytes_as_ddpm_sample_whatever_shares_the_batch(site, sampled):
    assert site.ask("/v1/images/3.png?steps=5").body == sampled[3]
    assert site.ask("/v1/images", {"seed": 3, "steps": 5}).body == sampled[3]
    assert site.ask("/v1/images", {"seed": 0, "n": 20, "steps": 5}).body == sampled[20]
    found = site.ask("/v1/images", {"seeds": [19, 3, 3], "steps": 5, "format": "json"}).json
    pictures = [base64.b64decode(image["png"]) for image in found["images"]]
    assert pictures == [sampled[19], sampled[3], sampled[3]]
    assert found["images"][0]["sha256"] == hashlib.sha256(sampled[19]).hexdigest()
    assert (found["alias"], found["steps"]) == ("model", 5)


def test_many_callers_at_once_share_batches_and_each_gets_its_own(site, sampled):
    before, got, sizes = site.server.queue._evaluated, {}, []
    site.server.queue._evaluated = lambda version, pictures, seconds: sizes.append(pictures)
    callers = [
        threading.Thread(target=lambda seed=seed: got.update({seed: site.ask(f"/v1/images/{seed}.png?steps=5").body}))
        for seed in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    site.server.queue._evaluated = before
    assert [got[seed] for seed in range(20)] == sampled[:20]
    assert sum(sizes) == 20 * 5 and 1 < max(sizes) <= 16


def test_a_picture_that_is_to_be_kept_is_the_same_file_under_its_number(site, sampled):
    shown, kept = (site.ask(f"/v1/images/5.png?steps=5{more}") for more in ("", "&download=true"))
    assert kept.body == shown.body == sampled[5]
    assert kept.headers["content-disposition"] == 'attachment; filename="5.png"'
    assert "content-disposition" not in shown.headers


def test_who_has_it_already_is_told_so(site):
    first = site.ask("/v1/images/5.png?steps=5")
    assert first.headers["cache-control"] == "public, no-cache"
    known = site.ask("/v1/images/5.png?steps=5", If_None_Match=f'"x", W/{first.headers["etag"]}')
    assert (known.status, known.body, known.headers["etag"]) == (304, b"", first.headers["etag"])
    for path in ("/v1/images/6.png?steps=5", "/v1/images/5.png?steps=6", "/v1/images/5.png?steps=5&sampler=heun"):
        assert site.ask(path, If_None_Match=first.headers["etag"]).status == 200, path


def test_a_picture_appears_and_is_the_picture_at_last(site, sampled):
    strip = site.ask("/v1/denoising/3.png?steps=5&frames=4")
    assert Image.open(io.BytesIO(strip.body)).size == ((4 * 10 + 2) * 8, 12 * 8)
    moving = Image.open(io.BytesIO(site.ask("/v1/denoising/3.webp?steps=5&frames=4").body))
    assert (moving.n_frames, moving.info["loop"]) == (4, 1)
    moving.seek(3)
    picture = np.asarray(Image.open(io.BytesIO(sampled[3])))
    assert np.array_equal(np.asarray(moving.convert("RGB")), picture)
    moving.seek(0)
    assert not np.array_equal(np.asarray(moving.convert("RGB")), picture)


def test_a_walk_leads_from_one_picture_to_the_other(site, sampled):
    found = site.ask("/v1/images", {"seed": 3, "walk_to": 9, "n": 4, "steps": 5, "format": "json"}).json["images"]
    pictures = [base64.b64decode(image["png"]) for image in found]
    assert (pictures[0], pictures[3]) == (sampled[3], sampled[9])
    assert len(set(pictures)) == 4
    assert [image["share"] for image in found] == [0, 1 / 3, 2 / 3, 1]


def test_between_two_draws_noise_is_as_strong_as_they_are():
    one, other = PictureNoise([1, 2], 16, torch.device("cpu"))()
    between = PictureNoise([Between(1, 2, 0.0), Between(1, 2, 0.5), Between(1, 2, 1.0)], 16, torch.device("cpu"))()
    assert torch.equal(between[0], one) and torch.equal(between[2], other)
    assert between[1].norm() == pytest.approx(float((one.norm() + other.norm()) / 2), rel=0.02)
    assert torch.equal(slerp(one, one, 0.5), one)


def test_classes_and_guidance_where_the_model_has_them(labelled, serve, tmp_path):
    site = serve(labelled)
    facts = sample(Workplace(Quiet()), labelled, 1, 4, str(tmp_path), label=7, sampling_steps=5, guidance=2.0)
    asked = {"seed": 4, "label": 7, "steps": 5, "guidance": 2.0}
    assert site.ask("/v1/images", asked).body == Path(facts["files"][0]).read_bytes()
    walk = site.ask("/v1/images", {"seed": 4, "walk_to": 5, "n": 2, "steps": 1, "format": "json"}).json["images"]
    assert [one["label"] for one in walk] == [4, 4], "the first seed's class"
    assert site.ask("/v1/images", {**asked, "format": "json"}).json["images"][0]["label"] == 7
    assert site.ask("/v1/images", {"seed": 14, "steps": 5, "format": "json"}).json["images"][0]["label"] == 4
    assert (
        site.ask("/v1/images", {**asked, "label": 10}).json["detail"]
        == "label: 10 will not do; the model has classes 0 to 9"
    )


def test_labels_may_differ_within_a_batch(labelled):
    model = load_model(labelled)
    drawing = DrawSettings(sampling_steps=5, sample_batch=4)
    both = model.draw([4, 4, 4], drawing, [7, None, 2])
    for picture, label in zip(both, (7, 4, 2), strict=True):
        assert torch.equal(picture, model.draw([4], drawing, label)[0])


def test_a_batch_is_chosen_among_those_with_the_same_bytes(checkpoint):
    model = load_model(checkpoint)
    measured = measure(model, latency=1e9)
    assert {shape.pictures for shape in measured} == {1, 2, 4, 8, 16, 32, 64, 128, 256}
    drawing, own = DrawSettings(sampling_steps=5, sample_batch=16), [3, 8]
    for shape in measured:
        if shape.same:
            found = model.draw(own, DrawSettings(sampling_steps=5, sample_batch=shape.pictures))
            assert torch.equal(found, model.draw(own, drawing)), shape
    assert 16 in {shape.pictures for shape in measured if shape.same}


def test_a_larger_batch_must_be_worth_the_wait():
    def shape(pictures, rate, same=True):
        return Shape(pictures, pictures / rate, same)

    assert choose([shape(1, 10, False), shape(16, 40), shape(32, 41), shape(64, 60)]) == (16, 64)
    assert choose([shape(1, 10), shape(4, 30), shape(16, 40)]) == (1, 4, 16)


def test_larger_batches_are_not_tried_where_the_engines_own_is_slow_already(checkpoint):
    assert max(shape.pictures for shape in measure(load_model(checkpoint), latency=0)) == 16


def test_settings_come_from_flags_then_from_the_environment(monkeypatch):
    monkeypatch.setenv("DDPM_SERVE_PORT", "9000")
    monkeypatch.setenv("DDPM_SERVE_CANARY", "0.5")
    monkeypatch.setenv("DDPM_SERVE_TOKENS", "name sha256:" + "0" * 64)
    found = from_environment({"port": "7000", "model": "x", "canary": None})
    assert found == ServeSettings(port=7000, canary=0.5)


def test_a_batch_in_which_a_picture_hangs_on_its_place_is_refused(checkpoint):
    model = load_model(checkpoint)
    assert fixed(model, 4)[0].pictures == 4
    real = model.net.forward

    def uneven(x, t, labels=None):
        found = real(x, t, labels)
        found[-1] += 1e-6
        return found

    model.net.forward = uneven
    with pytest.raises(WrongInput, match="^batch: 4 will not do here: .*; choose 8 or 16, or 0$"):
        fixed(model, 4)
