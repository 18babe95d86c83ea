"""What MLflow's own server is asked, and what it answers."""

import base64
import io
import json
import math

import numpy as np
import pandas
import pytest
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import init
from PIL import Image
from starlette.testclient import TestClient

import mlflow
from ddpm.registry import generator
from ddpm.registry.generator import MOST, Answer, read_rows
from ddpm.registry.version import register
from ddpm.tracking import client


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([{"n": 0}], "n: 0 will not do; it must be a whole number from 1 to 1024"),
        ([{"n": MOST + 1}], "n: 1025 will not do"),
        ([{"n": 1.5}], "n: 1.5 will not do"),
        ([{"n": "2"}], "n: '2' will not do"),
        ([{"n": True}], "n: True will not do"),
        ([{"n": math.nan}], "n: nan will not do"),
        ([{"n": math.inf}], "n: inf will not do"),
        ([{"n": 1, "seed": -1}], "seed: -1 will not do"),
        ([{"n": 1, "seed": 2**63}], "seed: 9223372036854775808 will not do"),
        ([{"n": 1, "seed": "x\ny"}], "seed: 'x\\ny' will not do"),
        ([{"n": 1, "sed": 5}], "'sed' is no field; a row has n and, if you like, seed"),
        ([{"n": 1, "seed": 2**53 + 1}, {"n": 1}], "seed: 9007199254740992 may not be the number that was sent"),
        ([{"seed": 5}], "n: missing"),
        ([], "n: missing"),
        ([{"n": 1}] * (MOST + 1), "1025 rows will not do; a request may ask for 1024 pictures in all"),
        ([{"n": MOST}, {"n": 1}], "1025 pictures will not do; a request may ask for 1024 in all"),
    ],
)
def test_wrong_requests_are_one_line(request_, words):
    with pytest.raises(Answer) as problem:
        read_rows(pandas.DataFrame(request_))
    assert problem.value.line.startswith(words)
    assert "\n" not in problem.value.line


def test_a_field_that_is_there_twice_is_refused():
    with pytest.raises(Answer, match="seed: it is there more than once"):
        read_rows(pandas.DataFrame([[1, 2, 3]], columns=["n", "seed", "seed"]))


def test_a_version_says_what_may_go_in_and_what_comes_out(place, checkpoints, report_of):
    """MLflow would keep of a row only what a schema has, so it is given none, and the row's lies beside the signature."""
    register(place, "m", checkpoints[0], report_of(checkpoints[0]), None, {})
    folder = client.open_client(place).get_model_version("m", "1").source.removeprefix("file://")
    model = Model.load(folder)
    assert model.signature.inputs is None and model.signature.outputs.input_names() == ["seed", "images_png_b64"]
    row, example = model.metadata["row"], model.load_input_example(folder)
    assert (row["required"], row["additionalProperties"]) == (["n"], False)
    bounds = {name: (field["minimum"], field["maximum"]) for name, field in row["properties"].items()}
    assert bounds == {"n": (1, MOST), "seed": (0, 2**63 - 1)}
    assert [(row.n, row.seed) for row in read_rows(example)] == [(1, 0)]
    for name, (low, high) in bounds.items():
        for value in (low, high):
            assert getattr(read_rows([{"n": 1, name: value}])[0], name) == value
        for value in (low - 1, high + 1):
            with pytest.raises(Answer, match=f"{name}: .* will not do"):
                read_rows([{"n": 1, name: value}])


def test_a_seed_is_optional_in_any_row():
    rows = read_rows(pandas.DataFrame([{"n": 2, "seed": 7}, {"n": 1}]))
    assert (rows[0].n, rows[0].seed, rows[1].n) == (2, 7, 1)
    assert 0 <= rows[1].seed < 2**31
    assert len({read_rows(pandas.DataFrame([{"n": 1}]))[0].seed for _ in range(8)}) > 1
    assert read_rows({"n": np.array([3]), "seed": np.array([0])})[0].n == 3, "as `inputs` come"


@pytest.fixture(scope="module")
def served(checkpoints, report_of_module, tmp_path_factory):
    """MLflow's own scoring application on a registered version."""
    place = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    register(place, "m", checkpoints[0], report_of_module(checkpoints[0]), None, {})
    client.open_client(place)
    mlflow.set_tracking_uri(place)
    model = mlflow.pyfunc.load_model("models:/m/1")
    mlflow.set_tracking_uri(None)
    with pytest.MonkeyPatch.context() as patch, TestClient(init(model)) as http:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        yield http


@pytest.fixture(scope="module")
def report_of_module(request):
    from tests.registry.conftest import report_of

    return report_of.__wrapped__()


def ask(http, **body):
    return http.post("/invocations", json=body)


def test_pictures_are_drawn_by_their_seeds(served):
    found = ask(served, dataframe_records=[{"n": 2, "seed": 7}, {"n": 1, "seed": 8}])
    assert found.status_code == 200, found.text
    first, second = found.json()["predictions"]
    assert (first["seed"], second["seed"]) == (7, 8)
    assert first["images_png_b64"][1] == second["images_png_b64"][0], "a picture belongs to its seed"
    assert Image.open(io.BytesIO(base64.b64decode(first["images_png_b64"][0]))).size == (8, 8)
    own = ask(served, dataframe_records=[{"n": 1}]).json()["predictions"][0]
    again = ask(served, dataframe_records=[{"n": 1, "seed": own["seed"]}]).json()["predictions"][0]
    assert own == again


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataframe_records": [{"n": 1, "steps": 5}]}, "'steps' is no field"),
        ({"dataframe_records": [{"n": 1024}] * 1000}, "1024000 pictures will not do"),
        ({"inputs": [[1, 2]]}, "is no field"),
        ({"instances": [{"n": 0}]}, "n: 0 will not do"),
    ],
)
def test_an_error_is_one_line_without_a_trace(served, body, words):
    found = ask(served, **body)
    assert found.status_code == 400, found.text
    assert words in found.json()["message"]
    assert "Traceback" not in found.text and "stack_trace" not in found.text
    assert len(found.json()["message"].splitlines()) == 1 and len(found.text) < 300


def test_what_fails_inside_is_one_line_too(served, monkeypatch):
    monkeypatch.setattr(generator, "png", lambda picture: 1 / 0)
    found = ask(served, dataframe_records=[{"n": 1}])
    assert found.status_code == 500
    assert json.loads(found.text) == {
        "error_code": "INTERNAL_ERROR", "message": "the pictures could not be drawn; the server's log says why",
    }  # fmt: skip


def test_drawing_ends_when_the_server_has_given_up(served, monkeypatch):
    monkeypatch.setattr(generator, "_patience", lambda: -1.0)
    drawn = []
    monkeypatch.setattr(generator, "png", drawn.append)
    found = ask(served, dataframe_records=[{"n": 64}])
    assert (found.status_code, drawn) == (503, [])
    assert found.json()["message"] == "it took too long; ask for fewer pictures at a time"
