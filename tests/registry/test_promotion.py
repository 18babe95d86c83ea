"""The promotion log and its projection."""

import subprocess
import sys

import pytest

from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.registry.promotion import append, entries, project_aliases, rollback, standing
from ddpm.registry.version import register
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.promote import promote
from ddpm.store import open_store
from ddpm.tracking import open_client
from ddpm.workplace import Workplace


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def decide_on(store, place, version, again=False):
    return promote(
        Workplace(Quiet(), store.root, place), "m", version, "unused", EvaluateSettings(), DrawSettings(), again
    )


def aliases(place):
    return {alias: int(version) for alias, version in open_client(place).get_registered_model("m").aliases.items()}


def test_first_champion_then_challenger_then_only_the_better(checkpoints, place, store, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0], fid=2.0), None, {})
    first = decide_on(store, place, 1)
    assert (first["promoted"], first["aliases"]) == (True, ["champion"])
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=2.05), None, {})
    second = decide_on(store, place, 2)
    assert (second["promoted"], second["aliases"], second["champion"]) == (False, ["challenger"], 1)
    assert "not better beyond the intervals" in second["decision"]
    assert aliases(place) == {"champion": 1, "challenger": 2}
    assert [entry["action"] for entry in entries(store, "m")] == ["promote", "challenge"]


def test_a_better_one_takes_its_place_and_rollback_gives_it_back(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        assert decide_on(store, place, number)["promoted"]
    assert aliases(place) == {"champion": 2, "previous": 1}
    entry = rollback(store, place, "m", why="it draws nothing but noise")
    assert (entry["action"], entry["from"], entry["to"], entry["number"]) == ("rollback", 2, 1, 3)
    assert aliases(place) == {"champion": 1, "previous": 2}
    assert entries(store, "m")[-1]["why"] == "it draws nothing but noise"


def test_deciding_again_writes_nothing(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri), None, {})
        one, other = decide_on(store, place, number), decide_on(store, place, number)
        assert one == other
    assert len(entries(store, "m")) == 2


def test_a_run_that_is_carried_on_does_not_undo_a_rollback(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        decide_on(store, place, number)
    rollback(store, place, "m", why="a person saw it")
    found = decide_on(store, place, 2)
    assert (found["promoted"], found["champion"], found["aliases"]) == (False, 1, ["previous"])
    assert aliases(place) == {"champion": 1, "previous": 2}
    assert decide_on(store, place, 2, again=True)["promoted"], "but a person may ask for it"


def test_a_log_of_another_registry_is_refused(checkpoints, place, store, report_of, tmp_path):
    """MLflow's database was lost, and a new one numbers its versions from 1 again."""
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        decide_on(store, place, number)
    fresh = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    register(fresh, "m", checkpoints[1], report_of(checkpoints[1]), None, {})
    with pytest.raises(WrongInput, match="version 1 of m has other weights than in the promotion log"):
        decide_on(store, fresh, 1)
    with pytest.raises(WrongInput, match="m has no version 2, which is champion by the promotion log"):
        project_aliases(store, fresh, "m")
    assert len(entries(store, "m")) == 2


def test_a_race_for_the_aliases_ends_as_the_log_says(checkpoints, place, store, report_of, monkeypatch):
    """Another writer logs its entry, and sets the aliases, after we have read the log and before we set ours."""
    for uri in checkpoints:
        register(place, "m", uri, report_of(uri), None, {})

    def entry(came, to):
        append(store, "m", lambda log: {"action": "promote", "from": came, "to": to, "why": "x", "figures": None})

    entry(None, 1)
    client = open_client(place)
    look = client.get_registered_model
    raced = []

    def interrupted(name):
        if not raced:
            raced.append(entry(1, 2))
            for alias, version in (("champion", "2"), ("previous", "1")):
                client.set_registered_model_alias(name, alias, version)
        return look(name)

    monkeypatch.setattr(client, "get_registered_model", interrupted)
    monkeypatch.setattr("ddpm.registry.promotion.open_client", lambda uri: client)
    assert project_aliases(store, place, "m") == {"champion": 2, "previous": 1}
    assert aliases(place) == {"champion": 2, "previous": 1}


def test_aliases_can_be_set_again_from_the_log(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        decide_on(store, place, number)
    client = open_client(place)
    client.set_registered_model_alias("m", "champion", "1")
    client.set_registered_model_alias("m", "challenger", "2")
    client.delete_registered_model_alias("m", "previous")
    project_aliases(store, place, "m")
    assert aliases(place) == {"champion": 2, "previous": 1}


def test_without_a_previous_champion_there_is_nothing_to_go_back_to(checkpoints, place, store, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    decide_on(store, place, 1)
    with pytest.raises(Refused, match="no previous champion"):
        rollback(store, place, "m", why="x")


def test_a_champion_of_another_size_cannot_be_compared(checkpoints, place, store, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0], image_size=16), None, {})
    decide_on(store, place, 1)
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=0.1), None, {})
    found = decide_on(store, place, 2)
    assert (found["promoted"], found["decision"]) == (
        False, "the champion draws 16 px and this version 8 px: they cannot be measured alike",
    )  # fmt: skip


def test_a_champion_that_was_measured_otherwise_is_measured_again(checkpoints, place, store, report_of, monkeypatch):
    """Against another data set its old figures say nothing: the real evaluation runs, on the candidate's terms."""
    seen = []

    def evaluate(model, data, *rest):
        seen.append((model.origin.reference, data))
        return report_of(checkpoints[0], fid=9.0)

    register(place, "m", checkpoints[0], report_of(checkpoints[0], fid=0.5, dataset_digest="older"), None, {})
    decide_on(store, place, 1)
    register(place, "m", checkpoints[1], report_of(checkpoints[1]), None, {})
    monkeypatch.setattr("ddpm.steps.promote.evaluate", evaluate)
    monkeypatch.setattr("ddpm.steps.promote.open_dataset", lambda uri: uri)
    assert promote(
        Workplace(Quiet(), store.root, place), "m", 2, "the-data-set", EvaluateSettings(), DrawSettings(), again=False
    )["promoted"]
    assert seen == [("models:/m/1", "the-data-set")]


def test_racing_writers_lose_no_entry(store):
    code = (
        "import sys; from ddpm.registry.promotion import append; from ddpm.store import open_store\n"
        "for i in range(10):\n"
        "    append(open_store(sys.argv[1]), 'm', lambda log: {'action': 'challenge', 'from': None, 'to': int(sys.argv[2]) * 100 + i,"
        " 'why': str(len(log)), 'figures': None})\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, store.root, str(number)]) for number in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    log = entries(store, "m")
    assert [entry["number"] for entry in log] == list(range(1, 31))
    assert sorted(entry["to"] for entry in log) == sorted(n * 100 + i for n in range(3) for i in range(10))
    assert [entry["why"] for entry in log] == [str(i) for i in range(30)], "each decided on the log as it was"


def test_who_has_which_alias_follows_from_the_log():
    def entry(action, came, to):
        return {"action": action, "from": came, "to": to}

    log = [entry("promote", None, 1), entry("challenge", 1, 2), entry("challenge", 1, 3), entry("promote", 1, 3)]
    assert standing(log[:2]) == {"champion": 1, "challenger": 2}
    assert standing(log) == {"champion": 3, "previous": 1}
    assert standing([*log, entry("rollback", 3, 1)]) == {"champion": 1, "previous": 3}


def test_append_of_nothing_is_nothing(store):
    assert append(store, "m", lambda log: None) is None
    assert entries(store, "m") == []
