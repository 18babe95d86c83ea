"""The page of a study: what stands on it, that it holds all of itself, and that it is made once."""

import re
from types import SimpleNamespace

import pytest
import torch
from optuna.trial import TrialState

from ddpm.plan import Plan
from ddpm.progress import Quiet
from ddpm.run import Run
from ddpm.search.choice import choose, choose_among
from ddpm.search.space import suggest
from ddpm.search.study import create_study, open_study
from ddpm.settings import ModelSettings
from ddpm.store import Missing
from ddpm.study_page import render
from ddpm.study_page.coordinates import parallel_coordinates
from ddpm.study_page.network import network_figure

FOUNDING = {"1-2-4-8": (24.92, 0.334), "1-2-3-6": (27.13, 0.328), "1-2-3": (18.30, 0.393), "1-2-4": (24.49, 0.296)}
FACTS = {"images_seen": 1000, "budget_images": 1000, "parameters": 1000, "seconds": 90.0, "checkpoint": "/trials/x"}


class Painter:
    """A model that draws noise."""

    def quick(self, steps, batch):
        return None

    def draw(self, seeds, drawing):
        return torch.randint(0, 256, (len(seeds), 3, 8, 8), dtype=torch.uint8)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The founding four, two more that were completed, one that was pruned and one that failed."""
    plan = Plan.from_parameters({
        "run_name": "one", "store": str(tmp_path / "store"), "tracking_uri": "sqlite:////none", "dataset_name": "flowers",
        "study_storage": str(tmp_path / "journal"), "trials": 8, "trial_epochs": 4, "epochs": 8, "first_rung": 1, "held_out_every": 1,
        "dropout_choices": "0 0.1",
    })  # fmt: skip
    create_study(plan.study_storage, "one", plan.search)
    study = open_study(plan.study_storage, "one", plan.search)
    for number in range(8):
        trial = study.ask()
        fid, kid = FOUNDING[suggest(trial, plan.search)["channel_mults"]]
        more, state = {}, TrialState.COMPLETE
        if number == 6:
            rung = {"score": 61.5, "std": 0.5, "parts": [], "hopeless": True}
            state, more = TrialState.PRUNED, {"images_seen": 250, "rung_1": rung}
        elif number == 7:
            state, more = TrialState.FAIL, {"problem": "<i>blew</i> up"}
        worse = 10 * (number > 3) + number / 100
        for name, value in {
            **FACTS,
            "fid": fid + worse,
            "kid": kid + worse,
            "fid_std": 0.1,
            "kid_std": 0.01,
            **more,
        }.items():
            trial.set_user_attr(name, value)
        study.tell(trial, fid + worse if state == TrialState.COMPLETE else None, state)
    run = Run(plan)
    curve = [(100, 0.5), (500, 0.2), (1000, 0.1)]
    run.__dict__["tracker"] = SimpleNamespace(child=lambda *_: SimpleNamespace(history=lambda name: curve))
    monkeypatch.setattr(render.checkpoint, "load_model", lambda uri: Painter())
    return run


def page_of(run):
    return render.study_page(run, choose(run, "/no/data", Quiet()), Quiet()).decode()


def test_the_page_holds_the_study_and_all_of_itself(run):
    page = page_of(run)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "<script" not in page, "nothing is fetched"
    assert page.count('src="data:image/png;base64,') == 7, "one grid a trial that did not fail"
    assert len(page) < 5_000_000
    for heading in (
        "Leaderboard",
        "The choice",
        "The same seeds, side by side",
        "History",
        "Parallel coordinates",
        "What mattered",
        "Cost",
    ):
        assert heading in page, heading
    assert (
        "<h3>Held-out loss of the 7 best</h3><svg" in page
        and "The trials took 0.2 device-hours, 7,250 pictures trained on" in page
    )
    assert "1 trial ended early, which saved 750 pictures" in page and "250 (25%)" in page
    assert page.count("pruned at epoch 1: FID 61.5 ± 0.98") == 3, "in the table, and beside its pictures twice"
    assert "fail: &lt;i&gt;blew&lt;/i&gt; up" in page, "what a trial says is no markup"
    rows = re.findall(r'<tr( class="chosen")?><td>(.?)</td><td>(\d)</td>', page)
    assert rows[0] == (' class="chosen"', "★", "3")
    assert {row[2] for row in rows[-2:]} == {"6", "7"}, "those that were not completed come last"


def test_the_founding_choice_by_both_and_by_each(run):
    chosen = dict(re.findall(r"<dt>by (.*?)</dt><dd>(.*?)</dd>", page_of(run)))
    assert chosen == {
        "both, the mean of ranks": "trial 3, 1-2-4", "FID alone": "trial 2, 1-2-3", "KID alone": "trial 3, 1-2-4",
        "the trials&#39; own scores": "trial 3, 1-2-4",
    }  # fmt: skip


def test_with_too_few_looks_the_training_loss_is_shown(run):
    curves = {"held_out_loss": [(1000, 0.1)], "loss": [(10, 0.5), (20, 0.4), (30, 0.3)]}
    run.__dict__["tracker"] = SimpleNamespace(child=lambda *_: SimpleNamespace(history=curves.__getitem__))
    assert "<h3>Training loss of the 7 best</h3><svg" in page_of(run)


def test_of_a_study_in_which_one_trial_was_completed_the_others_are_seen_as_well(run):
    """Halving may leave no more: there is one figure to choose by, and what the others scored at their rungs."""
    rows = choose(run, "/no/data", Quiet())["trials"]
    for row in (*rows[:2], *rows[3:6]):
        rung = {"score": 0.7 + 0.01 * row["number"], "std": 0.1, "parts": [0.7], "hopeless": True}
        row |= {"state": "PRUNED", "fid": None, "kid": None, "images_seen": 250, "rungs": {"1": rung}}
    page = render._render(run, choose_among(rows), Quiet())
    order = [int(row) for row in re.findall(r"<tr(?: class=\"chosen\")?><td>.?</td><td>(\d)</td>", page)]
    assert order == [2, 7, 0, 1, 3, 4, 5, 6], "the completed one, then by how far they came and what they scored there"
    assert "pruned at epoch 1: held-out loss 0.7300" in page and page.count('src="data:image/png;base64,') == 7
    assert "6 trials ended early" in page and "by both, the mean of ranks" in page


def test_it_is_made_once(run, monkeypatch):
    page = page_of(run)
    monkeypatch.setattr(render.checkpoint, "load_model", lambda uri: pytest.fail("it is drawn again"))
    assert page_of(run) == page


def test_grids_stop_before_the_page_is_too_large(run, monkeypatch):
    monkeypatch.setattr(render, "MOST_BYTES", 1)
    page = page_of(run)
    assert page.count('src="data:image/png;base64,') == 1 and "6 more trials are not shown here" in page


def test_a_study_of_thousands_shows_the_best_and_counts_the_others(run, monkeypatch):
    """5,000 trials with large pictures, two varied settings and long words."""

    class Large(Painter):
        def draw(self, seeds, drawing):
            return torch.randint(0, 256, (len(seeds), 3, 64, 64), dtype=torch.uint8)

    plain = dict.fromkeys(["kid_std", "joules", "devices", "checkpoint", "problem"])
    rows = [
        {
            **plain, "number": number, "channel_mults": "1-2-4-8", "lr": 1e-4 + number * 1e-8, "rungs": {}, "seconds": 90.0,
            "point": {"dropout": "0.1"}, "state": "COMPLETE", "fid": 20.0 + number % 97, "kid": 0.1 + number % 89, "fid_std": 0.1,
            "images_seen": 1000, "budget_images": 1000, "parameters": 1000, "checkpoint": f"/trials/{number}",
        }
        for number in range(5000)
    ]  # fmt: skip
    for row in rows[4000:4500]:
        row |= {"state": "PRUNED", "fid": None, "kid": None, "images_seen": 250}
    for row in rows[4500:]:
        row |= {"state": "FAIL", "fid": None, "kid": None, "problem": "it blew up, " * 500}
    monkeypatch.setattr(render.checkpoint, "load_model", lambda uri: Large())
    monkeypatch.setattr(render, "importances", lambda run: {})
    page = render._render(run, choose_among(rows), Quiet())
    assert len(page.encode()) < 5_000_000
    assert "flowers at 64×64, 5,000 trials" in page and "Parallel coordinates of the 200 best" in page
    assert "4,800 more trials are not shown (3,800 complete, 500 pruned, 500 fail); MLflow has them." in page
    assert page.count('<polyline class="curve trial') == 200
    assert 1 <= page.count('src="data:image/png;base64,') <= 40
    left = [{**row, "number": place} for place, row in enumerate(rows[3950:4600])]
    page = render._render(run, choose_among(left), Quiet())
    assert page.count("fail: it blew up, it blew up") == 100 and len(page.encode()) < 5_000_000, "few were completed"


def test_large_pictures_are_halved_until_the_page_has_room(monkeypatch):
    noise = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = render._of_size(noise)
    monkeypatch.setattr(render, "MOST_BYTES", 2 * len(whole))
    assert len(render._of_size(noise)) <= len(whole) // 2
    assert render._of_size(noise[:, :, :16, :16]) == render.png(render.grid(noise[:, :, :16, :16]))


def test_a_trial_whose_checkpoint_is_gone_has_no_picture_and_says_so(run, monkeypatch):
    def load_model(uri):
        raise Missing(f"{uri} is gone")

    monkeypatch.setattr(render.checkpoint, "load_model", load_model)
    page = page_of(run)
    assert "<img" not in page and page.count("it cannot be drawn from: /trials/x is gone") == 7


def test_the_network_has_its_levels_channels_and_attention():
    figure = network_figure(
        ModelSettings(channel_mults="1-2-4", base_channels=32, blocks=2, attention_resolution=16), 64
    )
    words = re.findall(r"<text[^>]*>(.*?)</text>", figure)
    assert [words.count(channels) for channels in ("32", "64", "128")] == [2, 2, 3], "down, up, and at the bottom"
    assert sum(word.startswith("skip connections") for word in words) == 3 and "skip connections, 16×16" in words
    assert figure.count('class="level attends"') == 3 and figure.count('class="level"') == 4
    assert words.count("×2") == 4 and words.count("×3") == 2, "residual blocks: one more on the way up"


def test_parallel_coordinates_stand_out_and_take_words_and_numbers():
    rows = [{"multipliers": "1-2", "lr": 1e-5, "FID": 3.0}, {"multipliers": "<b>", "lr": 1e-3, "FID": 3.0}]
    drawn = parallel_coordinates(rows, 1)
    assert drawn.count("<polyline") == 2 and drawn.count("trial best") == 1 and "&lt;b&gt;" in drawn
    assert parallel_coordinates(rows[:1], 0) == ""
