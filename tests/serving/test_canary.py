"""Two versions at once: the challenger beside the champion, by its alias or for a share of the seeds."""

import base64
import dataclasses
import io

import pytest
from PIL import Image

from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import Versions, load


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
