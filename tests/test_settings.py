"""What a person may set, and what is refused."""

import dataclasses
import importlib
import inspect
import json
import math

import pytest

from ddpm.cli import main
from ddpm.errors import WrongInput
from ddpm.fields import about_of, range_of
from ddpm.plan import PLACES, ROOMS, Plan, fields, parameter_names
from ddpm.presets import load_preset
from ddpm.serving.settings import ServeSettings
from ddpm.settings import ModelSettings, SearchSettings, TrainSettings

HERE = {"run_name": "r", "store": "s", "tracking_uri": "sqlite:///x", "study_storage": "j"}
PRESETS = ("digits", "flowers102", "flowers102-cpu", "dalle-dogs", "celeba", "cifar10", "quick", "founding")


def plan(**changes):
    return Plan.from_parameters({**HERE, **load_preset("digits"), **changes})


def test_no_name_stands_in_two_classes():
    names = parameter_names()
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_plans(name):
    """Every name in a preset is a setting, and the whole is a plan that passes its checks."""
    parameters = {**HERE, **load_preset(name)}
    if name == "quick":
        with pytest.raises(WrongInput, match="source"):
            Plan.from_parameters(parameters)
        parameters["source"] = "/some/folder"
    made = Plan.from_parameters(parameters)
    assert {key: made.parameters()[key] for key in parameters} == parameters


def test_configure_component_has_every_setting_with_its_type():
    """KFP needs the list written out; it must not drift from the settings."""
    configure = importlib.import_module("components.configure").configure
    signature = dict(inspect.signature(configure.python_func).parameters)
    types = dict.fromkeys(PLACES, "str") | {spec.name: spec.type for spec in fields()}
    found = {
        name: p.annotation if isinstance(p.annotation, str) else p.annotation.__name__ for name, p in signature.items()
    }
    assert {name: found[name] for name in types} == types
    assert set(found) - set(types) == {"run_id", "plan", "second", "note"}


def test_plan_survives_json():
    made = plan(lr_low=3e-5, mults_choices="1-2")
    assert Plan.from_json(made.to_json()) == made
    with pytest.raises(WrongInput, match="format_version 2"):
        Plan.from_json(json.dumps({**json.loads(made.to_json()), "format_version": 2}))


def test_every_setting_has_a_meaning_and_a_default_that_will_do():
    for kind in ROOMS.values():
        for field in dataclasses.fields(kind):
            about = about_of(field)
            assert about.meaning, field.name
            assert not about.meaning.endswith("."), field.name
            assert about.admits(field.default), field.name
            assert range_of(field) or field.type == "str", f"{field.name}: a number needs a range"


NUMBERS = [(kind, field.name) for kind in ROOMS.values() for field in dataclasses.fields(kind) if field.type == "float"]


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_setting_is_infinite(kind, name, value):
    with pytest.raises(WrongInput, match=rf"^{name}: .* will not do; it must be a finite number, "):
        kind(**{name: value})


def test_every_number_has_an_upper_bound():
    """What no machine has memory or time for is refused before anything is built."""
    for kind in (*ROOMS.values(), ServeSettings):
        for field in dataclasses.fields(kind):
            about = about_of(field)
            if field.type in ("int", "float") and not about.choices:
                assert about.high is not None or about.below is not None, field.name
                with pytest.raises(WrongInput, match=rf"^{field.name}: .* (from|above|of) "):
                    kind(**{field.name: "1e300"})


def test_half_lives_are_different():
    assert TrainSettings(ema_half_lives="10 100 1k").half_lives == (10, 100, 1000)
    assert TrainSettings(ema_half_lives="10000 1500") == TrainSettings(ema_half_lives="10k 1500")
    for text in ("10 10", "5 10 5", "10k 10000", "10 0", "10  20", " 10", "", "1e3", "k", "1.5k"):
        with pytest.raises(WrongInput, match="ema_half_lives: .* different whole numbers"):
            TrainSettings(ema_half_lives=text)


def test_what_earlier_releases_called_otherwise_is_understood():
    old = plan(n=64, compile="no", resident="yes", ema_half_lives="10000")
    assert old == plan(evaluate_n=64, compile="never", resident="always", ema_half_lives="10k")
    assert plan(compile=False).train.compile == "never", "what YAML makes of no"
    with pytest.raises(WrongInput, match="^n: evaluate_n is given too"):
        plan(n=64, evaluate_n=64)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().train.lr = 1.0


