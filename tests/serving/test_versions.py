"""The server follows the alias: swaps under load, bad versions, a registry that is down."""

import collections
import dataclasses
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sites import until

from ddpm.errors import Outage, Refused, WrongInput
from ddpm.progress import Quiet
from ddpm.registry.sample import Verified, surroundings
from ddpm.registry.version import figures, register
from ddpm.serving import versions as room
from ddpm.serving.server import tag_of
from ddpm.serving.settings import ServeSettings
from ddpm.serving.shapes import Shape
from ddpm.serving.versions import Versions, load
from ddpm.steps.sample import sample
from ddpm.tracking import open_client
from ddpm.training.checkpoint import read_facts
from ddpm.workplace import Workplace


def drawn_by(registry, version, tmp_path, seed=3):
    out = tmp_path / f"v{version}"
    facts = sample(Workplace(Quiet(), "", registry), f"models:/m/{version}", 1, seed, str(out))
    return Path(facts["files"][0]).read_bytes()


def test_a_promotion_and_a_rollback_under_load_drop_and_mix_nothing(serve, registry, point, tmp_path):
    site = serve("models:/m@champion", registry, beside="")
    right = {f"models:/m/{version}": drawn_by(registry, version, tmp_path) for version in (1, 2)}
    assert len(set(right.values())) == 2
    stop, wrong, counts = threading.Event(), [], collections.Counter()

    def ask():
        while not stop.is_set():
            found = site.ask("/v1/images/3.png")
            by = found.headers.get("x-model-version")
            counts[by] += 1
            if found.status != 200 or found.body != right[by]:
                wrong.append((found.status, by))

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    until(lambda: counts["models:/m/1"] > 4)
    point("champion", 2)
    until(lambda: counts["models:/m/2"] > 4)
    point("champion", 1)
    before = counts["models:/m/1"]
    until(lambda: counts["models:/m/1"] > before + 4)
    stop.set()
    for caller in callers:
        caller.join()
    assert wrong == []
    assert 'ddpm_version{alias="champion",version="models:/m/1"} 1.0' in site.ask("/metrics").body.decode()


def test_a_version_that_is_damaged_is_refused_and_the_running_one_stays(serve, registry, point):
    weights = weights_of(registry, 2)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    site = serve("models:/m@champion", registry)
    point("champion", 2)
    until(lambda: site.ask("/readyz").json["refused"])
    ready = site.ask("/readyz")
    assert ready.status == 200 and ready.json["serving"] == {"champion": "models:/m/1"}
    assert "weights.safetensors" in ready.json["refused"]["models:/m/2"]
    assert 'ddpm_version_refused{version="models:/m/2"} 1.0' in site.ask("/metrics").body.decode()
    assert site.ask("/v1/images/3.png").headers["x-model-version"] == "models:/m/1"
    point("champion", 3)
    until(lambda: site.ask("/readyz").json == {**ready.json, "serving": {"champion": "models:/m/3"}, "refused": {}})


def test_strangers_are_told_that_a_version_is_refused_and_no_place(serve, registry, point, tmp_path, monkeypatch):
    (tmp_path / "tokens").write_text(f"ann sha256:{hashlib.sha256(b't').hexdigest()}")
    weights = weights_of(registry, 2)
    weights.unlink()
    site = serve("models:/m@champion", registry, tokens_file=str(tmp_path / "tokens"))
    point("champion", 2)
    until(lambda: site.ask("/readyz").json["refused"])
    assert site.ask("/readyz").json["refused"] == {"models:/m/2": "the log says why"}
    assert "weights.safetensors" in site.ask("/readyz", Authorization="Bearer t").json["refused"]["models:/m/2"]

    def down(*_):
        raise Outage("the registry does not answer: http://mlflow.inside")

    monkeypatch.setattr(room, "holders", down)
    until(lambda: site.ask("/readyz").json["registry"] != "answers")
    assert site.ask("/readyz").json["registry"] == "amiss; the log says why"
    assert "mlflow.inside" in site.ask("/readyz", Authorization="Bearer t").json["registry"]


def weights_of(registry, version):
    source = Path(open_client(registry).get_model_version("m", str(version)).source.removeprefix("file://"))
    [weights] = source.rglob("weights.safetensors")
    return weights


