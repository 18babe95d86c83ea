"""The library in a few functions, and every example, run as it stands."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import ddpm
from ddpm import settings
from ddpm.data.ingest import ingest
from ddpm.data.sources import NAMED
from ddpm.errors import WrongInput
from ddpm.evaluation.figures.table import FIGURES
from ddpm.model.sampling import SAMPLERS
from ddpm.progress import Quiet
from ddpm.registry.version import register
from ddpm.settings import IngestSettings
from ddpm.store import open_store

ROOT = Path(__file__).parent.parent


@pytest.fixture
def example(place, monkeypatch, capsys):
    """Runs an example with arguments; what it prints. What it registers is forgotten again."""
    monkeypatch.chdir(place)
    known = [(table, dict(table)) for table in (NAMED, SAMPLERS, FIGURES)]
    names = list(settings.SAMPLERS)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield run
    settings.SAMPLERS[:] = names
    for table, before in known:
        table.clear()
        table.update(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures in class folders, and a store with the digits: its path, and theirs."""
    folder = tmp_path_factory.mktemp("api")
    raw = load_digits()
    for number in range(120):
        file = folder / "pictures" / str(raw.target[number]) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((raw.images[number] * 15).astype("uint8")).save(file)
    return folder


@pytest.fixture(scope="module")
def digits_uri(place):
    chosen = IngestSettings(source="digits", dataset_name="digits", image_size=8)
    return ingest(chosen, open_store(str(place / "var" / "store")), Quiet())["uri"]


def test_train_on_a_folder_then_draw_measure_and_register(example, place, digits_uri, monkeypatch):
    assert "grid.png" in example("train_on_a_folder", place / "pictures", place / "out", 8, 2)
    assert Image.open(place / "out" / "grid.png").size == (4 * 10 * 8 + 16, 4 * 10 * 8 + 16)
    again = example("train_on_a_folder", place / "pictures", place / "out", 8, 2)
    assert "pictures seen" in again, "it is done already"

    training = str(place / "out" / "training")
    said = example("draw_and_evaluate", training, digits_uri, "drawn.png")
    assert said.startswith("fid_classifier ") and (place / "drawn.png").is_file()

    said = example("own_sampler", training, "samplers.png")
    assert Image.open(place / "samplers.png").size == ((8 * 10 + 2) * 8, (2 * 10 + 2) * 8)

    said = example("own_metric", training, digits_uri, "report.html")
    assert said.startswith("brightness differs by 0.") and "Brightness" in (place / "report.html").read_text()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow/mlflow.db")
    model = ddpm.open_model(training)
    report = ddpm.evaluate(model, digits_uri, settings.EvaluateSettings("classifier", n=64), model.quick(5, 64))
    register(f"sqlite:///{place}/mlflow/mlflow.db", "m", model.origin.checkpoint, report, None, {})
    registered = ddpm.open_model("models:/m/1")
    assert registered.drawing.sampler == "dpm-solver++"
    same = model.drawing_with(sampler="dpm-solver++", sampling_steps=5)
    assert torch.equal(registered.draw([3, 4]), model.draw([3, 4], same))
    assert ddpm.show(registered.draw([3])).size == (80 + 16, 80 + 16)


def test_a_source_of_ones_own(example, place):
    said = example("own_source", place / "rings")
    assert "classes small, large; images (" in said and "3, 32, 32)" in said


def test_every_example_is_run():
    """By the tests above, each by its name."""
    text = Path(__file__).read_text()
    names = [path.stem for path in (ROOT / "examples").glob("*.py")]
    assert len(names) == 5 and all(f'example("{name}"' in text for name in names)


def test_what_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(WrongInput, match="no model is registered there"):
        ddpm.open_model("models:/nothing@champion")
    with pytest.raises(AttributeError, match="module 'ddpm' has no attribute 'nothing'"):
        _ = ddpm.nothing