def test_text_from_a_command_line_becomes_typed():
    made = plan(founding_lr="1e-4", epochs="60", flip="true", patience="5.0")
    assert (made.search.founding_lr, made.train.epochs, made.train.flip, made.train.patience) == (1e-4, 60, True, 5)
    assert isinstance(made.train.patience, int)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("mults_choices", "1-2-4 1-x-4", "as in '1-2-4 1-2-3'"), ("mults_choices", " ", "one list or more"),
        ("founding_lr", 0, "above 0"), ("founding_lr", -1e-4, "above 0"), ("lr_low", "fast", "not a number"), ("lr_low", "nan", "above 0"),
        ("lr_high", True, "not a number"), ("lr", 1e-4, "founding_lr, lr_low and lr_high"), ("channel_mults", "1-2", "mults_choices"),
        ("epochs", 0, "from 1 to 1000000"), ("epochs", 1.5, "not a whole number"), ("epochs", "inf", "not a whole number"), ("batch_size", 0, "from 1"),
        ("image_size", 10, "cannot be halved"), ("image_size", 0, "from 1"), ("held_out", 1, "below 1"), ("flip", "perhaps", "true or false"),
        ("precision", "fp16", "fp32, bf16"), ("objective", "magic", "epsilon"), ("schedule", "cosy", "linear"), ("sampler", "euler", "ddim"),
        ("extractor", "resnet", "inception"), ("layer", 100, "768"), ("trials", 0, "from 1"), ("lr_high", 1e-9, "from lr_low"),
        ("trial_epochs", 1000, "at most epochs"), ("dataset_name", "a/b", "letters"), ("model_name", "", "letters"), ("run_name", "../up", "letters"),
        ("first_rung", 7, "multiple of held_out_every"), ("n", 3, "from 16"), ("base_channels", 6, "multiple of 4"), ("dropout", 1, "below 1"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(name, value, says):
    with pytest.raises(WrongInput) as problem:
        plan(**{name: value})
    assert says in str(problem.value) and "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("kind", "name", "value", "says"),
    [
        (TrainSettings, "lr", 0, "above 0"),
        (TrainSettings, "lr", "fast", "not a number"),
        (ModelSettings, "channel_mults", "1-x-4", "as in 1-2-4"),
        (ModelSettings, "channel_mults", "", "as in 1-2-4"),
        (SearchSettings, "mults_choices", "1-2 1-2-4 1-2", "lists of which no two are equal"),
        (SearchSettings, "base_choices", "64 064", "base_choices"),
        (SearchSettings, "half_life_choices", "1k 1000", "half_life_choices"),
    ],
)
def test_wrong_values_of_what_the_search_chooses(kind, name, value, says):
    with pytest.raises(WrongInput, match=says):
        kind(**{name: value})


def test_finalists_are_scored_by_more_pictures():
    with pytest.raises(WrongInput, match=r"finalist_n: 16 will not do; it must be more than score_n \(2048\), or 0"):
        SearchSettings(finalists=3, finalist_n=16)
    assert SearchSettings(finalists=3).final_n == 4 * 2048


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"guide": "trial"}, "guidance: 1.0 will not do; it must be more than 1, as 1.25, where there is a guide"),
        ({"guide": "trial", "guidance": 1.5, "trial_epochs": 64}, r"trial_epochs: 64 .* less than epochs \(64\), where the"),
        ({"guide": "trial", "guidance": 0.5}, "guidance: 0.5 will not do; it must be more than 1"),
        ({"guidance": 1.5}, r"guidance: 1.5 .* 1 \(none\) for a model with neither classes nor a guide"),
    ],
)  # fmt: skip
def test_a_run_is_guided_by_what_is_weaker(changes, says):
    with pytest.raises(WrongInput, match=f"^{says}"):
        plan(**changes)


def test_unknown_names_are_refused():
    with pytest.raises(WrongInput, match="'learning_rate' is not a setting"):
        plan(learning_rate=1)
    with pytest.raises(WrongInput, match="none named 'roses'; there are celeba"):
        load_preset("roses")
    with pytest.raises(WrongInput, match="none named"):
        load_preset("../presets/digits")


def test_defaults_are_the_founding_recipe():
    settings = TrainSettings()
    assert (settings.lr, settings.epochs, settings.precision) == (7e-5, 100, "fp32")


@pytest.mark.parametrize(
    ("seed", "n", "said"),
    [
        (2**62, 1, "it must be from 0 to 4611686018427387903"),
        (-1, 1, "it must be from 0 to"),
        (10**4000, 1, "will not do"),
        (2**62 - 1, 2, "4611686018427387903 and 2 pictures will not do: the last one's seed would be above"),
        (2**62 - 2, 2, ""),
    ],
)
def test_no_picture_has_a_seed_above_the_largest(tmp_path, capsys, seed, n, said):
    words = ["sample", "--model", f"{tmp_path}/none", f"--seed={seed}", f"--n={n}", "--out", f"{tmp_path}/out"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ddpm: seed: ") == bool(said) and said in line and len(line) < 400
    assert not (tmp_path / "out").exists()
