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
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

ROOT = Path(__file__).parent.parent


@pytest.fixture
def example(place, monkeypatch, capsys):
    """Runs an example with arguments; what it prints. What it registers is forgotten again."""
    monkeypatch.chdir(place)
    known = [(table, dict(table)) for table in (NAMED, SAMPLERS, FIGURES)]
    names, churning = list(settings.SAMPLERS), list(settings.CHURNING)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    yield run
    settings.SAMPLERS[:], settings.CHURNING[:] = names, churning
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


@pytest.fixture(scope="module")
def model(place, digits_uri):
    """A tiny model, barely trained, by its checkpoint's URI."""
    tiny = settings.ModelSettings(channel_mults="1-2", base_channels=8, blocks=1)
    recipe = settings.TrainSettings(epochs=1, batch_size=64, lr=1e-3)
    data = ddpm.open_dataset(digits_uri)
    trainer = Trainer(tiny, recipe, data, str(place / "tiny"), World(torch.device("cpu")))
    return trainer.run(NoObserver(), Quiet())["checkpoint"]


def test_train_on_a_folder(example, place):
    for _ in ("trains", "has been done already"):
        assert "pictures seen" in example("train_on_a_folder", place / "pictures", place / "out", 8, 1)
        assert Image.open(place / "out" / "grid.png").size == ((4 * 10 + 2) * 8, (4 * 10 + 2) * 8)
        (place / "out" / "grid.png").unlink()


def test_a_sampler_of_ones_own(example, place, model):
    example("own_sampler", model, "samplers.png")
    assert Image.open(place / "samplers.png").size == ((8 * 10 + 2) * 8, (2 * 10 + 2) * 8)


def test_draw_and_evaluate(example, place, model, digits_uri):
    assert example("draw_and_evaluate", model, digits_uri, "drawn.png").startswith("fid_classifier ")
    assert (place / "drawn.png").is_file()


def test_a_metric_of_ones_own(example, place, model, digits_uri):
    said = example("own_metric", model, digits_uri, "report.html")
    assert said.startswith("brightness differs by 0.")
    assert "Brightness" in (place / "report.html").read_text()


def test_three_lines_draw_a_registered_version(place, model, digits_uri, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow/mlflow.db")
    drawn = ddpm.open_model(model)
    how = drawn.quick(5, 64)
    report = ddpm.evaluate(drawn, digits_uri, settings.EvaluateSettings("classifier", evaluate_n=64), how)
    register(f"sqlite:///{place}/mlflow/mlflow.db", "m", drawn.origin.checkpoint, report, None, {})

    registered = ddpm.open_model("models:/m/1")
    again = ddpm.evaluate(registered, Path(digits_uri), settings.EvaluateSettings("classifier", evaluate_n=64))
    assert again["protocol"]["generation"]["sample_batch"] == 256, "as many at once as `ddpm evaluate` takes"
    assert ddpm.show(registered.draw([3])).size == ((8 + 4) * 8, (8 + 4) * 8)

    assert (registered.drawing.sampler, registered.drawing.sampling_steps) == ("dpm-solver++", 5)
    same = drawn.drawing_with(sampler="dpm-solver++", sampling_steps=5)
    assert torch.equal(registered.draw([3, 4]), drawn.draw([3, 4], same))


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
    with pytest.raises(WrongInput, match="nothing was ever registered at"):
        ddpm.open_model("models:/nothing@champion")
    with pytest.raises(WrongInput, match="images: there are none to show"):
        ddpm.show(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    assert {"open_model", "evaluate", "show"} <= set(dir(ddpm))
    with pytest.raises(AttributeError, match="module 'ddpm' has no attribute 'nothing'"):
        _ = ddpm.nothing


def test_what_one_registers_is_measured_anew(example, place, model, digits_uri, capsys):
    """Its code may have changed since: no stored report stands for it."""

    def differs(said):
        return float(said.split("brightness differs by ")[1].split(";")[0])

    first = differs(example("own_metric", model, digits_uri, "report.html"))
    changed = place / "changed.py"
    text = (ROOT / "examples" / "own_metric.py").read_text()
    changed.write_text(text.replace("return Value(float(", "return Value(0.5 + float("))
    FIGURES.pop("brightness")
    runpy.run_path(str(changed), run_name="__main__")
    assert differs(capsys.readouterr().out) == pytest.approx(first + 0.5, abs=2e-3)
