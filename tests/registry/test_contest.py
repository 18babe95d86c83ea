"""What the gate is given to go by: reports as they were measured, and champions of the same data."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from measured import keep_report
from safetensors.torch import save

from ddpm.cli import main
from ddpm.data.manifest import blob_key, canonical
from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.report import seal
from ddpm.model.model import Model
from ddpm.progress import Quiet
from ddpm.registry.log import entries
from ddpm.registry.version import figures, register, resolve
from ddpm.settings import FORMAT_VERSION, DrawSettings, EvaluateSettings
from ddpm.steps.promote import promote
from ddpm.store import Damaged, open_store
from ddpm.tracking import open_client
from ddpm.workplace import Workplace


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def published(store):
    """Publishes pictures uint8 [n,3,8,8] as a data set of this name; its tags on a version."""

    def publish(name, images):
        data = save({"images": images, "labels": torch.zeros(len(images), dtype=torch.int64)})
        sha256 = hashlib.sha256(data).hexdigest()
        store.write(blob_key(sha256), data)
        shard = {"sha256": sha256, "bytes": len(data), "n": len(images)}
        manifest = {
            "format_version": FORMAT_VERSION, "name": name, "image_size": 8, "classes": [], "source": {},
            "n": len(images), "held_out": 0, "shards": {"train": [shard], "held_out": []},
        }  # fmt: skip
        data = canonical(manifest)
        digest = hashlib.sha256(data).hexdigest()
        store.write(f"datasets/{name}/{digest}.json", data)
        return {"dataset_digest": digest, "dataset_uri": store.uri(f"datasets/{name}/{digest}.json")}

    return publish


def decide_on(store, place, version, dataset="unused", **settings):
    keep_report(store, place, version)
    where = Workplace(Quiet(), store.root, place)
    return promote(where, "m", version, dataset, EvaluateSettings(**settings), DrawSettings(), again=False)


@pytest.fixture
def rivals(checkpoints, place, store, report_of, monkeypatch):
    """Registers a champion of one data set and a far better version of another; a champion measured again scores 9."""

    def of(first, second):
        for uri, tags, fid in zip(checkpoints, (first, second), (2.0, 0.5), strict=True):
            digest = tags.get("dataset_digest", "0" * 64)
            register(place, "m", uri, report_of(uri, fid=fid, dataset_digest=digest), None, tags)
        again = report_of(checkpoints[0], fid=9.0, dataset_digest=second["dataset_digest"])
        monkeypatch.setattr("ddpm.registry.contest.evaluate", lambda *given: again)
        decide_on(store, place, 1)

    return of


def pictures(seed, n=20):
    return torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_a_champion_of_other_pictures_is_never_measured_against_silently(store, place, rivals, published):
    rivals(published("train", pictures(1)), published("train", pictures(2)))
    found = decide_on(store, place, 2)
    assert (found["promoted"], found["champion"], found["aliases"]) == (False, 1, ["challenger"])
    assert "the champion is of other data: 0 of 20 pictures (0.0%) of the data set train" in found["decision"]
    assert "another model_name, or lineage_gate 0" in found["decision"]


def test_a_person_may_measure_across_data_sets_and_the_log_says_so(store, place, rivals, published):
    other = published("train", pictures(2))
    rivals(published("train", pictures(1)), other)
    found = decide_on(store, place, 2, other["dataset_uri"], lineage_gate=0)
    assert (found["promoted"], found["champion"]) == (True, 2)
    assert "lineage_gate 0 measures across data sets" in entries(store, "m")[-1]["why"]


def test_a_data_set_that_has_grown_is_of_the_same_lineage(store, place, rivals, published):
    grown = published("cats", torch.cat([pictures(1), pictures(2)]))
    rivals(published("cats", pictures(1)), grown)
    assert decide_on(store, place, 2, grown["dataset_uri"])["promoted"]


def test_a_data_set_that_is_gone_is_said(store, place, rivals, published):
    first = published("cats", pictures(1))
    rivals(first, published("cats", pictures(2)))
    Path(first["dataset_uri"]).unlink()
    found = decide_on(store, place, 2)
    assert not found["promoted"]
    assert f"cannot be told, for cats {first['dataset_digest'][:12]}… is not there" in found["decision"]


# -- figures that somebody edited --------------------------------------------------------------------------------------


def files_of(place, version):
    return Path(open_client(place).get_model_version("m", str(version)).source.removeprefix("file://"), "artifacts")


def test_a_report_that_is_edited_in_the_registrys_files_is_not_believed(checkpoints, place, store, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0], fid=2.0), None, {})
    file = files_of(place, 1) / "report.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "fid": 0.0001}))
    with pytest.raises(Damaged, match="models:/m/1 is not whole: its report.json is damaged: its sha256 is"):
        decide_on(store, place, 1)
    listed = files_of(place, 1) / "files.json"
    known = json.loads(listed.read_text())
    known["sha256"]["report.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    listed.write_text(json.dumps(known))
    with pytest.raises(Damaged, match="its files.json is damaged: its sha256 is"):
        decide_on(store, place, 1)
    assert entries(store, "m") == []


def test_tags_that_are_edited_too_are_not_those_of_the_log(checkpoints, place, store, report_of):
    for number, uri in enumerate(checkpoints, 1):
        register(place, "m", uri, report_of(uri, fid=3.0 - number), None, {})
    decide_on(store, place, 1)
    open_client(place).set_model_version_tag("m", "1", "files_sha256", "0" * 64)
    with pytest.raises(
        Damaged, match="tag files_sha256 of m version 1 is not the one that entry 1 of the promotion log"
    ):
        decide_on(store, place, 2)


def test_a_report_that_is_edited_before_it_is_registered_is_refused(checkpoints, place, report_of):
    measured = report_of(checkpoints[0], fid=2.0)
    measured["sha256"] = seal(measured)
    with pytest.raises(WrongInput, match="report: what it says is not what was measured"):
        register(place, "m", checkpoints[0], {**measured, "fid": 0.0001}, None, {})
    later = {**measured, "page": "somewhere", "judge": None, "run_seconds": {"train": 1.0}}
    assert register(place, "m", checkpoints[0], later, None, {})["new"], (
        "what a run adds is no part of what was measured"
    )
    assert figures(place, "m", 1) == later


def test_a_report_other_than_the_stores_is_refused(checkpoints, place, store, report_of):
    measured = {**report_of(checkpoints[0], fid=2.0), "key": "reports/" + "a" * 64}
    store.write(f"{measured['key']}.json", json.dumps(measured).encode())
    register(place, "m", checkpoints[0], {**measured, "fid": 0.0001}, None, {})
    with pytest.raises(Refused, match="it has another fid than .*reports/aaa"):
        decide_on(store, place, 1)


class Heard(Quiet):
    """What a person is told."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("key", ["reports/" + "b" * 64, "registry/other/000001", None])
