"""A version's recorded sample, and whether it is drawn again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from ddpm.registry.folder import open_folder
from ddpm.registry.sample import PICTURES, SAMPLE, record, surroundings, verify, verify_with
from ddpm.registry.version import register, resolve
from ddpm.settings import DrawSettings
from ddpm.store import Damaged
from ddpm.tracking import open_client
from ddpm.training.checkpoint import load_model


@pytest.fixture
def model(checkpoints):
    return replace(load_model(checkpoints[0]), drawing=DrawSettings(sampler="ddim", sampling_steps=3, sample_batch=16))


@pytest.fixture
def folder(model, tmp_path):
    """A folder with the model's recorded sample."""
    files, _ = record(model)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return replace(open_folder(tmp_path, "models:/m/1"), sha256=dict.fromkeys(files))


def test_the_same_model_draws_the_same_bytes(model, folder):
    found = verify_with(model, folder)
    assert (found.reproduced, found.same_bytes, found.near) == (True, 16, 1.0)
    assert "16 of 16 pictures of its recorded sample have the same bytes" in found.says


def test_the_recorded_pictures_are_those_of_their_seeds(model, folder):
    kept = load((folder.path / PICTURES).read_bytes())["images"]
    assert torch.equal(kept, model.draw(range(16)))
    assert torch.equal(kept[5:6], model.draw([5]))


def test_other_weights_do_not_draw_it(model, folder, checkpoints):
    other = replace(load_model(checkpoints[1]), drawing=model.drawing)
    found = verify_with(other, folder)
    assert found.reproduced is False and found.same_bytes < 16


def test_on_another_machine_nearly_all_values_must_be_near(model, folder):
    """Recorded elsewhere, with rounding of its own: a level here and there is borne, and no more than that."""
    recorded = json.loads((folder.path / SAMPLE).read_text())
    recorded["surroundings"]["device"] = "another"

    def rewritten(images):
        from ddpm.registry.sample import _digest

        (folder.path / PICTURES).write_bytes(save({"images": images}))
        known = {**recorded, "sha256": [_digest(picture) for picture in images]}
        (folder.path / SAMPLE).write_text(json.dumps(known))
        return verify_with(model, folder)

    images = model.draw(range(16)).clamp(3, 252)
    near = rewritten(images + 1)
    assert near.reproduced is (near.near >= 0.999)
    drawn = model.draw(range(16)).int()
    assert rewritten((drawn + torch.where(drawn > 128, -2, 2)).to(torch.uint8)).reproduced
    far = rewritten((drawn + torch.where(drawn > 128, -3, 3)).to(torch.uint8))
    assert not far.reproduced and "device cpu" in far.says and "recorded with another" in far.says


def test_a_recording_of_a_release_that_had_weights_in_another_order_is_of_other_surroundings(
    model, folder, monkeypatch
):
    """It names no order, and so had channels first: where they lie otherwise now, a level here and there is borne."""
    from ddpm.registry.sample import _digest

    drawn = model.draw(range(16)).int()
    images = (drawn + torch.where(drawn > 128, -1, 1)).to(torch.uint8)
    recorded = json.loads((folder.path / SAMPLE).read_text())
    recorded["sha256"] = [_digest(picture) for picture in images]
    del recorded["surroundings"]["weights"]
    (folder.path / SAMPLE).write_text(json.dumps(recorded))
    (folder.path / PICTURES).write_bytes(save({"images": images}))
    for order, borne in ((torch.channels_last, True), (torch.contiguous_format, False)):
        monkeypatch.setattr("ddpm.registry.sample.drawing_format", lambda device, order=order: order)
        found = verify_with(model, folder)
        assert found.reproduced is borne
        assert ("weights channels last, recorded with channels first" in found.says) is borne


def test_on_a_gpu_a_recording_tells_of_the_order_that_is_drawn_with_and_not_of_trainings(model, monkeypatch):
    monkeypatch.setattr("ddpm.registry.sample.device_name", lambda device: "a GPU")
    assert surroundings(replace(model, device="cuda"))["weights"] == "channels first"


def test_at_home_a_level_is_too_much(model, folder):
    from ddpm.registry.sample import _digest

    drawn = model.draw(range(16)).int()
    images = (drawn + torch.where(drawn > 128, -1, 1)).to(torch.uint8)
    recorded = json.loads((folder.path / SAMPLE).read_text())
    recorded["sha256"] = [_digest(picture) for picture in images]
    (folder.path / SAMPLE).write_text(json.dumps(recorded))
    (folder.path / PICTURES).write_bytes(save({"images": images}))
    found = verify_with(model, folder)
    assert (found.reproduced, found.near) == (False, 1.0)


def test_pictures_other_than_the_recorded_digests_are_damage(model, folder):
    kept = load((folder.path / PICTURES).read_bytes())["images"]
    kept[0] += 1
    (folder.path / PICTURES).write_bytes(save({"images": kept}))
    with pytest.raises(Damaged, match=r"sample.safetensors holds other pictures than its sample.json names"):
        verify_with(model, folder)


def test_a_registered_version_is_verified_by_its_reference(checkpoints, place, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    assert verify(resolve("models:/m/1", place), place).reproduced is True
    assert verify(resolve(checkpoints[0], place), place).reproduced is None, "a checkpoint has no recorded sample"
    files = Path(open_client(place).get_model_version("m", "1").source.removeprefix("file://"), "artifacts")
    (files / SAMPLE).write_text("{}")
    with pytest.raises(Damaged, match="its sample.json is damaged: its sha256 is"):
        verify(resolve("models:/m/1", place), place)


def test_a_version_of_an_earlier_release_has_none_and_opens(checkpoints, place, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    client = open_client(place)
    files = Path(client.get_model_version("m", "1").source.removeprefix("file://"), "artifacts")
    for name in (SAMPLE, PICTURES, "sample.png", "card.md", "files.json"):
        (files / name).unlink()
    client.delete_model_version_tag("m", "1", "files_sha256")
    found = verify(resolve("models:/m/1", place), place)
    assert found.reproduced is None and "earlier release" in found.says
