"""A second set of pictures in the same run: what is refused beforehand, and what its steps are told."""

import json

import pytest

from ddpm.data import sources
from ddpm.errors import WrongInput
from ddpm.plan import Plan
from ddpm.presets import load_preset
from ddpm.run import Run
from ddpm.steps.task import pointer_to
from ddpm.steps.train import _winner_on_second
from pipelines.containers import mounts
from pipelines.request import gather
from pipelines.submit import check_source_for_cluster

HERE = {"run_name": "r", "store": "s", "tracking_uri": "sqlite:///x", "study_storage": "j"}
DOGS = {"transfer_source": "dalle-dogs", "transfer_dataset_name": "dogs"}


def plan(**changes):
    return Plan.from_parameters({**HERE, **load_preset("digits"), **DOGS, **changes})


def test_the_second_set_goes_by_the_first_one_s_settings_but_for_its_own():
    first = plan(init_from="models:/m@champion", judge_url="https://host/v1", judge_model="m", transfer_epochs=4)
    second = first.second()
    other = {
        "source": "dalle-dogs", "dataset_name": "dogs", "model_name": "ddpm-dogs", "epochs": 4, "trial_epochs": 4, "init_from": "",
        "judge_url": "", "judge_model": "", "judge_subject": "", **dict.fromkeys(DOGS, ""), "transfer_epochs": 0,
    }  # fmt: skip
    was = first.parameters()
    assert {name: value for name, value in second.parameters().items() if value != was[name]} == other
    guided = plan(guide="trial", guidance=1.5)
    assert (guided.second().guide.guide, guided.second().draw.guidance) == ("", 1.0), "the guide knows the first set"
    assert plan().second().train.epochs == first.train.epochs
    assert first.sets() == {"source": "digits", "transfer_source": "dalle-dogs"}
    assert second.sets() == {"source": "dalle-dogs"}
    assert Plan.from_json(first.to_json()) == first


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"transfer_source": " "}, "transfer_source: it is empty"),
        ({"transfer_dataset_name": ""}, "transfer_dataset_name: '' will not do; it must be the second data set's"),
        ({"transfer_dataset_name": "digits"}, "transfer_dataset_name: 'digits' will not do; .* another than the first"),
        ({"transfer_model_name": "ddpm-digits"}, "transfer_model_name: 'ddpm-digits' will not do; .* another than"),
        ({"dataset_name": "d", "transfer_dataset_name": "digits"}, "transfer_model_name: 'ddpm-digits' will not do"),
        ({"transfer_image_size": 12}, "transfer_image_size: 12 cannot be halved 3 times, as channel_mults 1-2-4-8 needs"),
        ({"classes": 10, "guidance": 2}, r"transfer_classes: 0 will not do; .* as the second set has, for guidance \(2\)"),
        ({"transfer_classes": 5, "transfer_from": "winner"}, "transfer_classes: 5 will not do; it must be 0, as classes is"),
        ({"transfer_from": "flowers"}, "transfer_from: 'flowers' will not do; it must be one of scratch, winner"),
        ({"transfer_source": "", "transfer_dataset_name": ""} | {"transfer_epochs": 3}, "transfer_epochs: 3 will not do; .* 0 where no"),
        ({"transfer_source": ""}, "transfer_dataset_name: 'dogs' will not do; it must be '' where no transfer_source"),
    ],
)  # fmt: skip
def test_a_second_set_that_will_not_do_is_refused(changes, says):
    with pytest.raises(WrongInput, match=says):
        plan(**changes)


def test_a_second_source_is_checked_by_its_own_name():
    with pytest.raises(WrongInput, match="^transfer_source: there is no folder /no/such"):
        sources.check("/no/such", "transfer_source")
    with pytest.raises(WrongInput, match="^transfer_source: there is none named 'x'"):
        gather("digits", "", "r", {"transfer_source": "x"}, HERE)
    with pytest.raises(WrongInput, match="^transfer_source: /here is a folder of this machine"):
        check_source_for_cluster("/here", "transfer_source")


def test_from_the_command_line_it_goes_by_its_source_s_name_and_is_seen_in_containers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my dogs").mkdir()
    made, _ = gather("digits", "", "r", {"transfer_source": "./my dogs"}, {**HERE, "store": str(tmp_path / "s")})
    assert made.transfer.transfer_source == f"{tmp_path}/my dogs"
    assert made.second().registry.model_name == f"ddpm-{made.transfer.transfer_dataset_name}"
    assert made.transfer.transfer_dataset_name.startswith("my-dogs-")
    named = {"transfer_source": "dalle-dogs", "transfer_dataset_name": "rex"}
    assert gather("digits", "", "r", named, HERE)[0].second().ingest.dataset_name == "rex"
    assert mounts(made, tmp_path / "var")[f"{tmp_path}/my dogs"] == "ro"


def test_both_sets_are_kept_in_one_folder_under_names_of_their_own(tmp_path):
    run = Run(plan(store=str(tmp_path)))
    second = run.second
    assert second.second is None and second.folder.root == run.folder.root
    run.keep("train", {"of": "first"})
    assert second.facts("train") is None
    second.keep("train", {"of": "second"})
    assert (run.facts("train"), second.facts("train")) == ({"of": "first"}, {"of": "second"})
    assert second.final != run.final
    assert Run(plan(transfer_source="", transfer_dataset_name="")).second is None


def test_a_step_of_the_second_set_is_pointed_to_the_run_s_own_plan(tmp_path):
    run = Run(plan(store=str(tmp_path)))
    first, second = (json.loads(json.dumps(pointer_to(one, "session"))) for one in (run, run.second))
    assert second == {**first, "second": True}
    assert first == {"plan": json.loads(run.plan.to_json()), "session": "session"}


@pytest.mark.parametrize(("begins", "weights"), [("scratch", ""), ("winner", "/final/000000003200/checkpoint.json")])
def test_what_the_winner_s_network_begins_with_on_the_second_set(tmp_path, begins, weights):
    run = Run(plan(store=str(tmp_path), transfer_from=begins, transfer_epochs=3, init_from="/elsewhere"))
    rows = [{"number": 0}, {"number": 1, "channel_mults": "1-2-3", "lr": 3e-4, "point": {"dropout": 0.2}}]
    run.keep("train", {"trials": rows, "best": 1, "checkpoint": "/final/000000003200/checkpoint.json"})
    begun = _winner_on_second(run.second, run)
    assert (begun.settings.init_from, begun.start, begun.seen) == (weights, None, 0)
    assert (begun.settings.lr, begun.settings.epochs, begun.settings.init_partial) == (3e-4, 3, False)
    assert (begun.model.channel_mults, begun.model.dropout) == ("1-2-3", 0.2)
    assert begun.choice["best"] == 1 and begun.choice["best_why"] == begun.why
    assert ("scratch" in begun.why, "digits gave it" in begun.why) == (begins == "scratch", begins == "winner")