def test_a_report_that_no_evaluation_wrote_into_the_store_is_not_weighed(
    checkpoints, place, store, report_of, monkeypatch, key
):
    """However well it is forged: another key, that of another object, or none, and the digest made anew."""
    measured = report_of(checkpoints[0], fid=9.0)
    store.write(f"{measured['key']}.json", json.dumps(measured).encode())
    store.write("registry/other/000001.json", json.dumps({"metric": measured["metric"]}).encode())
    forged = {**measured, "fid": 0.0001, "key": key}
    if key is None:
        del forged["key"]
    forged["sha256"] = seal(forged)
    register(place, "m", checkpoints[0], forged, None, {})
    asked = []

    def evaluate(model, data, *rest):
        asked.append((model.origin.reference, data))
        return measured

    monkeypatch.setattr("ddpm.registry.contest.evaluate", evaluate)
    monkeypatch.setattr("ddpm.registry.contest.open_dataset", lambda uri: uri)
    heard = Heard()
    where = Workplace(heard, store.root, place)
    for _ in range(2):
        promote(where, "m", 1, "the-data-set", EvaluateSettings(), DrawSettings(), again=False)
    assert asked == [("models:/m/1", "the-data-set")], "and no second time where it was decided on"
    assert entries(store, "m")[0]["figures"]["fid"] == 9.0
    assert f"the report of m version 1 is not in {store.root}" in heard.lines[0]


