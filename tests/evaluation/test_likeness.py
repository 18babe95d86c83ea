"""The grade of likeness: what is not like the real pictures is not called so, however few there are."""

import pytest
import torch
import torch.nn.functional as F

from ddpm.evaluation.figures.memorisation import CopySearch
from ddpm.evaluation.likeness import likeness, told_from_noise, way_to_noise
from ddpm.evaluation.measure import Clock, measure
from ddpm.evaluation.reference import uniform_noise
from ddpm.settings import EvaluateSettings

LIMIT = EvaluateSettings().noise_gate
ENOUGH, FEW = 128, 40  # for 48 features: KID grades, and no verdict


def report_on(reference, images):
    report = measure(reference, [[images]], CopySearch(reference, "cpu"), Clock()).report
    return {**report, "protocol": {"measurement": reference.measurement(len(images)), "generation": {}}}


def kinds(data, n):
    """Pictures of every kind, by name: n of each."""
    real, labels = data.train.images, data.train.labels
    chosen = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:n]]
    means = chosen.float().mean((1, 2, 3), keepdim=True)
    return {
        "real": data.held_out.images[:n],
        "noise": uniform_noise(n, 8, "a test"),
        "black": torch.zeros_like(chosen),
        "a colour each": means.round().to(torch.uint8).expand_as(chosen).contiguous(),
        "blurred": F.avg_pool2d(chosen.float(), 3, 1, 1, count_include_pad=False).round().to(torch.uint8),
        "half the classes": real[labels < 5][:n],
        "one class": real[labels == 3][:n],
    }


@pytest.fixture(scope="module")
def graded(all_digits):
    """Reports, by how many pictures there are, and by their kind."""
    data, _, reference = all_digits
    return {n: {name: report_on(reference, images) for name, images in kinds(data, n).items()} for n in (ENOUGH, FEW)}


@pytest.mark.parametrize(
    ("kind", "grades"),
    [
        ("real", {"good"}), ("noise", {"bad"}), ("black", {"bad"}), ("a colour each", {"bad"}), ("blurred", {"bad"}),
        ("half the classes", {"fair", "bad"}), ("one class", {"bad"}),
    ],
)  # fmt: skip
def test_the_grade_by_kid(graded, kind, grades):
    assert likeness(graded[ENOUGH][kind]).level in grades, likeness(graded[ENOUGH][kind]).text


@pytest.mark.parametrize(
    ("kind", "grade"), [("real", "unknown"), ("noise", "bad"), ("black", "bad"), ("a colour each", "bad")]
)
def test_no_more_pictures_than_features_are_no_verdict_unless_they_are_surely_poor(graded, kind, grade):
    found = likeness(graded[FEW][kind])
    assert found.level == grade, found.text
    assert ("No verdict: 40 pictures are too few for 48 features; 49 are the least." in found.text) == (
        grade == "unknown"
    )


@pytest.mark.parametrize("n", [ENOUGH, FEW])
def test_the_way_to_noise_is_0_for_real_pictures_and_1_for_noise(graded, n):
    ways = {kind: way_to_noise(report) for kind, report in graded[n].items()}
    assert ways["real"] == pytest.approx(0, abs=0.1) and ways["noise"] == pytest.approx(1, abs=0.25)
    assert ways["real"] < ways["half the classes"] < ways["blurred"] < ways["black"]
    told = {kind for kind, report in graded[n].items() if told_from_noise(report, LIMIT)}
    assert {"real", "half the classes"} <= told and told.isdisjoint({"noise", "black", "a colour each"})
    assert told_from_noise(graded[n]["noise"], limit=1000) and not told_from_noise(graded[n]["real"], limit=-1000)


LAYER = {"measurement": {"layer": 768, "n_real": 187}, "generation": {}}
FLOWERS = {  # of Inception's 768 features: 64 pictures against 187 flowers
    "metric": "fid_768", "n": 64, "fid": 2.88, "kid": 0.0092, "precision": 0.0, "noise_floor": {"fid": 0.47, "kid": 0.0},
    "excess": {"fid": 2.41, "fid_interval": [2.3, 2.5], "kid": 0.0092, "kid_interval": [0.009, 0.0094]},
    "protocol": LAYER,
}  # fmt: skip


def by_noise(way, half=0.01, **changes):
    noise = {"kid": 0.0092, "n": 64, "share": way, "interval": [way - half, way + half]}
    return {**FLOWERS, "precision": 0.5, "noise": noise, **changes}


def test_noise_beside_flowers_is_poor_even_in_a_report_of_an_earlier_release():
    found = likeness(FLOWERS)
    assert found.level == "bad" and "precision 0.0%" in found.text
    assert told_from_noise(FLOWERS, LIMIT) is False


def test_an_earlier_report_without_the_yardstick_is_not_graded_by_a_biased_fid():
    """It said "fair" of a three-epoch model, for FID was below ten times its floor."""
    old = {**FLOWERS, "n": 1000, "precision": 0.5}
    assert likeness(old).level == "unknown" and "evaluate again" in likeness(old).text
    assert told_from_noise(old, LIMIT) is None
    assert likeness({**old, "n": 64}).level == "unknown"


@pytest.mark.parametrize(
    ("way", "n", "grade"),
    [
        (0.001, 64, "unknown"), (0.12, 64, "unknown"), (0.34, 64, "bad"), (1.0, 768, "bad"),
        (0.001, 769, "good"), (0.12, 769, "fair"), (0.24, 769, "fair"), (0.255, 769, "bad"), (0.34, 769, "bad"), (2.7, 10_000, "bad"),
    ],
)  # fmt: skip
def test_grades_along_the_way_to_noise(way, n, grade):
    assert likeness(by_noise(way, n=n)).level == grade, likeness(by_noise(way, n=n)).text


def test_where_pictures_are_enough_the_worse_of_fid_and_kid_grades():
    many = {"measurement": {"layer": 768, "n_real": 8000}, "generation": {}}
    alike = {**FLOWERS["excess"], "fid_interval": [-0.1, 0.1]}
    levels = [
        likeness(by_noise(way, n=8000, fid=fid, excess=excess, protocol=many)).level
        for way, fid, excess in ((0.001, 0.5, alike), (0.2, 0.5, alike), (0.001, 0.5, FLOWERS["excess"]), (0.001, 6, FLOWERS["excess"]))
    ]  # fmt: skip
    assert levels == ["good", "fair", "fair", "bad"]


def test_an_extractor_that_does_not_tell_noise_has_no_way_to_it():
    blind = {"kid": 0.0, "n": 64, "share": None, "interval": None}
    assert likeness(by_noise(0.1, n=1000, noise=blind)).level == "unknown"
    assert told_from_noise(by_noise(0.1, noise=blind), LIMIT) is None
