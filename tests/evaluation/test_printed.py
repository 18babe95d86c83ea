"""A report on a terminal."""

from ddpm.evaluation.printed import printed, side_by_side
from ddpm.evaluation.protocol import compare

REPORT = {
    "metric": "fid_768", "n": 64, "fid": 2.88, "fid_std": 0.1, "kid": 0.0092, "kid_std": 0.0001, "precision": 0.0,
    "intervals": {"fid": [2.7, 3.1], "kid": [0.009, 0.0094], "precision": [0.0, 0.06]},
    "noise_floor": {"fid": 0.47, "kid": 0.0}, "page": "store/page.html",
    "excess": {"fid": 2.41, "fid_interval": [2.3, 2.5], "kid": 0.0092, "kid_interval": [0.009, 0.0094]},
    "warnings": ["64 pictures are few for 768 features"], "protocol": {"measurement": {"layer": 768}, "generation": {}},
}  # fmt: skip


def test_warnings_come_first_and_figures_have_their_name_and_number():
    lines = printed(REPORT).splitlines()
    assert lines[:2] == ["warning: 64 pictures are few for 768 features", "fid_768, 64 pictures"]
    assert lines[3].split() == ["fid_768", "(n=64)", "2.88", "2.7", "to", "3.1", "0.47"]
    assert any(line.startswith("Likeness: poor. Next to none") for line in lines)
    assert lines[-1] == "page      store/page.html"
    assert printed({"metric": "fid_768"}), "whatever is missing"


def test_compare_has_the_warnings_of_both():
    other = {**REPORT, "warnings": ["64 pictures are few for 768 features", "1 file beside"]}
    lines = side_by_side(compare(REPORT, other)).splitlines()
    assert lines[:3] == [
        "warning: 64 pictures are few for 768 features",
        "warning, B: 1 file beside",
        "fid_768, 64 pictures each",
    ]
    assert lines[4].startswith("fid_768 (n=64) ")
