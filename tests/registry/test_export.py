"""An exported model does elsewhere what it does here; diffusers itself is the judge of its format."""

import dataclasses
import json

import pytest
import torch

from ddpm.cli import main
from ddpm.device import threads_for
from ddpm.errors import WrongInput
from ddpm.model.diffusion import Denoiser, Diffusion
from ddpm.model.model import Model, suited
from ddpm.model.sampling import SAMPLERS
from ddpm.model.unet import UNet
from ddpm.registry.diffusers import diffusers_files
from ddpm.registry.export import export, safetensors_files
from ddpm.registry.version import load_files, register, resolve, resolve_or_folder
from ddpm.settings import OBJECTIVES, SCHEDULES, DrawSettings, ModelSettings
from ddpm.training.checkpoint import load_model, read_facts

MODELS = {
    "attention-at-two-levels": (ModelSettings(channel_mults="1-2-3", base_channels=16, blocks=2, attention_resolution=8), 16),
    "attention-in-the-middle-alone": (ModelSettings(channel_mults="1-3", base_channels=8, blocks=1, attention_resolution=0), 12),
    "one-level-dropout": (ModelSettings(channel_mults="1", base_channels=12, blocks=3, dropout=0.5, timesteps=250), 8),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Several only wait for each other in networks as small as these."""
    with threads_for(8, torch.device("cpu")):
        yield


def model_of(settings, image_size):
    """A network in which no layer is zero, as those that start so would hide what reads them."""
    torch.manual_seed(0)
    net = UNet(settings, image_size).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape) / max(weight[0].numel(), 4) ** 0.5)
    return Model(net, settings, image_size, suited(settings))


def pipeline_of(model, folder):
    from diffusers import DDPMPipeline

    for name, data in diffusers_files(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_diffusers_runs_the_same_network(name, tmp_path):
    model = model_of(*MODELS[name])
    unet = pipeline_of(model, tmp_path).unet
    x, t = torch.randn(3, 3, model.image_size, model.image_size), torch.tensor([0, 7, model.settings.timesteps - 1])
    ours, theirs = model.net(x, t), unet(x, t).sample
    assert ours.std() > 0.1
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert unet.config.dropout == model.settings.dropout


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "edm"])
@pytest.mark.parametrize("timesteps", [1000, 40, 15])
@torch.inference_mode()
def test_diffusers_draws_the_same_pictures(objective, schedule, timesteps, tmp_path):
    from diffusers import DDIMScheduler

    settings = ModelSettings(
        channel_mults="1-2", base_channels=8, blocks=1, objective=objective, schedule=schedule, timesteps=timesteps
    )
    model = model_of(settings, 8)
    pipeline = pipeline_of(model, tmp_path)
    diffusion = Diffusion(settings)
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, diffusion.abar, atol=1e-5, rtol=1e-4)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(min(timesteps, 20))
    noise = torch.randn(4, 3, 8, 8)
    # Ours, at the timesteps that theirs chooses.
    sigmas = torch.cat([diffusion.sigmas[scheduler.timesteps], torch.zeros(1)])
    start = noise * (1 + sigmas[0] ** 2).sqrt()
    ours = SAMPLERS["ddim"].solve(Denoiser(model.net, diffusion), start, sigmas, lambda: noise)
    theirs = noise
    for t in scheduler.timesteps:
        predicted = pipeline.unet(theirs, t).sample
        # They keep the noise of the unclipped estimate unless told otherwise.
        theirs = scheduler.step(predicted, t, theirs, eta=0.0, use_clipped_model_output=True).prev_sample
    assert ours.std() > 0.1
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_the_pipeline_itself_draws(tmp_path):
    model = model_of(*MODELS["attention-in-the-middle-alone"])
    drawn = pipeline_of(model, tmp_path)(batch_size=2, num_inference_steps=3, output_type="np").images
    assert drawn.shape == (2, 12, 12, 3)


def test_files_tell_of_no_order_in_memory():
    """A network that has drawn has its weights in the order that its device wants."""
    model = model_of(*MODELS["attention-at-two-levels"])
    before = diffusers_files(model), safetensors_files(model, torch.float32)
    model.net.to(memory_format=torch.channels_last)
    assert not all(weight.is_contiguous() for weight in model.net.parameters())
    assert (diffusers_files(model), safetensors_files(model, torch.float32)) == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "edm"}, "objective: edm"),
        ({"classes": 3}, "classes:"),
        ({"channel_mults": "2-4"}, "channel_mults: 2-4"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(settings, said):
    plain = {"channel_mults": "1-2", "base_channels": 4, "blocks": 1}
    with pytest.raises(WrongInput, match=said):
        diffusers_files(model_of(ModelSettings(**{**plain, **settings}), 8))


@torch.inference_mode()
def test_augmentation_leaves_no_trace_and_strange_weights_are_an_error(tmp_path):
    model = model_of(ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, augment=0.5), 8)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 900])
    torch.testing.assert_close(pipeline_of(model, tmp_path).unet(x, t).sample, model.net(x, t), atol=1e-5, rtol=0)
    model.net.register_module("strange", torch.nn.Linear(1, 1))
    with pytest.raises(KeyError, match=r"strange\.weight"):
        diffusers_files(model)


def test_safetensors_come_back_as_they_were(checkpoints, tmp_path):
    facts = export(checkpoints[0], "safetensors", str(tmp_path / "new" / "out"), "")
    assert facts["files"] == ["README.md", "settings.json", "weights.safetensors"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]  # nothing half is left beside it
    back, before = resolve(facts["out"], ""), load_model(checkpoints[0])
    assert (back.settings, back.image_size) == (before.settings, before.image_size)
    assert back.origin.weights_sha256 == read_facts(checkpoints[0])["sha256"]["ema.safetensors"]
    for name, weight in before.net.state_dict().items():
        assert torch.equal(back.net.state_dict()[name], weight), name
    raw = export(checkpoints[0], "safetensors", str(tmp_path / "raw"), "", "raw")
    assert load_files(tmp_path / "raw", "raw").origin.weights_sha256 != back.origin.weights_sha256
    assert "not averaged" in (tmp_path / "raw" / "README.md").read_text() and raw["weights"] == "raw"


def test_an_exported_model_draws_as_it_did(checkpoints, tmp_path):
    """Churn and guidance too: what is left out is drawn otherwise by whoever opens the folder."""
    model = load_model(checkpoints[0])
    churned = dataclasses.replace(
        model, drawing=DrawSettings(sampler="heun", sampling_steps=4, churn=3.0, guidance=1.0, sample_batch=16)
    )
    for name, data in safetensors_files(churned).items():
        (tmp_path / name).write_bytes(data)
    back = resolve(str(tmp_path), "")
    assert back.drawing == churned.drawing
    assert torch.equal(back.draw([1, 2]), churned.draw([1, 2]))
    assert not torch.equal(back.draw([1, 2]), back.draw([1, 2], back.drawing_with(churn=0.0)))


def test_a_folder_that_holds_a_model_is_not_one_of_pictures(checkpoints, tmp_path):
    export(checkpoints[0], "safetensors", str(tmp_path / "exported"), "")
    (tmp_path / "pictures").mkdir()
    found = resolve_or_folder(str(tmp_path / "exported"), "")
    assert found.origin.weights_sha256 == load_model(checkpoints[0]).origin.weights_sha256
    assert resolve_or_folder(str(tmp_path / "pictures"), "") == tmp_path / "pictures"
    assert resolve_or_folder(checkpoints[0].rsplit("/", 2)[0], "").origin.checkpoint == checkpoints[0]


def test_damaged_weights_are_refused(checkpoints, tmp_path):
    export(checkpoints[0], "safetensors", str(tmp_path / "out"), "")
    data = bytearray((tmp_path / "out" / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "out" / "weights.safetensors").write_bytes(data)
    with pytest.raises(WrongInput, match="damaged"):
        resolve(str(tmp_path / "out"), "")


def test_command_line(checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()  # an empty folder will do
    arguments = ["export", "--model", checkpoints[0], "--format", "diffusers", "--out", str(out), "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert main(arguments) == 2 and "holds something" in capsys.readouterr().err
    assert main([*arguments[:4], "onnx", *arguments[5:]]) == 2 and "onnx" in capsys.readouterr().err
    assert main([*arguments, "--weights", "best"]) == 2 and "best" in capsys.readouterr().err


def test_a_registered_version_takes_its_figures_along(checkpoints, place, report_of, tmp_path):
    version = register(place, "digits", checkpoints[0], report_of(checkpoints[0], fid=2.5), None, {})["version"]
    reference = f"models:/digits/{version}"
    export(reference, "diffusers", str(tmp_path / "out"), place)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| fid_classifier (n=64) | 2.5 | ± 0.2 |" in card and '"dataset_digest": "abc"' in card
    with pytest.raises(WrongInput, match="averaged weights alone"):
        export(reference, "safetensors", str(tmp_path / "raw"), place, "raw")


def test_a_failed_export_leaves_nothing(checkpoints, tmp_path, monkeypatch):
    import os

    def full(*paths):
        raise OSError("no space left")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        export(checkpoints[0], "safetensors", str(tmp_path / "out"), "")
    assert list(tmp_path.iterdir()) == []
