"""The server follows the alias: swaps under load, bad versions, a registry that is down, two versions at once."""

import base64
import collections
import dataclasses
import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image
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


def test_the_challenger_answers_beside_the_champion_and_goes_when_it_is_none(serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry)
    assert [(v["alias"], v["version"], v["figures"]["fid"]) for v in site.ask("/v1/model").json["versions"]] == [
        ("champion", "models:/m/1", 3.0), ("challenger", "models:/m/2", 2.0)
    ]  # fmt: skip
    assert site.ask("/v1/images/3.png?alias=challenger").headers["x-model-version"] == "models:/m/2"
    assert site.ask("/v1/images?alias=x", {"seed": 3}).status == 422
    both = [site.ask(f"/v1/images?alias={alias}", {"seed": 3}) for alias in ("champion", "challenger")]
    assert both[0].body != both[1].body and both[0].headers["etag"] != both[1].headers["etag"]
    nobody = site.ask("/v1/images/3.png?alias=nobody")
    assert nobody.status == 422 and "there is champion and challenger" in nobody.json["detail"]

    champion, challenger = (site.server.versions.by_alias[alias] for alias in ("champion", "challenger"))
    site.server.versions.look({"champion": 2})
    assert site.server.versions.by_alias == {"champion": challenger} and champion is not challenger


def test_a_canary_answers_for_its_share_of_the_seeds_and_always_for_the_same(registry, point):
    point("challenger", 2)
    versions = Versions("models:/m@champion", registry, ServeSettings(batch=16, canary=0.3))
    versions.open(lambda text: None)

    def shared(alias, seeds):
        return versions.places(versions.may_answer(alias), seeds)

    first = shared(None, range(2000))
    assert {*first} == {"champion", "challenger"}
    assert 0.26 < len(first["challenger"]) / 2000 < 0.34
    assert all([*shared(None, [seed])] == ["challenger"] for seed in first["challenger"][:50])
    assert [*shared("champion", range(50))] == ["champion"]
    versions.look({"champion": 1})
    assert [*shared(None, range(50))] == ["champion"]


@pytest.mark.parametrize(("canary", "may"), [(0, ["champion"]), (0.1, ["champion", "challenger"]), (1, ["challenger"])])
def test_who_has_no_share_of_the_seeds_answers_for_none(registry, point, canary, may):
    point("challenger", 2)
    versions = Versions("models:/m@champion", registry, ServeSettings(batch=16, canary=canary))
    versions.open(lambda text: None)
    found = versions.may_answer(None)
    assert [*found] == may
    assert {*versions.places(found, range(200))} == {*may}


def test_with_a_canary_each_picture_is_drawn_and_told_as_its_own_version_draws(serve, registry, point, guided):
    """A challenger that another model guides: what it has not been asked for is its own, and what one of the two cannot
    take is refused, whichever seed would have got it."""
    point("challenger", guided)
    site = serve("models:/m@champion", registry, canary=0.5)

    many = site.ask("/v1/images", {"seed": 0, "n": 12, "format": "json"})
    assert {(one["alias"], one["version"], one["guidance"]) for one in many.json["images"]} == {
        ("champion", "models:/m/1", 1.0), ("challenger", f"models:/m/{guided}", 2.0)
    }  # fmt: skip
    top = {name: many.json[name] for name in ("version", "alias", "sampler", "steps", "guidance")}
    assert top == {"version": None, "alias": None, "sampler": "ddim", "steps": 4, "guidance": None}
    drew = [many.headers[name].split(", ") for name in ("x-model-version", "x-model-alias")]
    assert [sorted(names) for names in drew] == [["models:/m/1", f"models:/m/{guided}"], ["challenger", "champion"]]  # fmt: skip
    of = {one["seed"]: one for one in many.json["images"]}
    for alias in ("champion", "challenger"):
        its = [seed for seed, one in of.items() if one["alias"] == alias]
        asked = site.ask(f"/v1/images?alias={alias}", {"seeds": its, "format": "json"}).json
        assert [one["sha256"] for one in asked["images"]] == [of[seed]["sha256"] for seed in its]
        assert asked["guidance"] == of[its[0]]["guidance"]

    for seed in range(12):  # the champion's seeds, which cannot be guided, and the challenger's
        for answer in (site.ask(f"/v1/images/{seed}.png?guidance=2"), site.ask("/v1/images", {"seed": seed, "guidance": 2})):  # fmt: skip
            assert answer.status == 422
            assert "guidance: 2.0 will not do" in answer.json["detail"]
            assert "(so for champion, models:/m/1, which answers for a share" in answer.json["detail"]
    assert site.ask("/v1/images/0.png?guidance=2&alias=challenger").status == 200
    told = site.ask("/v2/models/m/infer", {"inputs": [{"name": "seed", "datatype": "INT64", "shape": [12], "data": [*range(12)]}]})  # fmt: skip
    assert told.json["parameters"]["guidance"] == [of[seed]["guidance"] for seed in range(12)]


