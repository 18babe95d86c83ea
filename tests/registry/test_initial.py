"""What init_from may name besides a checkpoint: a registered version, an exported folder."""

import json
import shutil

import pytest
import torch

from ddpm.errors import WrongInput
from ddpm.registry.export import export
from ddpm.registry.initial import open_initial
from ddpm.registry.version import register, resolve
from ddpm.settings import ModelSettings
from ddpm.store import Missing
from ddpm.tracking import open_client
from ddpm.training.checkpoint import read_checkpoint, read_facts
from ddpm.training.initial import agree, ancestor_of

MODEL = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)


@pytest.fixture
def registered(place, checkpoints, report_of):
    """A version with an alias; the place, and the URI of the checkpoint that it was."""
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    open_client(place).set_registered_model_alias("m", "champion", "1")
    return place, checkpoints[0]


def test_a_version_by_its_alias(registered):
    place, checkpoint = registered
    found = open_initial("models:/m@champion", place)
    averaged = read_checkpoint(checkpoint, ("ema",))
    torch.testing.assert_close(found.weights, averaged.tensors["ema"], rtol=0, atol=0)
    assert found.average(12345) is found.weights, "it has no other"
    kept = ancestor_of(found, agree(found, MODEL, 8, False))
    assert kept["reference"] == "models:/m/1", "an alias may move"
    assert kept["weights_sha256"] == averaged.facts["sha256"]["ema.safetensors"]
    assert (kept["images_seen"], kept["anew"], kept["left"]) == (read_facts(checkpoint)["images_seen"], [], [])


def test_an_exported_folder(registered, tmp_path):
    place, _ = registered
    export("models:/m/1", "safetensors", str(tmp_path / "exported"), place)
    found = open_initial(f"file://{tmp_path}/exported", place)
    torch.testing.assert_close(found.weights, open_initial("models:/m/1", place).weights, rtol=0, atol=0)
    assert found.origin.reference == str(tmp_path / "exported")
    settings = tmp_path / "exported" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "format_version": 99}))
    with pytest.raises(WrongInput, match=r"^init_from: .* has format_version 99; this release reads 1"):
        open_initial(str(tmp_path / "exported"), place)


def test_a_checkpoint(checkpoints, place):
    found = open_initial(checkpoints[1], place)
    assert found.origin.weights_sha256 == read_facts(checkpoints[1])["sha256"]["weights.safetensors"]
    assert set(found.averages) == {50000}


def test_what_is_no_version_of_ours(registered, tmp_path):
    import mlflow.pyfunc

    place, _ = registered
    client = open_client(place)
    (tmp_path / "model.py").write_text(
        "from mlflow.models import set_model\nfrom mlflow.pyfunc import PythonModel\n\n"
        "class Own(PythonModel):\n    def predict(self, context, model_input: list[str], params=None):\n"
        "        return model_input\n\nset_model(Own())\n"
    )
    mlflow.pyfunc.save_model(
        str(tmp_path / "theirs"), python_model=str(tmp_path / "model.py"), pip_requirements=["mlflow"]
    )
    client.create_registered_model("theirs")
    client.create_model_version("theirs", str(tmp_path / "theirs"))
    for reference, kind, words in (
        ("models:/theirs/1", WrongInput, "was not registered by ddpm, and nothing else is loaded"),
        ("models:/m@gone", WrongInput, "there is no models:/m@gone at .*; m has versions 1, @champion is 1"),
        ("models:/m", WrongInput, "'models:/m' is no reference; write models:/NAME@champion or models:/NAME/1"),
        (str(tmp_path / "none"), Missing, "there is no checkpoint at"),
    ):
        with pytest.raises(kind, match=f"^init_from: .*{words}") as refused:
            open_initial(reference, place)
        assert "\n" not in str(refused.value)


def test_a_version_whose_weights_were_exchanged_is_refused(registered, tmp_path):
    place, _ = registered
    (weights,) = (tmp_path / "mlflow").rglob("weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WrongInput, match=r"^init_from: models:/m/1 is not whole: its weights.safetensors is damaged"):
        open_initial("models:/m@champion", place)
    shutil.rmtree(weights.parent)
    with pytest.raises(WrongInput, match="^init_from: "):
        open_initial("models:/m@champion", place)


def test_a_space_tells_no_stranger_what_it_began_with(checkpoints, place, tmp_path):
    model = resolve(checkpoints[0], place)
    model.origin.settings["init_from"] = "/home/me/secret-place"
    from ddpm.registry.export import safetensors_files
    from ddpm.registry.space import public_model

    text = safetensors_files(public_model(model))["settings.json"].decode()
    assert "secret-place" not in text and '"init_partial"' in text
