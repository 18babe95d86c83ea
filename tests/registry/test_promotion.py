"""The promotion log and its projection."""

import shutil

import pytest
from measured import keep_report

from ddpm.errors import Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.registry.log import append, entries
from ddpm.registry.promotion import project_aliases, rollback
from ddpm.registry.version import register
from ddpm.settings import DrawSettings, EvaluateSettings
from ddpm.steps.promote import promote, try_out
from ddpm.store import open_store
from ddpm.tracking import open_client
from ddpm.workplace import Workplace


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def decide_on(store, place, version, again=False, **settings):
    keep_report(store, place, version)
    where = Workplace(Quiet(), store.root, place)
    return promote(where, "m", version, "unused", EvaluateSettings(**settings), DrawSettings(), again)


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


def test_rollback_to_a_version_whose_files_are_gone_changes_nothing(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        decide_on(store, place, number)
    shutil.rmtree(open_client(place).get_model_version("m", "1").source.removeprefix("file://"))
    with pytest.raises(WrongInput, match="models:/m/1"):
        rollback(store, place, "m", why="x")
    assert aliases(place) == {"champion": 2, "previous": 1}
    assert len(entries(store, "m")) == 2


@pytest.mark.parametrize("again", [False, True])
def test_deciding_again_writes_nothing(checkpoints, place, store, report_of, again):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri), None, {})
        one, other = decide_on(store, place, number), decide_on(store, place, number, again)
        assert one == other
    assert len(entries(store, "m")) == 2


def test_by_hand_other_settings_decide_anew_and_a_dry_run_says_as_much(checkpoints, place, store, report_of):
    """A copying challenger of better figures: refused, refused for another reason, and then let in."""
    for number, (uri, excess) in enumerate(zip(checkpoints, (-0.1, 0.08), strict=True), 1):
        copying = {"share": 0.3, "share_held_out": 0.0, "excess_low": excess}
        register(place, "m", uri, {**report_of(uri, fid=3.0 - number), "copying": copying}, None, {})
        decide_on(store, place, number)
    where, logged = Workplace(Quiet(), store.root, place), []
    for gate in (0.05, 0.06, 0.06, 0.1, 0.1):
        settings = EvaluateSettings(copying_gate=gate)
        tried = try_out(where, "m", 2, "unused", settings, DrawSettings())
        found = decide_on(store, place, 2, again=True, copying_gate=gate)
        if logged[-1:] != ["promote"]:
            assert (tried["would_promote"], tried["decision"]) == (found["promoted"], found["decision"])
        logged = [entry["action"] for entry in entries(store, "m")]
        assert logged == ["promote", "challenge", *{0.05: [], 0.06: ["challenge"], 0.1: ["challenge", "promote"]}[gate]]
    assert aliases(place) == {"champion": 2, "previous": 1}
    assert decide_on(store, place, 2, copying_gate=0.05)["champion"] == 2


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
    with pytest.raises(WrongInput, match="must be another registry's"):
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
    monkeypatch.setattr("ddpm.registry.contest.evaluate", evaluate)
    monkeypatch.setattr("ddpm.registry.contest.open_dataset", lambda uri: uri)
    keep_report(store, place, 2)
    assert promote(
        Workplace(Quiet(), store.root, place), "m", 2, "the-data-set", EvaluateSettings(), DrawSettings(), again=False
    )["promoted"]
    assert seen == [("models:/m/1", "the-data-set")]


# -- versions that somebody deleted in MLflow's pages ------------------------------------------------------------------


@pytest.fixture
def tidied(place, store, monkeypatch):
    """Fills a log and a registry of four versions, deletes one of them, and returns what moves the rest."""
    monkeypatch.setattr("ddpm.registry.version.resolve", lambda *_: None)  # these have no files to look at
    client = open_client(place)
    client.create_registered_model("m")
    for number in range(1, 5):
        client.create_model_version("m", f"file:///{number}", None, tags={"weights_sha256": f"{number}"})

    def tidy(*log, deleted):
        for action, came, to in log:
            drafted = {"action": action, "from": came, "to": to, "why": "x", "weights_sha256": str(to), "figures": None}
            append(store, "m", lambda log, drafted=drafted: drafted)
        project_aliases(store, place, "m")
        for number in deleted:
            client.delete_model_version("m", str(number))

    return tidy


