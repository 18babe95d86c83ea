"""What a search may vary, and in which order it tries it."""

import pytest

from ddpm.errors import WrongInput
from ddpm.plan import Plan
from ddpm.search.choice import winner_settings
from ddpm.search.space import first_trials, suggest
from ddpm.search.study import create_study, open_study
from ddpm.search.trial import trial_row, trial_settings, tried
from ddpm.settings import CHOICES, SearchSettings

ALL = {
    "base_choices": "16 32", "dropout_choices": "0 0.1", "augment_choices": "0, 0.12", "objective_choices": "v edm",
    "schedule_choices": "cosine linear", "batch_choices": "32 64", "half_life_choices": "500 5000",
}  # fmt: skip


def plan_of(folder, **changes):
    places = {"run_name": "one", "store": str(folder), "tracking_uri": f"sqlite:///{folder}/m.db"}
    return Plan.from_parameters({**places, "study_storage": str(folder / "journal.log"), "trials": 8, **changes})


def test_each_list_has_a_setting():
    assert set(ALL) == set(CHOICES.values())
    assert SearchSettings().varied == {}
    assert SearchSettings(**ALL).varied["augment"] == ("0", "0.12")


def test_without_other_lists_a_trial_is_what_it_was(tmp_path):
    plan = plan_of(tmp_path)
    create_study(plan.study_storage, "one", plan.search)
    trial = open_study(plan.study_storage, "one", plan.search).ask()
    assert suggest(trial, plan.search) == {"channel_mults": "1-2-4-8", "lr": 7e-5}
    assert trial_row(trial.study.trials[0])["point"] == {}
    model, train = trial_settings(plan, {"channel_mults": "1-2-4-8", "lr": 7e-5})
    assert (model.base_channels, train.batch_size) == (plan.model.base_channels, plan.train.batch_size)


def test_founding_trials_come_first_with_the_first_of_each_list():
    fixed = first_trials(SearchSettings(trials=6, **ALL))
    first = {
        "base_channels": "16", "dropout": "0", "augment": "0", "objective": "v", "schedule": "cosine", "batch_size": "32",
        "ema_half_lives": "500",
    }  # fmt: skip
    assert fixed[:4] == [
        {"channel_mults": mults, "lr": 7e-5, **first} for mults in ("1-2-4-8", "1-2-3-6", "1-2-3", "1-2-4")
    ]
    assert fixed[4:] == [{}, {}]
    assert first_trials(SearchSettings(trials=6, founding_first=False)) == [{}] * 6


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_every_sampler_fills_what_is_not_fixed_and_the_seed_is_the_run_s(tmp_path, sampler):
    plan = plan_of(tmp_path, search_sampler=sampler, mults_choices="1-2 1-2-4", trials=5, **ALL)

    def points(name):
        create_study(plan.study_storage, name, plan.search)
        study = open_study(plan.study_storage, name, plan.search)
        found = []
        for number in range(5):
            trial = study.ask()
            found.append(suggest(trial, plan.search))
            trial.set_user_attr("fid", float(number))
            trial.set_user_attr("kid", 0.1)
            study.tell(trial, float(number))
        return found, [trial_row(trial) for trial in study.trials]

    first, rows = points("one")
    assert {row["point"]["objective"] for row in rows} <= {"v", "edm"}
    assert all(set(row["point"]) == set(CHOICES) for row in rows)
    assert len({point["lr"] for point in first[2:]}) == 3, "those after the founding ones are the sampler's"
    model, train = winner_settings(plan, rows[4])
    assert (model.channel_mults, train.lr) == (first[4]["channel_mults"], first[4]["lr"])
    assert str(model.base_channels) == first[4]["base_channels"] and model.objective == first[4]["objective"]
    assert train.batch_size == int(first[4]["batch_size"]) and train.half_lives == (int(first[4]["ema_half_lives"]),)
    assert tried(first[4])[0] == f"base_channels {first[4]['base_channels']}"
    assert points("two")[0][2:] != first[2:], "a run of another name is another search"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_choices": "16 18"}, "base_choices: 18 is no choice: base_channels: 18 will not do; it must be a multiple of 4"),
        ({"dropout_choices": "0.1 1"}, "dropout_choices: 1 is no choice: dropout: 1.0 will not do"),
        ({"objective_choices": "epsilon magic"}, "objective_choices: magic is no choice: objective: 'magic'"),
        ({"objective_choices": "edm", "min_snr_gamma": 5}, "objective_choices: edm is no choice: min_snr_gamma: "),
        ({"batch_choices": "none"}, "batch_choices: none is no choice: batch_size: 'none' is not a whole number"),
        ({"half_life_choices": "0"}, "half_life_choices: 0 is no choice: ema_half_lives"),
        ({"schedule_choices": "cosine cosine"}, "schedule_choices: 'cosine cosine' will not do; .* different values"),
        ({"mults_choices": "1-2 1-2-3-4-5"}, "image_size: 8 cannot be halved 4 times, as channel_mults 1-2-3-4-5 needs"),
        ({"search_sampler": "cmaes"}, "search_sampler: 'cmaes' will not do; it must be one of tpe, random, gp"),
        ({"objective_choices": "epsilon", "timesteps": 100, "objective": "edm"}, "objective_choices: epsilon is no choice: sampling_steps"),
    ],
)  # fmt: skip
def test_what_no_trial_could_be_run_with_is_refused_beforehand(tmp_path, changes, words):
    with pytest.raises(WrongInput, match=f"^{words}") as refused:
        plan_of(tmp_path, **{"image_size": 8, "mults_choices": "1-2", **changes})
    assert "\n" not in str(refused.value)
