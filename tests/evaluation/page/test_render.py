"""The page: whole, within itself, and silent about nothing."""

import copy
import html.parser
import io
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.evaluation.figures.numbers import NOT_MEASURED
from ddpm.evaluation.page.charts import Line, curves
from ddpm.evaluation.page.clusters import strips
from ddpm.evaluation.page.render import PICTURES, publish, render
from ddpm.evaluation.page.verdict import verdict
from ddpm.pictures import grid, png
from ddpm.store import FileStore, read_object

FIGURES = {"n": 100, "nearer_to_train": 0.52, "below_third": 0.01, "below_threshold": 0.02}
SPACE = {"generated": FIGURES, "held_out": FIGURES, "threshold": 0.3, "closer": {"share": 0.5, "low": 0.4, "high": 0.6}}
REPORT = {
    "key": "reports/abc", "metric": "fid_classifier", "fid": 2.5, "fid_std": 0.1, "kid": 0.01, "kid_std": 0.001, "n": 100,
    "noise_floor": {"fid": 0.5, "kid": -0.001, "extrapolated": True}, "extrapolated": True,
    "excess": {"fid": 2.0, "fid_interval": [1.8, 2.2], "kid": 0.011, "kid_interval": [0.01, 0.012]},
    "noise": {"kid": 0.2, "n": 64, "share": 0.05, "interval": [-0.01, 0.11]},
    "precision": 0.8, "recall": 0.7, "inception_score": {"mean": 8.1, "std": 0.1, "of": "classifier", "why": ""},
    "intervals": {"fid": [2.3, 2.7], "kid": [0.008, 0.012], "precision": [0.7, 0.9], "recall": [0.6, 0.8]},
    "recognisable": {"generated": 0.7, "real": 0.95},
    "held_out": {"n": 50, "train": {"fid": 3.0, "kid": 0.01}, "held_out": {"fid": 3.5, "kid": 0.02}, "difference": {"fid": {"difference": 0.5, "low": 0.1, "high": 0.9}}},
    "curve": [{"n": 50, "fid": 4.0}, {"n": 100, "fid": 2.5}], "fid_infinity": 1.5, "fid_infinity_std": 0.2,
    "copying": {"share": 0.01, "share_held_out": 0.01, "excess": 0.0, "excess_low": -0.02, "pixel": SPACE, "feature": SPACE},
    "levels": {"sigma": [0.1, 1.0, 10.0], "train": [0.5, 0.1, 0.01], "held_out": [0.6, 0.12, 0.01]},
    "coverage": {"by": "class", "missing": ["<seven>"], "distance": 0.1, "by_chance": 0.02, "rows": [
        {"name": "six", "generated": 0.9, "low": 0.85, "high": 0.95, "real": 0.5},
        {"name": "<seven>", "generated": 0.1, "low": 0.05, "high": 0.15, "real": 0.5}]},
    "warnings": ["100 pictures are few & far between"],
    "cost": {"seconds": {"sampling": 75.0, "features": 2.5}, "pictures": 100, "nfe": 50}, "run_seconds": {"train": 3700},
    "training": {"loss": [(1, 0.5), (1000, 0.1)], "held_out_loss": [(500, 0.2), (1000, 0.15)]},
    "judge": {
        "reported": True, "why": "", "score": {"mean": 3.2, "low": 3.0, "high": 3.4, "n": 50},
        "controls": {"real": {"mean": 4.8, "low": 4.6, "high": 5.0, "n": 50}, "other": {"mean": 1.1, "low": 1.0, "high": 1.3, "n": 50}},
        "auc": {"value": 0.99, "low": 0.97, "high": 1.0, "passed": True, "needed": 0.8},
        "distribution": {"generated": [0, 5, 30, 15, 0], "real": [0, 0, 0, 10, 40], "other": [45, 5, 0, 0, 0]},
        "counted": {"requests": 151, "refusals": 1, "rate_limited": 0}, "tokens": {"sent": 15000, "answered": 150}, "cost": 0.0123,
        "seconds": 60.0, "stopped": "", "protocol": {"model": "eye", "question": "How much?"}},
    "protocol": {"measurement": {"extractor": "classifier", "n": 100}, "generation": {"checkpoint": "store/<b>x</b>", "seeds": [0, 100]}},
}  # fmt: skip
DOT = png(np.zeros((8, 8, 3), dtype=np.uint8))
ALL = dict.fromkeys(PICTURES, DOT)