def test_a_version_that_does_not_draw_its_recorded_sample_is_refused(registry, monkeypatch):
    right = room.verify
    versions = Versions("models:/m@champion", registry, ServeSettings(batch=16))
    versions.open(lambda text: None)

    def verify(model, tracking_uri):
        if model.origin.reference == "models:/m/2":
            return Verified(False, "3 of 16 pictures of its recorded sample have the same bytes")
        return right(model, tracking_uri)

    monkeypatch.setattr(room, "verify", verify)
    versions.look({"champion": 2})
    assert versions.by_alias["champion"].reference == "models:/m/1"
    assert "does not draw its recorded sample: 3 of 16" in versions.state.refused["models:/m/2"]
    versions.look({"champion": 3})
    assert versions.by_alias["champion"].reference == "models:/m/3" and versions.state.refused == {}


@pytest.mark.parametrize("problem", [Refused("it does not reproduce its recorded sample"), OSError("no disk")])
def test_whatever_a_version_fails_with_the_running_one_stays(registry, problem):
    tries = []

    def loading(reference, *rest):
        if reference == "models:/m/2":
            tries.append(reference)
            raise problem
        return load(reference, *rest)

    versions = Versions("models:/m@champion", registry, ServeSettings(batch=16), loading)
    versions.open(lambda text: None)
    for _ in range(3):
        versions.look({"champion": 2})
    assert versions.by_alias["champion"].reference == "models:/m/1"
    assert str(problem) in versions.state.refused["models:/m/2"]
    # What a check refused is not tried again and again; what could not be had may be there the next time.
    assert len(tries) == (1 if isinstance(problem, Refused) else 3)


def test_a_version_whose_files_come_back_is_served_then(serve, registry, point):
    site = serve("models:/m@champion", registry)
    files = Path(open_client(registry).get_model_version("m", "2").source.removeprefix("file://"))
    aside = files.with_name("aside")
    files.rename(aside)
    point("champion", 2)
    until(lambda: "models:/m/2" in site.ask("/readyz").json["refused"])
    aside.rename(files)
    until(lambda: site.ask("/readyz").json["serving"] == {"champion": "models:/m/2"})
    assert site.ask("/readyz").json["refused"] == {}


def test_an_etag_does_not_follow_from_what_a_start_measured(registry):
    versions = [Versions("models:/m@champion", registry, ServeSettings(batch=batch)) for batch in (0, 8)]
    for one in versions:
        one.open(lambda text: None)
    own, chosen = (one.by_alias["champion"] for one in versions)
    fewer = dataclasses.replace(own, measured=[shape for shape in own.measured if shape.pictures <= 16])
    drawing = own.model.drawing
    assert tag_of(own, drawing, 7) == tag_of(fewer, drawing, 7) != tag_of(chosen, drawing, 7)
    quicker = dataclasses.replace(own, measured=[Shape(8, 0.1, True), Shape(16, 1.0, True)])  # 16 is not worth its wait
    assert quicker.shapes == (8,) and tag_of(quicker, drawing, 7) == tag_of(own, drawing, 7)
    # What the last bits of a picture follow from is in it: where the same version is drawn elsewhere, it is another one.
    for name in own.on:
        other = dataclasses.replace(own, on={**own.on, name: "another"})
        assert tag_of(other, drawing, 7) != tag_of(own, drawing, 7), name
    assert own.on == surroundings(own.model)


def test_a_registry_that_goes_down_changes_nothing_and_is_told(serve, registry, monkeypatch):
    site = serve("models:/m@champion", registry)

    def down(*_):
        raise Outage("the registry does not answer: no route")

    monkeypatch.setattr(room, "holders", down)
    until(lambda: site.ask("/readyz").json["registry"] != "answers")
    assert site.ask("/readyz").json["serving"] == {"champion": "models:/m/1"}
    assert site.ask("/v1/images/3.png").status == 200
    assert "ddpm_registry_up 0.0" in site.ask("/metrics").body.decode()
    monkeypatch.undo()
    until(lambda: site.ask("/readyz").json["registry"] == "answers")


