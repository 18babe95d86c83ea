"""Figures compare only where they were measured alike."""

import pytest

from ddpm.errors import Refused, WrongInput
from ddpm.evaluation.protocol import compare, require_same_measurement


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