class Page(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def without(*names):
    return {name: value for name, value in copy.deepcopy(REPORT).items() if name not in names}


def test_the_page_says_it_all():
    page = Page(render(REPORT, ALL))
    assert page.open == []
    for words in (
        "2.5", "fid_classifier (n=100)", "kid_classifier (n=100)", "2.3 to 2.7", "0.5 (extrapolated)", "100 pictures against 50 of either; difference 0.5 (95%: 0.1 to 0.9): it fits what it has seen", "2 above that (95%: 1.8 to 2.2)", "70.0%", "fid_classifier at infinite n", "fid_classifier, held-out pictures", "By KID 5% of the way from real pictures to noise (95%: 0% to 11%)", "1.5", "100 pictures are few & far between",
        "Drawn less than half as often as they should be: <seven>", "3.20 of 5", "AUC 0.99", "How much?", "1 min 15 s", "1 h 1 min", "0.0123", "eye", "[0, 100]",
    ):  # fmt: skip
        assert words in page.text, words
    assert NOT_MEASURED not in page.text
    assert len(page.of("polyline")) == 1 + 2 + 2


def test_nothing_is_fetched_and_nothing_runs():
    text = render(REPORT, ALL)
    page = Page(text)
    assert not page.of("script") and not page.of("link") and not page.of("iframe")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "xlink:href", "action"):
            assert attributes.get(name, "data:").startswith("data:image/png;base64,") or name not in attributes
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|url\(|@import", text)
    assert text.count("data:image/png;base64,") == len(PICTURES) - 1, "no clusters where there are classes"


def test_what_people_wrote_stays_text():
    text = render(REPORT, ALL)
    assert "<seven>" not in text and "&lt;seven&gt;" in text
    assert "<b>x</b>" not in text and "&lt;b&gt;x&lt;/b&gt;" in text
    name = '"><script>'
    assert "<script" not in curves([Line(name, [(1, 2), (2, 3)])], name, name, name, level=2, level_name=name)


def test_a_person_who_does_not_see_it_can_read_it():
    page = Page(render(REPORT, ALL))
    assert page.of("html")[0]["lang"] == "en" and len(page.of("h1")) == 1
    assert all(len(image["alt"]) > 20 for image in page.of("img"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.of("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(section["aria-labelledby"] in ids for section in page.of("section"))
    assert all(cell["scope"] in ("row", "col") for cell in page.of("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))  # noqa: RUF007


def test_the_same_report_gives_the_same_bytes():
    assert render(REPORT, ALL) == render(copy.deepcopy(REPORT), dict(reversed(ALL.items())))


def test_what_is_missing_is_said_and_not_drawn():
    page = Page(render({"key": "k"}, {}))
    assert page.open == [] and not page.of("polyline") and not page.of("img")
    assert page.text.count(NOT_MEASURED) >= 15
    assert not re.search(r"\b(nan|None|null|inf)\b", page.text)
    assert "Judge" not in page.text


@pytest.mark.parametrize("name", sorted(set(REPORT) - {"key"}))
def test_any_part_may_be_missing_or_null(name):
    for report in (without(name), {**REPORT, name: None}):
        page = Page(render(report, ALL))
        assert page.open == [] and not re.search(r"\b(nan|None)\b", page.text)


def test_clusters_are_shown_where_coverage_is_by_cluster():
    page = Page(render({**REPORT, "coverage": {**REPORT["coverage"], "by": "cluster"}}, ALL))
    assert len(page.of("img")) == len(PICTURES)


NAMED = {
    **REPORT, "made": "2026-11-25", "dataset": {"name": "<flowers>", "pictures": 7370, "held_out": 819},
    "subject": {"model": "ddpm-flowers", "version": 3, "run": "first"},
}  # fmt: skip
CLUSTERED = {
    **NAMED, "metric": "fid_768",
    "coverage": {**REPORT["coverage"], "by": "cluster", "missing": [], "rows": [
        {"name": f"cluster {number}", "generated": 0.1, "low": 0.05, "high": 0.2, "real": 0.1} for number in range(1, 11)
    ]},
}  # fmt: skip


def sheet(side):
    """Ten rows of eight pictures, each row in a grey of its own."""
    rows = torch.arange(10, dtype=torch.uint8).repeat_interleave(8) * 20
    return png(grid(rows[:, None, None, None].expand(80, 3, side, side).contiguous(), columns=8))


def test_the_page_names_model_version_data_set_and_day():
    page = Page(render(NAMED, ALL))
    for words in (
        "Evaluation of ddpm-flowers, run first, version 3",
        "<flowers>: 7,370 training and 819 held-out pictures",
        "2026-11-25",
    ):
        assert words in page.text, words
    unregistered = Page(render({**NAMED, "subject": {"model": "ddpm-flowers", "version": None, "run": "first"}}, ALL))
    assert "version not registered as one when this page was made" in unregistered.text
    old = Page(render(REPORT, ALL))
    assert "Evaluation of store/<b>x</b>" in old.text and "measured on not known" in old.text


@pytest.mark.parametrize("side", [8, 32, 64, 100])
def test_each_cluster_is_shown_beside_its_shares(side):
    data = sheet(side)
    found = strips(data, 10)
    greys = [np.asarray(Image.open(io.BytesIO(strip)).convert("L")) for strip in found]
    assert [sorted(set(grey.flatten().tolist())) for grey in greys] == [[20 * row, 255] for row in range(10)]
    page = Page(render(CLUSTERED, {**ALL, "clusters": data}))
    images = [image["alt"] for image in page.of("img")]
    assert [alt for alt in images if "middle of" in alt] == [
        f"Real pictures in the middle of cluster {number}" for number in range(1, 11)
    ]
    assert len(images) == len(PICTURES) - 1 + 10, "and not as a sheet as well"
    assert strips(data, 9) == [] and strips(data, 0) == [], "a sheet of other rows is shown whole"


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_on_a_phone_tables_scroll_sideways_and_the_page_does_not(tmp_path):
    from playwright.sync_api import sync_playwright

    long = {**REPORT["protocol"], "generation": {"checkpoint": "/home/somebody/" + "a" * 200}}
    (tmp_path / "page.html").write_text(render({**CLUSTERED, "protocol": long}, {**ALL, "clusters": sheet(32)}))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        for width in (1400, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            page.goto((tmp_path / "page.html").as_uri())
            assert page.evaluate("document.scrollingElement.scrollWidth") == width
            wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth > e.clientWidth)")
            assert len(wide) == 4 and set(wide) == {width == 390}
            scrolled = page.evaluate(
                "(e => { e.scrollLeft = 50; return e.scrollLeft })(document.querySelector('.scroll'))"
            )
            assert scrolled == (50 if width == 390 else 0)
        browser.close()


def test_the_verdict_follows_the_figures():
    def levels(**changes):
        return {finding.title: finding.level for finding in verdict({**REPORT, **changes})}

    assert levels() == {"Likeness": "fair", "Copying": "good", "Coverage": "bad", "Judge": "fair"}
    assert levels(fid=50.0)["Likeness"] == "bad"
    same = {**REPORT["excess"], "fid": 0.1, "fid_interval": [-0.1, 0.3]}
    assert levels(fid=0.6, excess=same)["Likeness"] == "good"
    copied = {"share": 0.4, "share_held_out": 0.01, "excess_low": 0.3}
    assert levels(copying=copied)["Copying"] == "bad"
    nearer = {**SPACE, "generated": {**FIGURES, "nearer_to_train": 0.75}}
    assert levels(copying={**REPORT["copying"], "feature": nearer})["Copying"] == "good", "by one witness of two"
    nearer["closer"] = {"share": 0.7, "low": 0.6, "high": 0.8}
    assert levels(copying={**REPORT["copying"], "feature": nearer})["Copying"] == "fair"
    assert levels(copying={"share": 0.4, "share_held_out": None, "excess_low": None})["Copying"] == "unknown"
    assert levels(coverage={**REPORT["coverage"], "missing": [], "distance": 0.02})["Coverage"] == "good"
    assert levels(judge={**REPORT["judge"], "score": {"mean": 1.1, "low": 1, "high": 1.2, "n": 50}})["Judge"] == "bad"


def test_a_judge_without_its_controls_has_no_score_on_the_page():
    judge = {**REPORT["judge"], "reported": False, "why": "it does not look", "score": None}
    judge["distribution"] = {name: judge["distribution"][name] for name in ("real", "other")}
    page = Page(render({**REPORT, "judge": judge}, ALL))
    assert "No score. it does not look" in page.text and "not reported" in page.text and "3.20" not in page.text


def test_a_logarithmic_axis_names_values_near_its_points():
    """A loss between 0.05 and 0.09 fills the chart; one over five decades has a number for each."""
    near = curves([Line("a", [(1, 0.09), (2, 0.051)])], "x", "y", "some", log_y=True)
    assert re.findall(r">(0\.\d+)<", near) == ["0.05", "0.1"]
    height = [float(point.split(",")[1]) for point in re.search(r'points="([^"]*)"', near)[1].split()]
    assert height[1] - height[0] > 100
    far = curves([Line("a", [(1, 1), (2, 1e-5)])], "x", "y", "some", log_y=True)
    assert [float(t) for t in re.findall(r'"end">([^<]*)<', far)] == [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]


def test_curves_leave_out_what_is_no_number():
    assert curves([Line("a", [(1, float("nan")), (2, None)])], "x", "y", "none") == ""
    drawn = curves([Line("a", [(0, 1), (10, 0), (100, 0.1), (1000, 0.01)])], "x", "y", "some", log_x=True, log_y=True)
    assert len(re.search(r'points="([^"]*)"', drawn)[1].split()) == 2
    assert "nan" not in curves([Line("flat", [(5, 3), (6, 3)])], "x", "y", "flat")


def test_pairs_stand_apart():
    sheet = grid(torch.zeros(8, 3, 64, 64, dtype=torch.uint8), columns=4, together=2)
    white = "".join("w" if column.all() else "b" for column in sheet[2:66, :, 0].T)
    assert [len(run) for run in white.split("b" * 64)] == [2, 2, 6, 2, 2]
    assert sheet.shape == (2 * 66 + 2, len(white), 3)


def test_it_is_published_beside_the_report(tmp_path):
    store = FileStore(tmp_path)
    store.write("reports/abc.png", DOT)
    report = {**REPORT, "pictures": {"grid": store.uri("reports/abc.png"), "pairs": None}}
    page, uri = publish(report, store)
    assert uri.startswith(store.uri("reports/abc.")) and read_object(uri).decode() == page
    assert page.count("data:image/png;base64,") == 1


def test_a_page_that_was_published_stays(tmp_path):
    """A run's page holds the judge's word and its curves; the same report, asked for again by itself, has another page."""
    store = FileStore(tmp_path)
    of_a_run, its_uri = publish(REPORT, store)
    plain, plain_uri = publish(without("judge", "training", "run_seconds"), store)
    assert its_uri != plain_uri and "Judge" in of_a_run and "Judge" not in plain
    assert publish(REPORT, store) == (of_a_run, its_uri)
    assert [read_object(uri).decode() for uri in (its_uri, plain_uri)] == [of_a_run, plain]
    assert len(list(store.list("reports"))) == 2