def test_another_version_of_the_same_number_is_followed(registry, checkpoints, point):
    """The model was deleted, and registered anew."""
    versions, client = Versions("models:/m@champion", registry, ServeSettings(batch=16)), open_client(registry)
    versions.open(lambda text: None)
    one, report = versions.by_alias["champion"], figures(registry, "m", 2)
    versions.look({"champion": 1})
    assert versions.by_alias["champion"] is one
    client.delete_registered_model("m")
    versions.look({})
    assert register(registry, "m", checkpoints[1], report, None, {})["version"] == 1
    versions.look({"champion": 1})
    other = versions.by_alias["champion"]
    assert other.reference == one.reference == "models:/m/1"
    assert other.model.origin.weights_sha256 == read_facts(checkpoints[1])["sha256"]["ema.safetensors"]
    versions.look({"champion": 1})
    assert versions.by_alias["champion"] is other and versions.state.swaps == 1


def test_an_alias_that_is_deleted_is_told_and_what_is_served_goes_on_until_it_is_back(serve, registry, point, caplog):
    site, client = serve("models:/m@champion", registry), open_client(registry)
    caplog.set_level("INFO", "ddpm.serving")

    def told():
        return site.ask("/readyz").json, "ddpm_alias_found 1.0" in site.ask("/metrics").body.decode()

    before = told()
    assert before[0]["alias"] == "found" and before[1]
    client.delete_registered_model_alias("m", "champion")
    until(lambda: site.ask("/readyz").json["alias"] != "found")
    assert told() == ({**before[0], "alias": "champion is no alias of m any more"}, False)
    assert site.ask("/v1/images/3.png").headers["x-model-version"] == "models:/m/1"
    point("champion", 2)
    until(lambda: site.ask("/readyz").json["serving"] == {"champion": "models:/m/2"})
    assert told() == ({**before[0], "serving": {"champion": "models:/m/2"}}, True)
    client.delete_registered_model("m")  # with its aliases
    until(lambda: site.ask("/readyz").json["alias"] != "found")
    assert site.ask("/v1/images/3.png").headers["x-model-version"] == "models:/m/2"
    assert [line for line in caplog.messages if "alias of m" in line] == [
        "champion is no alias of m any more; models:/m/1 goes on being served",
        "champion is an alias of m again",
        "champion is no alias of m any more; models:/m/2 goes on being served",
    ]


def test_a_registry_that_is_down_at_the_start_is_one_clear_line_after_some_tries(tmp_path):
    environment = {**os.environ, "DDPM_PATIENCE": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    arguments = ["serve", "--model", "models:/m@champion", "--tracking-uri", "http://127.0.0.1:9", "--port", "0"]
    ran = subprocess.run(
        [sys.executable, "-m", "ddpm.cli", *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "the registry does not answer" in ran.stderr.splitlines()[-1]
    assert "start it, or give the --tracking-uri of another one" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("reference", ["models:/m@champion", "models:/m/1"])
def test_a_registry_that_is_away_at_the_start_is_waited_for(registry, monkeypatch, reference):
    aways, said, real = [Outage("the registry does not answer: no route")], [], room.holders

    def holders(*asked):
        if aways:
            raise aways.pop()
        return real(*asked)

    monkeypatch.setattr(room, "holders", holders)
    versions = Versions(reference, registry, ServeSettings(batch=16))
    versions.open(said.append)
    assert "the registry does not answer" in said[0] and "it is back" in said[1]
    assert versions.by_alias[versions.main].reference == "models:/m/1"


def test_a_reference_that_is_none_is_wrong_input(registry):
    for reference, says in (("models:/m@nobody", "m has versions"), ("models:/n@champion", "registered models are m")):
        with pytest.raises(WrongInput, match=says):
            Versions(reference, registry, ServeSettings(batch=16)).open(lambda text: None)


@pytest.mark.parametrize("registered", [True, False])
def test_a_card_is_told_and_no_path_of_the_machine(serve, registry, checkpoints, registered):
    site = serve("models:/m/2" if registered else checkpoints[1], registry)
    told, picture = site.ask("/v1/model"), site.ask("/v1/images/1.png?steps=1")
    [version] = told.json["versions"]
    assert version["alias"] == "model" and version["card"].startswith("# ")
    assert os.path.dirname(checkpoints[1]) not in told.body.decode() + str(picture.headers)
    if registered:  # as it stands on the registry's page
        card = open_client(registry).get_model_version("m", "2").description.splitlines()
        assert version["card"].splitlines() == [line for line in card if not line.startswith("- From: ")]
    assert version["version"] == picture.headers["x-model-version"] and told.json["name"]