def test_with_a_canary_a_seed_has_one_picture_alone_and_among_others(serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry, canary=0.5)
    many = site.ask("/v1/images", {"seed": 0, "n": 12, "format": "json"}).json["images"]
    assert {one["version"] for one in many} == {"models:/m/1", "models:/m/2"}
    for one in many:
        alone = site.ask(f"/v1/images/{one['seed']}.png")
        assert (alone.headers["x-model-version"], alone.body) == (one["version"], base64.b64decode(one["png"]))
    ends = next((one["seed"], other["seed"]) for one in many for other in many if one["version"] < other["version"])
    for first, last in (ends, ends[::-1]):  # a walk between two versions' seeds is drawn by the first one's
        walk = site.ask("/v1/images", {"seed": first, "walk_to": last, "n": 3, "format": "json"}).json
        assert walk["version"] == many[first]["version"] and {one["seed"] for one in walk["images"]} == {first}


def test_a_version_of_another_size_has_no_share_of_the_seeds_and_answers_by_its_alias(serve, registry, point, caplog):
    caplog.set_level("INFO", "ddpm.serving")
    point("challenger", 2)

    def loading(reference, *rest):
        served = load(reference, *rest)
        if reference != "models:/m/3":
            return served
        return dataclasses.replace(served, model=dataclasses.replace(served.model, image_size=16))

    site = serve("models:/m@champion", registry, canary=0.5, follow=0)
    assert site.ask("/readyz").json["canary"] == "challenger answers for 0.5 of the seeds"
    versions = site.server.versions
    versions._load = loading
    versions.look({"champion": 1, "challenger": 3})
    says = "challenger draws 16 px and champion 8 px, so that it answers by its alias alone"
    versions.look({"champion": 1, "challenger": 3})
    assert site.ask("/readyz").json["canary"] == says and caplog.messages.count(f"canary: {says}") == 1
    assert site.ask("/v1/model").json["canary"] == 0
    inference = {"inputs": [{"name": "seed", "datatype": "INT64", "shape": [12], "data": [*range(12)]}]}
    for path, body in (("/v1/images", {"seed": 0, "n": 12}), ("/v2/models/m/infer", inference)):
        assert site.ask(path, body).status == 200, path
    assert {*versions.places(versions.may_answer(None), range(99))} == {"champion"}
    assert Image.open(io.BytesIO(site.ask("/v1/images/3.png?alias=challenger").body)).size == (16, 16)
    versions.look({"champion": 1})
    assert site.ask("/readyz").json["canary"] == "none"


def test_the_version_beside_may_be_served_by_itself(serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@challenger", registry)
    assert site.ask("/readyz").json["serving"] == {"challenger": "models:/m/2"}
    assert site.ask("/v1/images/3.png").headers["x-model-alias"] == "challenger"


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
    for name, elsewhere in (("machine", "x86_64 AVX512"), ("threads", 3), ("torch", "2.0"), ("device", "another")):
        other = dataclasses.replace(own, on={**own.on, name: elsewhere})
        assert tag_of(other, drawing, 7) != tag_of(own, drawing, 7), name
    assert own.on == surroundings(own.model)


def test_a_canarys_figures_stand_beside_the_others(serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry, canary=0.5)
    for seed in range(8):
        assert site.ask(f"/v1/images/{seed}.png").status == 200
    text = site.ask("/metrics").body.decode()
    drawn = {
        version: float(text.split(f'ddpm_pictures_total{{version="models:/m/{version}"}} ')[1].split("\n")[0])
        for version in (1, 2)
    }
    assert drawn[1] + drawn[2] == 8 and min(drawn.values()) > 0
    assert 'ddpm_version_requests_total{alias="challenger",version="models:/m/2"}' in text


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