@pytest.mark.parametrize(("fid", "kid", "theirs", "champion"), [(0.0001, 0.0001, 2.0, 2), (1000.0, 20.0, 50.0, 1)])
def test_a_champions_report_is_not_believed_either(
    checkpoints, place, store, report_of, monkeypatch, fid, kid, theirs, champion
):
    """Neither one that nobody can beat nor one that everybody can: the champion scores 9 when it is measured."""
    measured = report_of(checkpoints[0], fid=9.0, kid=0.9)
    forged = {**measured, "fid": fid, "kid": kid, "key": "reports/" + "b" * 64}
    forged["sha256"] = seal(forged)
    register(place, "m", checkpoints[0], forged, None, {})
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=theirs, kid=theirs / 10), None, {})
    keep_report(store, place, 2)
    asked = []
    monkeypatch.setattr("ddpm.registry.contest.open_dataset", lambda uri: uri)
    monkeypatch.setattr(
        "ddpm.registry.contest.evaluate", lambda model, *rest: asked.append(model.origin.reference) or measured
    )
    heard = Heard()
    where = Workplace(heard, store.root, place)
    for version in (1, 2):
        found = promote(where, "m", version, "the-data-set", EvaluateSettings(), DrawSettings(), again=False)
    assert (found["champion"], asked) == (champion, ["models:/m/1"] * 2)
    assert "against 9 " in entries(store, "m")[-1]["why"]
    assert heard.lines[1].startswith(f"the report of m version 1 is not in {store.root}")


def test_of_a_report_of_an_earlier_release_the_log_says_that_nobody_can_tell(checkpoints, place, store, report_of):
    old = report_of(checkpoints[0], fid=2.0)
    del old["key"]
    register(place, "m", checkpoints[0], old, None, {})
    where = Workplace(Quiet(), store.root, place)
    promote(where, "m", 1, "unused", EvaluateSettings(), DrawSettings(), again=False)
    (entry,) = entries(store, "m")
    assert entry["action"] == "promote" and entry["figures"]["fid"] == 2.0
    assert "other_report" not in register(place, "m", checkpoints[0], old, None, {})
    measured = report_of(checkpoints[0], fid=9.0)
    assert register(place, "m", checkpoints[0], {**measured, "sha256": seal(measured)}, None, {})["other_report"]
    assert entry["why"] == (
        "the first version of this model; its report is one of an earlier release, and nobody can tell who wrote it"
    )


def test_of_a_champion_s_report_of_an_earlier_release_the_log_says_so_too(
    checkpoints, place, store, report_of, published
):
    data = published("digits", pictures(1))["dataset_uri"]
    old = report_of(checkpoints[0], fid=2.0)
    del old["key"]
    register(place, "m", checkpoints[0], old, None, {})
    where = Workplace(Quiet(), store.root, place)
    promote(where, "m", 1, data, EvaluateSettings(), DrawSettings(), again=False)
    register(place, "m", checkpoints[1], report_of(checkpoints[1], fid=3.0), None, {})
    keep_report(store, place, 2)
    promote(where, "m", 2, data, EvaluateSettings(), DrawSettings(), again=False)
    assert entries(store, "m")[-1]["why"].endswith(
        "; the report of version 1, which it was measured against, is one of an earlier release, and nobody can tell who wrote it"
    )


