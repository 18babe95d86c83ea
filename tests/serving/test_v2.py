"""KServe's protocol, by its own JSON: metadata, health, inference, and its limits, which are those of every request."""

import hashlib
import io

import numpy as np
from PIL import Image

NAME = "/v2/models/model"


def seeds(*data, **more):
    return {"inputs": [{"name": "seed", "datatype": "INT64", "shape": [len(data)], "data": list(data)}], **more}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_pictures_come_as_a_tensor_and_are_those_of_every_other_way(site):
    asked = seeds(7, 3, id="a1", model_name="model", parameters={"steps": 2}, outputs=[{"name": "image"}])
    found = site.ask(f"{NAME}/infer", asked)
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    [image] = found.json.pop("outputs")
    assert {**found.json, "outputs": None} == {
        "model_name": "model", "model_version": "model", "id": "a1", "parameters": {"versions": ["model", "model"], "guidance": [1.0, 1.0]},
        "outputs": None,
    }  # fmt: skip
    assert (image["name"], image["datatype"], image["shape"]) == ("image", "UINT8", [2, 8, 8, 3])
    tensor = np.array(image["data"], dtype=np.uint8).reshape(image["shape"])
    for row, seed in zip(tensor, (7, 3), strict=True):
        assert (row == pixels(site.ask(f"/v1/images/{seed}.png?steps=2").body)).all()
    assert "id" not in site.ask(f"{NAME}/infer", seeds(7, parameters={"steps": 1})).json
    assert 'path="/v2/models/{name}/infer",status="200"' in site.ask("/metrics").body.decode()


def test_metadata_and_health_as_the_protocol_has_them(site):
    assert site.ask("/v2").json == {"name": "ddpm", "version": "1", "extensions": []}
    assert site.ask("/v2/health/live").json == {"live": True}
    assert site.ask("/v2/health/ready").json == {"ready": True}
    assert site.ask(f"{NAME}/ready").json == {"name": "model", "ready": True}
    assert site.ask(NAME).json == site.ask(f"{NAME}/versions/model").json == {
        "name": "model", "platform": "ddpm", "versions": ["model"],
        "inputs": [{"name": "seed", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
    }  # fmt: skip


def test_a_version_is_asked_for_by_its_number_or_alias(serve, registry, point):
    point("challenger", 2)
    site = serve("models:/m@champion", registry, canary=0.5)
    assert site.ask("/v2/models/m").json["versions"] == ["1", "2"]
    drawn = {
        version: site.ask(f"/v2/models/m/versions/{version}/infer", seeds(3)).json
        for version in ("1", "champion", "2", "challenger")
    }
    assert [found["model_version"] for found in drawn.values()] == ["1", "1", "2", "2"]
    assert drawn["1"] == drawn["champion"] != drawn["2"] == drawn["challenger"]
    both = site.ask("/v2/models/m/infer", seeds(*range(8))).json
    assert "model_version" not in both, "two versions drew it"
    shared = both["parameters"]["versions"]
    assert shared == [site.ask(f"/v1/images/{seed}.png").headers["x-model-version"][-1] for seed in range(8)]
    assert {*shared} == {"1", "2"}
    for path in ("/v2/models/m/versions/3", "/v2/models/m/versions/3/ready", "/v2/models/n", "/v2/models/n/ready"):
        nothing = site.ask(path)
        assert (nothing.status, nothing.json["error"]) == (404, nothing.json["detail"])
    assert "there is 1 and 2 and champion and challenger" in site.ask("/v2/models/m/versions/3").json["detail"]


def test_what_will_not_do_is_said_as_the_protocol_says_it(site):
    one = seeds(1)["inputs"][0]
    for body, words in (
        ({}, "inputs: field required"), (seeds(1, model_name="m"), "model_name: it is not the model in the path"), ({"inputs": []}, "inputs: "), ({"inputs": [one, one]}, "inputs: "), (seeds(), "data: "),
        (seeds(-1), "data.0: "), (seeds(2**62), "data.0: "), (seeds(1.5), "data.0: "), (seeds("1"), "data.0: "), (seeds(*range(65)), "at most 64"),
        ({"inputs": [{**one, "shape": [2]}]}, "shape: it must be [1]"), ({"inputs": [{**one, "shape": [1, 1]}]}, "shape: "),
        ({"inputs": [{**one, "datatype": "BYTES"}]}, "datatype: "), ({"inputs": [{**one, "name": "sed"}]}, "name: "),
        ({"inputs": [{**one, "parameters": {"binary_data_size": 8}}]}, "parameters: "), (seeds(1, outputs=[{"name": "x"}]), "outputs.0.name: "),
        (seeds(1, parameters={"steps": 0}), "parameters.steps: "), (seeds(1, parameters={"steps": 1001}), "steps: "),
        (seeds(1, parameters={"step": 5}), "parameters.step: "), (seeds(1, parameters={"label": 0}), "label: "),
    ):  # fmt: skip
        found = site.ask(f"{NAME}/infer", body)
        assert found.status == 422 and words in found.json["error"] == found.json["detail"], (body, found.body)
    wishes = seeds(1, parameters={"steps": 1, "binary_data_output": True}, outputs=[{"name": "image", "parameters": {"binary_data": True}}])  # fmt: skip
    answered = site.ask(
        f"{NAME}/infer", wishes, **{"Content-Type": ""}
    )  # as Triton's client asks where nobody says more
    assert answered.status == 200 and answered.json["outputs"][0]["shape"] == [1, 8, 8, 3]
    binary = site.ask(f"{NAME}/infer", b'{"inputs": []}\x00\x01', **{"Inference-Header-Content-Length": "14"})
    assert binary.status == 422 and "binary_data=False" in binary.json["error"]
    assert site.ask(f"{NAME}/infer", b" " * 70000).json["error"].startswith("the body may have 65536 bytes")


def test_tokens_and_their_minutes_hold_here_too_and_probes_need_none(checkpoint, serve, tmp_path):
    (tmp_path / "tokens").write_text(f"ann sha256:{hashlib.sha256(b't').hexdigest()}")
    site = serve(checkpoint, tokens_file=str(tmp_path / "tokens"), per_minute=3)
    few = seeds(1, 2, parameters={"steps": 1})
    assert site.ask("/v2/health/live").status == site.ask("/v2/health/ready", Host="10.0.0.7").status == 200
    stranger = site.ask(f"{NAME}/infer", few)
    assert (stranger.status, stranger.json["error"]) == (401, stranger.json["detail"])
    assert site.ask(NAME).status == 401
    assert [site.ask(f"{NAME}/infer", few, Authorization="Bearer t").status for _ in range(2)] == [200, 429]
