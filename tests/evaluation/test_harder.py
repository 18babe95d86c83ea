"""The sentence that says how much harder a second set was."""

import copy

import pytest

from ddpm.evaluation.harder import harder

MEASURED = {"extractor": "inception", "layer": 64, "weights_sha256": "a" * 64, "image_size": 32, "n_real": 5000}
DRAWN = {"weights_sha256": "of the model", "sampler": "ddim", "sampling_steps": 50, "churn": 0.0, "guidance": 1.0}


def report(name, above, half, n=2000, **other):
    protocol = {"measurement": dict(MEASURED), "generation": dict(DRAWN)}
    for field, value in other.items():
        protocol["measurement" if field in MEASURED else "generation"][field] = value
    excess = {"fid": above, "fid_interval": [above - half, above + half], "kid": 0.0, "kid_interval": [0.0, 0.0]}
    return {"metric": "fid_64", "n": n, "dataset": {"name": name}, "excess": excess, "protocol": protocol}


FLOWERS = report("flowers", 0.5, 0.03)


@pytest.mark.parametrize(
    ("above", "half", "says"),
    [
        (0.7, 0.04, "dogs is harder than flowers: fid_64 is 0.7 above its noise floor there, and 0.5 on flowers, a difference of 0.2 (95%: 0.15 to 0.25)."),
        (0.3, 0.04, "dogs is easier than flowers: fid_64 is 0.3 above its noise floor there, and 0.5 on flowers, a difference of -0.2 (95%: -0.25 to -0.15)."),
        (0.54, 0.04, "dogs is neither surely harder nor easier than flowers: fid_64 is 0.54 above its noise floor there, and 0.5 on flowers, a difference of 0.04 (95%: -0.01 to 0.09)."),
    ],
)  # fmt: skip
def test_the_difference_is_said_with_its_interval(above, half, says):
    assert harder(FLOWERS, report("dogs", above, half, n=1500, n_real=1600)) == says


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"layer": 192}, "they were measured with different layer (64 and 192)."),
        ({"image_size": 64}, "they were measured with different image_size (32 and 64)."),
        ({"sampling_steps": 20}, "they were measured with different sampling_steps (50 and 20)."),
        ({"n": 639}, "639 pictures of dogs are few for 64 features, so that FID is not to be trusted there."),
        ({"n_real": 639}, "639 pictures of dogs are few for 64 features, so that FID is not to be trusted there."),
    ],
)
def test_nothing_is_claimed_where_they_do_not_compare(other, why):
    said = harder(FLOWERS, report("dogs", 5.0, 0.1, **other))
    assert said == f"How much harder dogs is than flowers cannot be said: {why}"


def test_nothing_is_claimed_by_two_classifiers():
    one, other = (copy.deepcopy(report(name, 0.5, 0.1, extractor="classifier")) for name in ("digits", "five"))
    other["protocol"]["measurement"]["weights_sha256"] = "b" * 64
    assert harder(one, other).endswith(
        "each set was measured by a classifier of its own; extractor=inception measures both alike."
    )


def test_the_first_set_s_few_pictures_count_too_and_two_models_are_no_difference():
    assert "100 pictures of few are few" in harder(report("few", 0.5, 0.1, n=100), FLOWERS)
    tulips = report("tulips", 0.9, 0.01)
    tulips["protocol"]["generation"]["weights_sha256"] = "of another model"
    assert harder(FLOWERS, tulips).startswith("tulips is harder than flowers")