TWO = (("promote", None, 1), ("promote", 1, 2))


def test_a_challenger_that_was_deleted_loses_its_alias_and_stops_nobody(tidied, store, place):
    tidied(("promote", None, 1), ("challenge", 1, 2), deleted=[2])
    assert project_aliases(store, place, "m") == {"champion": 1} == aliases(place)
    last = entries(store, "m")[-1]
    assert (last["action"], last["to"]) == ("gone", 2)
    assert last["why"] == "version 2, the challenger, is in MLflow no more"


def test_rollback_from_a_champion_that_was_deleted_gives_the_one_before_its_place(tidied, store, place):
    tidied(*TWO, deleted=[2])
    entry = rollback(store, place, "m", why="2 is gone")
    assert (entry["action"], entry["from"], entry["to"], entry["weights_sha256"]) == ("rollback", None, 1, "1")
    assert aliases(place) == {"champion": 1}
    assert [one["action"] for one in entries(store, "m")] == ["promote", "promote", "gone", "rollback"]


def test_rollback_goes_back_past_a_version_that_was_deleted(tidied, store, place):
    tidied(*TWO, ("promote", 2, 3), deleted=[2])
    rollback(store, place, "m", why="x")
    assert aliases(place) == {"champion": 1, "previous": 3}


def test_rollback_where_no_earlier_champion_is_left_writes_no_rollback(tidied, store, place):
    tidied(*TWO, deleted=[1])
    with pytest.raises(Refused, match="no previous champion"):
        rollback(store, place, "m", why="x")
    assert [one["action"] for one in entries(store, "m")] == ["promote", "promote", "gone"]
    assert aliases(place) == {"champion": 2}


def test_a_version_deleted_while_the_aliases_are_set_is_dropped(tidied, store, place, monkeypatch):
    tidied(*TWO, deleted=[])
    client = open_client(place)
    append(store, "m", lambda log: {"action": "promote", "from": 2, "to": 3, "why": "x", "figures": None})
    look = client.get_registered_model
    monkeypatch.setattr(
        client, "get_registered_model", lambda name: (client.delete_model_version(name, "3"), look(name))[1]
    )
    monkeypatch.setattr("ddpm.registry.promotion.open_client", lambda uri: client)
    with monkeypatch.context() as once:
        once.setattr(client, "delete_model_version", _once(client.delete_model_version))
        assert project_aliases(store, place, "m") == {"previous": 2}
    assert aliases(place) == {"previous": 2}


def _once(function):
    calls = []
    return lambda *given: None if calls else (calls.append(given), function(*given))


def test_another_registrys_tracking_uri_drops_nothing(tidied, store, tmp_path):
    tidied(*TWO, deleted=[])
    fresh = f"sqlite:///{tmp_path}/fresh/mlflow.db"
    shutil.copytree(tmp_path / "mlflow", tmp_path / "fresh")
    open_client(fresh).delete_registered_model("m")
    with pytest.raises(WrongInput, match="MLflow has none of the versions of m"):
        rollback(store, fresh, "m", why="x")
    assert len(entries(store, "m")) == 2


def test_a_version_is_decided_on_against_the_champion_before_where_the_champion_is_gone(
    checkpoints, place, store, report_of
):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
        decide_on(store, place, number)
    client = open_client(place)
    client.delete_model_version("m", "2")
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=2.05), None, {})
    found = decide_on(store, place, 3)
    assert (found["promoted"], found["champion"], found["aliases"]) == (False, None, ["challenger"])
    assert "not better beyond the intervals" in found["decision"]
    assert "against the one before, version 1; `ddpm rollback` gives that its place back" in found["decision"]
    assert rollback(store, place, "m", why="2 is gone")["to"] == 1
    assert aliases(place) == {"champion": 1, "challenger": 3}


def test_where_no_champion_is_left_the_next_is_the_first_again(checkpoints, place, store, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0], fid=0.1), None, {})
    decide_on(store, place, 1)
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=3.0), None, {})
    open_client(place).delete_model_version("m", "1")
    found = decide_on(store, place, 2)
    assert (found["promoted"], found["aliases"]) == (True, ["champion"])
    assert found["decision"] == "there is no champion, and none before it is left"
    assert [one["action"] for one in entries(store, "m")] == ["promote", "gone", "promote"]
