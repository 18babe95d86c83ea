"""Who may take the champion's place."""

import math

import pytest

from ddpm.errors import Refused
from ddpm.evaluation.report import seal
from ddpm.registry.gate import decide


def report(fid, kid, **measurement):
    return {
        "fid": fid, "fid_std": 0.1, "kid": kid, "kid_std": 0.01,
        "protocol": {"measurement": {"extractor": "classifier", "n": 512, **measurement}, "generation": {}},
    }  # fmt: skip


def test_the_first_is_promoted():
    assert decide(report(9, 9), None).promote


def test_better_by_one_and_not_worse_by_the_other_is_promoted():
    assert decide(report(1.0, 0.20), report(2.0, 0.20)).promote
    assert "better by FID" in decide(report(1.0, 0.20), report(2.0, 0.20)).why


def test_within_the_intervals_nothing_changes():
    decision = decide(report(1.95, 0.195), report(2.0, 0.2))
    assert not decision.promote
    assert "not better beyond the intervals" in decision.why


def test_worse_by_one_is_not_promoted_however_good_the_other():
    decision = decide(report(1.0, 0.30), report(2.0, 0.20))
    assert not decision.promote
    assert "worse by KID" in decision.why


@pytest.mark.parametrize("champion", [None, report(2, 0.2)])
def test_what_is_not_a_number_never_passes(champion):
    assert not decide(report(math.nan, 0.1), champion).promote
    assert not decide({**report(1, 0.1), "kid_std": math.inf}, champion).promote


def test_another_measurement_is_refused():
    with pytest.raises(Refused, match="differ in n"):
        decide(report(1, 0.1), report(2, 0.2, n=64))


def copying(low, share=0.3, held_out=0.01):
    return {**report(1.0, 0.1), "copying": {"excess_low": low, "share": share, "share_held_out": held_out}}


@pytest.mark.parametrize("champion", [None, report(2.0, 0.2)])
def test_what_copies_is_not_promoted_however_good_its_figures(champion):
    refused = decide(copying(0.2), champion, copying_gate=0.05)
    assert not refused.promote
    assert "it copies: 30.0% of its pictures" in refused.why and "copying_gate 5.0%" in refused.why
    assert decide(copying(0.04), champion, copying_gate=0.05).promote, "not surely more than is borne"
    assert decide(copying(0.2), champion, copying_gate=1.0).promote


def test_a_report_that_says_nothing_of_copying_does_not_pass_its_gate():
    assert "evaluate it again" in decide(report(1.0, 0.1), None, copying_gate=0.05).why


def near_noise(share, precision=0.5, **figures):
    """A report of pictures that are so far on the way to noise; half of them lie among the real ones, as of noise may."""
    beside = {"kid": 0.4, "n": 64, "share": share, "interval": None}
    measured = {**report(2.9, 0.1), "precision": precision, "noise": beside, **figures}
    return {**measured, "sha256": seal(measured)}


@pytest.mark.parametrize(("share", "passes"), [(1.0, False), (0.75, False), (0.74, True), (0.1, True), (-0.01, True)])
def test_a_first_version_that_nothing_tells_from_noise_is_not_champion(share, passes):
    found = decide(near_noise(share), None, noise_gate=0.75)
    assert found.promote is passes
    if not passes:
        assert "nothing tells its pictures from noise" in found.why and "noise_gate 75.0%" in found.why
    assert decide(near_noise(share), None, noise_gate=1).promote
    assert decide(near_noise(share, fid=1.0), report(2.0, 0.2), noise_gate=0.75).promote, (
        "who is better than a champion needs no floor"
    )


def test_where_the_extractor_is_blind_to_noise_nothing_tells_pictures_from_it():
    found = decide(near_noise(None), None, noise_gate=0.75)
    assert not found.promote and "does not tell noise from real pictures" in found.why
    assert decide(near_noise(None), None, noise_gate=1).promote


@pytest.mark.parametrize(("precision", "passes"), [(0.0, False), (0.04, False), (0.3, True)])
def test_a_report_of_an_earlier_release_goes_by_precision(precision, passes):
    found = decide({**report(2.9, 0.1), "precision": precision}, None, noise_gate=0.75)
    assert found.promote is passes
    assert ("says nothing of noise" if passes else "next to none lie among the real ones") in found.rules[-1].says


def test_every_rule_says_its_numbers():
    rules = decide({**copying(0.01), "precision": 0.5}, report(2.0, 0.2), copying_gate=0.05).rules
    assert [rule.name for rule in rules] == [
        "FID is a number", "KID is a number", "it does not copy", "not worse by FID", "not worse by KID", "better by one of them",
    ]  # fmt: skip
    assert all(rule.passed and any(sign.isdigit() for sign in rule.says) for rule in rules)
    worse = decide(report(1.0, 0.30), report(2.0, 0.20)).rules
    assert [(rule.name, rule.passed) for rule in worse][-2:] == [("not worse by FID", True), ("not worse", False)]


def test_every_rule_says_its_numbers_where_the_first_fails_too():
    broken = {**copying(0.2), "kid_std": math.nan, "precision": 0.5}
    named = {rule.name: rule for rule in decide(broken, None, copying_gate=0.05).rules}
    assert [(name, rule.passed) for name, rule in named.items()] == [
        ("FID is a number", True), ("KID is a number", False), ("it does not copy", False), ("its pictures are told from noise", True),
    ]  # fmt: skip
    assert "30.0% of its pictures" in named["it does not copy"].says
    names = [rule.name for rule in decide(copying(0.2), report(2.0, 0.2), copying_gate=0.05).rules]
    assert names[-3:] == ["not worse by FID", "not worse by KID", "better by one of them"]
