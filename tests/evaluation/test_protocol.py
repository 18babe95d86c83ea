"""Figures compare only where they were measured alike."""

import pytest

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.printed import side_by_side
from ddpm.evaluation.protocol import compare, drawn_in_words, require_same_measurement


def report(fid, kid, **measurement):
    same = {"extractor": "classifier", "n": 512, "dataset_digest": "abc"}
    return {
        "metric": "fid_classifier", "fid": fid, "fid_std": 0.1, "kid": kid, "kid_std": 0.01, "n": 512,
        "noise_floor": {"fid": 0.4, "kid": 0.0}, "protocol": {"measurement": {**same, **measurement}, "generation": {}},
    }  # fmt: skip


def test_the_difference_has_an_interval():
    found = compare(report(2.0, 0.2), report(1.0, 0.2))
    assert found["fid"]["difference"] == -1.0
    assert found["fid"]["high"] == pytest.approx(-1 + 1.96 * 0.1 * 2**0.5)
    assert found["kid"]["low"] < 0 < found["kid"]["high"]


@pytest.mark.parametrize("field", ["extractor", "n", "dataset_digest", "layer"])
def test_another_measurement_is_refused_by_its_field(field):
    with pytest.raises(Refused, match=f"differ in {field}"):
        compare(report(1, 1), report(1, 1, **{field: "other"}))


def test_generation_may_differ():
    require_same_measurement({"n": 1}, {"n": 1})


def test_what_is_no_report_is_refused():
    with pytest.raises(WrongInput, match="B: no report"):
        compare(report(1, 1), {"fid": 3})


def test_better_means_beyond_the_interval():
    found = compare(report(2.0, 0.2), report(1.0, 0.2))
    assert (found["fid"]["better"], found["kid"]["better"]) == ("b", "neither")
    assert compare(report(1.0, 0.2), report(1.1, 0.2))["fid"]["better"] == "neither"
    precise = [
        {
            **report(1, 1),
            "precision": p,
            "recall": 0.5,
            "intervals": {"precision": [p - 0.05, p + 0.05], "recall": [0.4, 0.6]},
        }
        for p in (0.9, 0.6)
    ]
    found = compare(*precise)
    assert found["precision"]["better"] == "a", "of precision, more is better"
    assert found["precision"]["low"] == pytest.approx(-0.3 - 0.05 * 2**0.5)
    assert found["recall"]["better"] == "neither"


def test_the_table_says_both_and_their_difference():
    lines = side_by_side(compare(report(2.0, 0.2), report(1.0, 0.2))).splitlines()
    assert lines[0] == "fid_classifier, 512 pictures each"
    assert lines[2].split() == ["fid_classifier", "(n=512)", "2", "1", "-1", "-1.28", "to", "-0.723", "B"]
    assert lines[3].split()[-1] == "neither" and lines[4].startswith("noise floor: fid_classifier (n=512) 0.4")


def test_intervals_from_few_values_are_students():
    """In 95% of draws the interval holds, also for two or three values, whose own spread says little."""
    import numpy as np

    from ddpm.evaluation.figures.uncertainty import against_both

    rng = np.random.default_rng(0)
    for count in (2, 3, 5):
        draws = rng.normal(size=(4000, count + 1)).tolist()
        sides = [against_both(row[:-1], row[-1]) for row in draws]
        held = np.mean([abs(side.held_out - side.train) <= side.half for side in sides])
        assert held == pytest.approx(0.95, abs=0.012)


def test_reports_without_intervals_compare_by_what_they_have():
    from ddpm.evaluation.protocol import compare

    report = {"metric": "fid_768", "fid": 1.0, "fid_std": 0.1, "kid": 0.1, "kid_std": 0.01, "precision": 0.5, "recall": 0.5,
              "protocol": {"measurement": {"layer": 768}, "generation": {}}}  # fmt: skip
    found = compare(report, {**report, "fid": 3.0})
    assert found["fid"]["better"] == "a" and "precision" not in found


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        ({"sampler": "ddim", "sampling_steps": 250, "guidance": 1.0}, "ddim, 250 steps"),
        ({"sampler": "heun", "sampling_steps": 18, "guidance": 2.0}, "heun, 18 steps, guidance 2"),
        ({"sampler": "ddpm", "sampling_steps": 1000, "guidance": 1.25, "guide": "ab" * 32},
         "ddpm, 1,000 steps, guidance 1.25 by the weaker weights abababababab"),
        ({"pictures": "/folder", "sha256": "0"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_how_pictures_were_made_is_said_in_a_few_words(generation, words):
    assert drawn_in_words(generation) == words
