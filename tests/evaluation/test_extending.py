"""A figure and an extractor of one's own: one function, one row, and they are everywhere."""

import math

import pytest
import torch

from ddpm import settings
from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.errors import WrongInput
from ddpm.evaluation.evaluate import evaluate
from ddpm.evaluation.extractors import table as extractors
from ddpm.evaluation.extractors.features import Extractor, Opened
from ddpm.evaluation.figures import table as figures
from ddpm.evaluation.figures.sample import Value
from ddpm.evaluation.figures.table import Figure, Interval, logged
from ddpm.evaluation.page.render import publish
from ddpm.evaluation.printed import side_by_side
from ddpm.evaluation.protocol import compare
from ddpm.pictures import png
from ddpm.progress import Quiet
from ddpm.settings import DrawSettings, EvaluateSettings, IngestSettings
from ddpm.store import open_store
from ddpm.tracking import Tracker


def mean_of(images):
    return images.float().mean((1, 2, 3))


def brightness(sample):
    """How far the mean of generated pictures is from the mean of real ones, of 255."""
    mine, real = sample.looks["brightness"], mean_of(sample.reference.data.train.images)
    return Value(abs(float(mine.mean() - real.mean())), float(mine.std()) / math.sqrt(len(mine)))


BRIGHTNESS = Figure(
    "brightness", "Brightness", "how far generated pictures are from as bright as real ones", False,
    brightness, look=mean_of, interval=Interval.STD,
)  # fmt: skip


def thumbnails(settings, data, store, device, progress):
    """Pictures at 2x2 as their own features: enough to see that another extractor is one."""

    def extract(batch):
        return torch.nn.functional.adaptive_avg_pool2d(batch.float(), 2).flatten(1), None

    side = Extractor("thumbnails", 12, "0" * 64, extract, no_logits="it knows no classes")
    facts = {"extractor": "thumbnails", "layer": 12, "weights_sha256": "0" * 64}
    return Opened("fid_thumbnails", [(side, torch.arange(len(data.train)))], facts)


@pytest.fixture
def registered():
    """Both, for the length of a test."""
    figures.register(BRIGHTNESS)
    extractors.register("thumbnails", thumbnails)
    yield
    del figures.FIGURES["brightness"], extractors.EXTRACTORS["thumbnails"]
    settings.EXTRACTORS.remove("thumbnails")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store with a few digits, and two folders of pictures, the second one's darker."""
    path = tmp_path_factory.mktemp("place")
    store = open_store(str(path / "store"))
    data = open_dataset(ingest(IngestSettings(image_size=8, max_pictures=200), store, Quiet())["uri"])
    for name, factor in (("bright", 1.0), ("dark", 0.5)):
        (path / name).mkdir()
        for number, picture in enumerate(data.train.images[:40].permute(0, 2, 3, 1).numpy()):
            (path / name / f"{number:04d}.png").write_bytes(png((picture * factor).astype("uint8")))
    return path, store, data


def reports(place):
    path, store, data = place
    chosen = EvaluateSettings(extractor="thumbnails")
    return [evaluate(path / name, data, chosen, DrawSettings(), store, Quiet()) for name in ("bright", "dark")]


def test_both_are_in_the_report_the_comparison_the_page_and_mlflow(place, registered):
    path, store, _ = place
    bright, dark = reports(place)
    assert bright["metric"] == "fid_thumbnails" and bright["protocol"]["measurement"]["extractor"] == "thumbnails"
    assert bright["inception_score"]["why"] == "it knows no classes" and bright["coverage"]["by"] == "cluster"
    assert bright["brightness"] < 10 < 20 < dark["brightness"] and dark["brightness_std"] > 0
    assert dark["intervals"]["brightness"][0] < dark["brightness"] < dark["intervals"]["brightness"][1]
    assert dark["seeds"][0]["brightness"] == dark["brightness"]

    found = compare(bright, dark)
    assert found["brightness"]["better"] == "a" and found["brightness"]["low"] > 0
    assert found["b"]["brightness"] == dark["brightness"]
    assert any(
        line.lower().startswith("brightness ") and line.endswith(" A") for line in side_by_side(found).splitlines()
    )

    page, _ = publish(dark, store)
    assert f'<th scope="row">Brightness</th><td>{dark["brightness"]:.4g}</td>' in page
    assert "how far generated pictures are from as bright as real ones; lower is better" in page
    assert "fid_thumbnails" in page

    tracker = Tracker(f"sqlite:///{path}/mlflow.db", "a-run", "digits")
    with tracker.parent() as run:
        run.metrics(logged(dark), 0)
        run.flush()
        assert run.history("brightness") == [(0, pytest.approx(dark["brightness"]))]
        assert run.history(dark["metric"]) == [(0, pytest.approx(dark["fid"]))]


def test_a_report_with_another_figure_is_another_report(place, registered):
    before = reports(place)[0]
    del figures.FIGURES["brightness"]
    without = reports(place)[0]
    figures.FIGURES["brightness"] = BRIGHTNESS
    assert "brightness" not in without and without["key"] != before["key"] and without["fid"] == before["fid"]


def test_a_report_of_before_has_it_not_measured(place, registered):
    figures.FIGURES.pop("brightness")
    old = reports(place)
    figures.FIGURES["brightness"] = BRIGHTNESS
    assert "brightness" not in compare(*old)
    assert '<th scope="row">Brightness</th><td>not measured</td>' in publish(old[0], place[1])[0]


def test_settings_take_what_is_registered_and_nothing_else(registered):
    assert list(extractors.EXTRACTORS) == settings.EXTRACTORS
    assert EvaluateSettings(extractor="thumbnails").extractor == "thumbnails"
    with pytest.raises(WrongInput, match="one of inception, classifier, thumbnails"):
        EvaluateSettings(extractor="eye")


def test_a_name_that_is_taken_is_refused(registered):
    for name in ("brightness", "fid", "copying"):
        with pytest.raises(ValueError, match=f"'{name}' in a report already"):
            figures.register(Figure(name, "x", "x", False, brightness))
    with pytest.raises(ValueError, match="give `measure`"):
        figures.register(Figure("empty", "x", "x", False))
    with pytest.raises(ValueError, match="'thumbnails' already"):
        extractors.register("thumbnails", thumbnails)


def test_an_interval_from_a_deviation_needs_one(place, registered):
    figures.FIGURES["brightness"] = Figure(
        "brightness", "x", "x", False, lambda sample: Value(1.0), interval=Interval.STD
    )
    with pytest.raises(ValueError, match="brightness: .* gave none"):
        reports(place)


def test_the_tables_and_the_settings_name_the_same():
    assert list(extractors.EXTRACTORS) == settings.EXTRACTORS
    assert figures.added() == []