def test_who_registers_a_report_is_told_whether_it_was_measured_here(
    checkpoints, place, store, report_of, tmp_path, capsys
):
    def registered(report):
        (tmp_path / "report.json").write_text(json.dumps(report))
        words = [
            "register",
            "--checkpoint",
            checkpoints[0],
            "--report",
            str(tmp_path / "report.json"),
            "--model-name",
            "m",
        ]
        status = main([*words, "--store", store.root, "--tracking-uri", place, "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out or "null"), err

    measured = report_of(checkpoints[0], fid=9.0)
    measured["sha256"] = seal(measured)
    forged = {**measured, "fid": 0.0001, "key": "reports/" + "b" * 64}
    forged["sha256"] = seal(forged)
    status, facts, said = registered(forged)
    assert (status, facts["version"]) == (0, 1) and f"the report is not in {store.root}" in said
    store.write(f"{measured['key']}.json", json.dumps(measured).encode())
    status, facts, said = registered(measured)
    assert (status, facts) == (0, {"name": "m", "version": 1, "new": False, "other_report": True})
    assert "the same weights are m version 1 already, with another report; " in said
    assert "delete that version in MLflow and register again" in said and "is not in" not in said
    again = {**measured, "fid": 0.0001}
    status, facts, said = registered({**again, "sha256": seal(again)})
    assert (status, facts) == (3, None) and "report is not the one that was measured: it has another fid than" in said
    open_client(place).delete_model_version("m", "1")
    assert registered(measured)[1] == {"name": "m", "version": 2, "new": True}


# -- files that are not what was registered ----------------------------------------------------------------------------


def test_another_versions_files_are_not_drawn_from(checkpoints, place, report_of):
    for uri in checkpoints:
        register(place, "m", uri, report_of(uri), None, {})
    one, two = files_of(place, 1), files_of(place, 2)
    for file in ("weights.safetensors", "settings.json", "report.json", "files.json"):
        (one / file).write_bytes((two / file).read_bytes())
    with pytest.raises(Damaged, match="models:/m/1 is not whole: its files.json is damaged"):
        resolve("models:/m/1", place)
    open_client(place).delete_model_version_tag("m", "1", "files_sha256")  # as an earlier release's versions have it
    with pytest.raises(Damaged, match="models:/m/1 is not whole: its weights.safetensors is damaged: its sha256 is"):
        resolve("models:/m/1", place)


@pytest.mark.parametrize("text", ["{}", "[]", "", "null", '{"format_version": 1, "settings": []}'])
def test_settings_that_are_none_are_one_line(checkpoints, place, report_of, text):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    (files_of(place, 1) / "settings.json").write_text(text)
    with pytest.raises(Damaged, match="its settings.json is damaged: .*; delete that version in MLflow"):
        resolve("models:/m/1", place)
    open_client(place).delete_model_version_tag("m", "1", "files_sha256")
    (files_of(place, 1) / "files.json").unlink()
    with pytest.raises(Damaged, match="its settings.json is damaged: (it|settings) "):
        resolve("models:/m/1", place)


def test_a_folder_that_is_gone_is_one_line(checkpoints, place, report_of):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    folder = files_of(place, 1).parent
    folder.rename(folder.with_name("elsewhere"))
    for door in (lambda: resolve("models:/m/1", place), lambda: figures(place, "m", 1)):
        with pytest.raises(
            WrongInput, match="the files of models:/m/1 cannot be had from .*; see that they can be read, or"
        ):
            door()


# -- the recorded sample -----------------------------------------------------------------------------------------------


def test_a_version_that_does_not_draw_its_recorded_sample_is_not_promoted(
    checkpoints, place, store, report_of, monkeypatch
):
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    draw = Model.draw
    monkeypatch.setattr(Model, "draw", lambda self, *given: 255 - draw(self, *given))
    found = decide_on(store, place, 1)
    assert (found["promoted"], found["champion"]) == (False, None)
    assert found["decision"].startswith("it does not draw its recorded sample: 0 of 16 pictures")


def by_rule_of(tried):
    return {rule["rule"]: rule for rule in tried["rules"]}


def test_a_dry_run_says_every_rule_and_changes_nothing(checkpoints, place, store, report_of, published, capsys):
    data = published("digits", pictures(1))["dataset_uri"]
    for number, uri in enumerate(checkpoints, 1):
        report = report_of(uri, fid=2.0 + number) | {
            "copying": {"share": 0.3, "share_held_out": 0.0, "excess_low": 0.03}
        }
        register(place, "m", uri, report, None, {})
        keep_report(store, place, number)

    def tried(version, *more):
        words = ["promote", "--dry-run", "--model-name", "m", "--version", version, "--dataset", data, *more]
        status = main([*words, "--store", store.root, "--tracking-uri", place, "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, first = tried("1")
    assert (status, first["would_promote"], first["champion"]) == (0, True, None)
    assert [rule["rule"] for rule in first["rules"]][-2:] == [
        "its pictures are told from noise",
        "it draws its recorded sample",
    ]
    assert entries(store, "m") == [] and not open_client(place).get_registered_model("m").aliases
    decide_on(store, place, 1)
    status, second = tried("2")
    assert (status, second["would_promote"]) == (3, False)
    by_rule = by_rule_of(second)
    assert (
        by_rule["not worse"]["says"].startswith("worse by FID: fid_classifier (n=64) 4 against 3")
        and not by_rule["not worse"]["passed"]
    )
    assert by_rule["it draws its recorded sample"]["passed"]
    assert len(entries(store, "m")) == 1
    status, copies = tried("2", "--copying-gate", "0.02")
    assert (status, copies["decision"]) == (3, by_rule_of(copies)["it does not copy"]["says"])
    assert by_rule_of(copies)["not worse"]["says"] == by_rule["not worse"]["says"], "the champion's figures too"
    assert by_rule_of(copies)["it draws its recorded sample"]["passed"]
    open_client(place).delete_model_version("m", "1")
    assert tried("2")[1]["would_promote"], "by the log as it would be"
    assert len(entries(store, "m")) == 1, "what is gone is not even logged"
