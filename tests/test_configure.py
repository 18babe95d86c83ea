"""What a run finds out before it begins."""

import json
import shutil

import pytest
import torch

from ddpm.errors import Outage, WrongInput
from ddpm.progress import Quiet
from ddpm.settings import DrawSettings
from ddpm.steps.configure import configure
from ddpm.store import open_store
from ddpm.training.checkpoint import load_model, read_checkpoint
from ddpm.training.initial import as_model, read_initial


@pytest.fixture
def parameters(tmp_path):
    return {
        "run_name": "r", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db",
        "study_storage": str(tmp_path / "j"), "extractor": "inception", "score_n": 64,
    }  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    """As of a file that ends below the last blocks."""
    state = {name: torch.zeros(1) for name in ("Mixed_7c.branch1x1.conv.weight", "fc.weight")}
    torch.save({**state, "Mixed_6e.branch1x1.conv.weight": torch.ones(1)}, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def test_inceptions_weights_are_looked_at_before_anything_is_ingested(parameters, weights, tmp_path):
    (tmp_path / "none.pth").write_bytes(b"nothing")
    for changes, words in (
        ({"weights": "/no/w.pth"}, "weights: there is no file /no/w.pth"),
        ({"weights": f"file://{tmp_path}/store/w.pth"}, "there is no object"),
        ({"weights": weights, "weights_sha256": "0" * 64}, "not 0000"),
        ({"weights": weights, "layer": 2048}, "layer: .* up to layer 768 only"),
        ({"weights": str(tmp_path / "none.pth")}, "no state dict of torch-fidelity's Inception-v3"),
    ):
        with pytest.raises(WrongInput, match=words):
            configure({**parameters, **changes}, Quiet())
    assert not list(open_store(parameters["store"]).list("runs")), "and the name is bound to nothing"
    configure({**parameters, "weights": weights, "layer": 768}, Quiet())


@pytest.mark.parametrize("first_rung", [6, 12])
def test_a_rung_that_no_trial_comes_to_is_refused_before_anything_is_there(parameters, tmp_path, first_rung):
    given = {**parameters, "extractor": "classifier", "trial_epochs": 6, "held_out_every": 6, "first_rung": first_rung}
    with pytest.raises(WrongInput) as refused:
        configure(given, Quiet())
    assert str(refused.value) == (
        f"first_rung: {first_rung} will not do; it must be 0 (no trial ends early) or less than trial_epochs (6)"
    )
    assert not list(open_store(parameters["store"]).list("runs")) and not (tmp_path / "j").exists()


def test_a_run_that_an_earlier_release_opened_with_such_a_rung_goes_on(parameters, tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "m.db")
    given = {**parameters, "extractor": "classifier", "trial_epochs": 6, "held_out_every": 6}
    run = configure({**given, "first_rung": 0}, Quiet())
    kept = json.loads(run.folder.read("plan.json"))
    run.folder.write("plan.json", json.dumps({**kept, "first_rung": 6}).encode())
    assert configure({**given, "first_rung": 6}, Quiet()).plan.search.rungs == []


def test_weights_that_cannot_be_downloaded_are_found_there_too(parameters, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(Outage) as refused:
        configure(parameters, Quiet())
    file = "weights-inception-2015-12-05-6726825d.pth"
    assert str(refused.value) == (
        "weights: Inception's could not be downloaded (Name or service not known); fetch "
        f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{file} (sha256 6726825d…) by hand, "
        f"and go on with SET='weights=/path/to/{file}' (--weights)"
    )
    assert not list(open_store(parameters["store"]).list(""))


@pytest.fixture
def begins(tmp_path, empty_database, digits):
    """Parameters of a run whose trials begin with a checkpoint's weights, and the folder that has it."""
    from ddpm.settings import ModelSettings, TrainSettings
    from ddpm.training.observer import NoObserver
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    network = {"base_channels": 8, "blocks": 1, "attention_resolution": 4}
    model, settings = ModelSettings(channel_mults="1-2", **network), TrainSettings(lr=1e-3, epochs=1)
    source = tmp_path / "source"
    Trainer(model, settings, digits, str(source), World(torch.device("cpu"))).run(NoObserver(), Quiet())
    shutil.copy(empty_database, tmp_path / "m.db")
    parameters = {
        "run_name": "r", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db", "image_size": 8,
        "study_storage": str(tmp_path / "j"), "extractor": "classifier", "mults_choices": "1-2", **network,
        "init_from": str(source),
    }  # fmt: skip
    return parameters, source


def test_a_run_keeps_the_weights_that_its_trials_begin_with(begins):
    parameters, source = begins
    run = configure(parameters, Quiet())
    of = read_checkpoint(str(source))
    kept = read_initial(run.initial)
    assert kept.origin.reference == of.uri
    torch.testing.assert_close(kept.weights, of.tensors["weights"], rtol=0, atol=0)
    shutil.rmtree(source)
    assert configure(parameters, Quiet()).is_open, "carried on, it needs them there no more"
    assert read_initial(run.initial).origin == kept.origin
    with pytest.raises(WrongInput, match="run r has init_from '.*', not ''"):
        configure({**parameters, "init_from": ""}, Quiet())


def test_weights_that_not_every_list_can_begin_with_are_found_there(begins):
    parameters, _ = begins
    with pytest.raises(WrongInput, match="init_from: .* another network: channel_mults 1-2, not 1-2-4; .*init_partial"):
        configure({**parameters, "mults_choices": "1-2 1-2-4"}, Quiet())
    with pytest.raises(WrongInput, match="init_from: there is no checkpoint at"):
        configure({**parameters, "init_from": "/no/where"}, Quiet())
    assert not list(open_store(parameters["store"]).list("runs")), "and the name is bound to nothing"
    said = []
    progress = Quiet()
    progress.say = said.append
    configure({**parameters, "mults_choices": "1-2 1-2-4", "init_partial": True}, progress)
    assert any("every trial begins with weights of" in line for line in said)


def test_a_guide_that_there_is_not_or_that_knows_other_pictures_is_found_there(begins):
    parameters, source = begins
    guided = {**parameters, "init_from": "", "guidance": 1.5}
    for given, says in (
        ({"guide": "/no/where"}, "^guide: there is no checkpoint at"),
        ({"guide": "models:/m@champion"}, "^guide: .*"),
        ({"guide": str(source), "image_size": 16}, "^guide: its picture size is 8, and the model's is 16"),
        ({"guide": str(source), "classes": 10}, "^guide: its number of classes is 0, and the model's is 10"),
    ):
        with pytest.raises(WrongInput, match=says):
            configure({**guided, **given}, Quiet())
    assert not list(open_store(parameters["store"]).list("runs")), "and the name is bound to nothing"
    run = configure({**guided, "guide": str(source)}, Quiet())
    kept, of = read_initial(run.guide), load_model(str(source))
    assert (kept.origin.weights_sha256, kept.origin.reference) == (of.origin.weights_sha256, of.origin.reference)
    drawing = DrawSettings("ddim", 2, sample_batch=2)
    assert torch.equal(as_model(kept).draw(range(2), drawing), of.draw(range(2), drawing))
    shutil.rmtree(source)
    assert configure({**guided, "guide": str(source)}, Quiet()).is_open, "carried on, it needs them there no more"


def test_a_winner_whose_network_is_another_one_for_the_second_set_is_found_there(begins, tmp_path):
    """At 16 px its upper level does not attend, which it does at 8."""
    parameters, _ = begins
    second = {
        **parameters, "attention_resolution": 8, "init_from": "", "transfer_source": "digits", "transfer_dataset_name": "more", "transfer_from": "winner",
    }  # fmt: skip
    with pytest.raises(
        WrongInput, match="^transfer_image_size: at 16 px channel_mults 1-2 is another network than at 8"
    ):
        configure({**second, "transfer_image_size": 16}, Quiet())
    with pytest.raises(WrongInput, match="^transfer_source: there is no folder /no/where"):
        configure({**second, "transfer_source": "/no/where"}, Quiet())
    assert not list(open_store(parameters["store"]).list("runs")), "and the name is bound to nothing"
    assert configure({**second, "attention_resolution": 0, "transfer_image_size": 16}, Quiet()).is_open


def test_a_run_of_an_earlier_release_is_carried_on(begins):
    """Its plan knew of no other weights and no finalists, and called some settings otherwise."""
    parameters, _ = begins
    del parameters["init_from"]
    run = configure(parameters, Quiet())
    kept = json.loads(run.folder.read("plan.json"))
    for name in [name for name in kept if name.startswith("transfer_") or name == "guide"]:
        del kept[name]
    for name in ("init_from", "init_partial", "rung_factor", "rung_score", "finalists", "finalist_n"):
        del kept[name]
    kept["n"], kept["prune_every"] = kept.pop("evaluate_n"), kept.pop("first_rung")
    run.folder.write("plan.json", json.dumps({**kept, "ema_half_lives": "50000", "resident": "auto"}).encode())
    assert configure(parameters, Quiet()).name == "r"
