"""What a person writes for DATA, and the command that asks for the same again."""

import re
import shlex
from pathlib import Path

import pytest

from ddpm.errors import WrongInput
from ddpm.run import Run
from pipelines.request import gather, parse_changes, words_of

PLACES = {"store": "s", "tracking_uri": "sqlite:///x", "study_storage": "j"}
DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("data", "source", "name"),
    [
        ("flowers102", "flowers102", "flowers102"),
        ("flowers102:/downloads/f", "flowers102:/downloads/f", "flowers102"),
        ("folder:pictures", f"{Path.cwd()}/pictures", f"{Path.cwd().name}-pictures-"),
        ("./my pictures", f"{Path.cwd()}/my pictures", "my-pictures-"),
        ("~/roses", f"{Path.home()}/roses", "roses-"),
        ("/holiday:2024", "/holiday:2024", "holiday-2024-"),
        (f"/store/datasets/roses/{DIGEST}.json", f"/store/datasets/roses/{DIGEST}.json", "roses"),
        (f"s3://b/p/datasets/roses/{DIGEST}.json", f"s3://b/p/datasets/roses/{DIGEST}.json", "roses"),
    ],
)
def test_data_names_its_source_its_data_set_and_its_model(data, source, name):
    plan, _ = gather("quick", data, "r", {}, PLACES)
    assert plan.ingest.source == source
    assert re.fullmatch(name + "[0-9a-f]{6}" if name.endswith("-") else name, plan.ingest.dataset_name)
    assert plan.registry.model_name == f"ddpm-{plan.ingest.dataset_name}"


def test_a_run_that_has_other_names_keeps_them(tmp_path):
    """Runs of releases that derived names otherwise are carried on by the same words."""
    places = {**PLACES, "store": str(tmp_path)}
    named = {"dataset_name": "roses", "model_name": "ddpm-roses"}
    before, _ = gather("quick", "~/roses", "r", named, places)
    Run(before).write_plan()
    plan, _ = gather("quick", "~/roses", "r", {}, places)
    assert plan == before
    other, _ = gather("quick", "~/tulips", "r", {}, places)
    assert other.ingest.dataset_name.startswith("tulips-")
    with pytest.raises(WrongInput, match="run_name: run r has source"):
        Run(other).require_same_plan()


def test_a_run_that_was_configured_otherwise_says_all_that_differs_and_what_carries_it_on(tmp_path):
    """As a run does that was begun under a preset whose values are others since."""
    places = {**PLACES, "store": str(tmp_path)}
    own = {"ema_half_lives": "10k 20k", "finalists": "1", "flip": "false", "lr_low": "1e-05"}
    before, _ = gather("founding", "~/it's roses", "r", own, places)
    Run(before).write_plan()
    now, _ = gather("flowers102", "~/tulips", "r", {"weights": "/no/w.pth"}, places)
    with pytest.raises(WrongInput) as refused:
        Run(now).require_same_plan()
    line = str(refused.value)
    other = [name for name, value in before.parameters().items() if now.parameters()[name] != value]
    assert len(other) > 15 and all(f"{name} {before.parameters()[name]!r}, not " in line for name in other)
    assert "\n" not in line
    words = shlex.split(line.partition("or the same settings: ")[2])
    data, changes = (word.partition("=")[2] for word in words)
    again, _ = gather("flowers102", data, "r", {"weights": "/no/w.pth"} | parse_changes(changes), places)
    assert again == before
    Run(again).require_same_plan()


@pytest.mark.parametrize("data", ["https://example.org/x", "rainbow"])
def test_data_that_is_nothing(data):
    with pytest.raises(WrongInput, match="source: there is n"):
        gather("quick", data, "r", {}, PLACES)


def test_the_words_that_ask_again_ask_for_the_same():
    changes = {"mults_choices": "1-2 1-2-4", "trials": "2", "weights": "it's; a $file", "store": "a#b", "score_n": ""}
    words = shlex.split(words_of("quick", "./it's mine", "r", changes, "docker"))
    assert words[:2] == ["make", "run"]
    asked = dict(word.split("=", 1) for word in words[2:])
    assert {key: asked[key] for key in ("PRESET", "RUN_NAME", "DATA", "RUNNER")} == {
        "PRESET": "quick", "RUN_NAME": "r", "DATA": "./it's mine", "RUNNER": "docker",
    }  # fmt: skip
    assert parse_changes(asked["SET"]) == changes


@pytest.mark.parametrize("setting", ["init_from", "guide"])
@pytest.mark.parametrize("name", ["training", "training#10", "training/000000000256/checkpoint.json"])
def test_a_model_on_disk_is_found_by_tasks_that_have_a_folder_of_their_own(tmp_path, monkeypatch, name, setting):
    from pipelines import containers

    folder = tmp_path / "training"
    (folder / "000000000256").mkdir(parents=True)
    (folder / "000000000256" / "checkpoint.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    places = {"store": str(tmp_path / "store"), "tracking_uri": "sqlite:///x", "study_storage": "j"}
    guided = {"guidance": "1.5"} if setting == "guide" else {}
    plan, _ = gather("digits", "", "r", {setting: name, **guided}, places)
    assert plan.parameters()[setting] == str(tmp_path / name)
    seen = [path for path, mode in containers.mounts(plan, tmp_path / "var").items() if mode == "ro"]
    assert seen == [str(folder / "000000000256" if name.endswith(".json") else folder)], "what lies beside it too"
    for elsewhere in ("models:/m@champion", "s3://bucket/checkpoint"):
        plan, _ = gather("digits", "", "r", {setting: elsewhere, **guided}, places)
        assert plan.parameters()[setting] == elsewhere
    plan, _ = gather("digits", "", "r", {"guide": "trial", "guidance": "1.5"}, places)
    assert plan.guide.guide == "trial", "no folder of this name"
    assert "ro" not in containers.mounts(plan, tmp_path / "var").values()
