"""An exported folder is served with what it carries: card, figures, and where the model comes from."""

import json
import os
import shutil

import pytest

from ddpm.cli import main
from ddpm.errors import WrongInput
from ddpm.registry.card import card
from ddpm.registry.export import export
from ddpm.registry.version import figures
from ddpm.serving.server import describe
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import load

SETTINGS = ServeSettings(batch=16)
TOLD = ("figures", "protocol", "drawing", "weights_sha256", "images_seen", "dataset_digest", "image_size")


def test_an_exported_folder_tells_what_its_version_does(registry, checkpoints, tmp_path):
    folder = tmp_path / "exported"
    export("models:/m/2", "safetensors", str(folder), registry)
    as_registered = describe(load("models:/m/2", registry, SETTINGS), "model")
    for reference in (str(folder), f"file://{folder}"):
        told = describe(load(reference, "", SETTINGS), "model")
        assert {name: told[name] for name in TOLD} == {name: as_registered[name] for name in TOLD}
        assert told["figures"]["fid"] == 2.0 and told["protocol"]["measurement"]["dataset_digest"] == "abc"
        for words in ("- From: models:/m/2", "| fid_classifier (n=64) | 2 |", "## Intended use", "## Provenance"):
            assert words in told["card"], words
        assert os.path.dirname(checkpoints[1]) not in json.dumps(told), "strangers are told of no place"
    assert json.loads((folder / "report.json").read_text()) == figures(registry, "m", 2), "as it was measured"

    for name, reference in (("of-version", "models:/m/2"), ("of-folder", f"file://{folder}")):
        export(reference, "space", str(tmp_path / name), registry)
    of_version, of_folder = (
        {file: (tmp_path / name / file).read_text() for file in ("README.md", "model/report.json", "model/provenance.json")}
        for name in ("of-version", "of-folder")
    )  # fmt: skip
    assert of_version == of_folder, "a Space that is made of the folder is that of the version"

    later = json.dumps({"format_version": 99, "provenance": {}})
    (folder / "provenance.json").write_text(later)
    with pytest.raises(WrongInput, match="its provenance.json has format_version 99; this release reads 1"):
        export(str(folder), "space", str(tmp_path / "of-later"), registry)

    for file in ("report.json", "provenance.json"):  # as earlier releases exported it
        (folder / file).unlink()
    told = describe(load(str(folder), "", SETTINGS), "model")
    assert told["figures"] == {} and "| fid_classifier (n=64) | 2 |" in told["card"]


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """A checkpoint, exported."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(checkpoint, "safetensors", str(folder), "")
    return folder


REPORT = {
    "metric": "fid_classifier", "n": 64, "fid": 2.0, "fid_std": 0.1, "kid": 0.2, "kid_std": 0.01,
    "protocol": {"measurement": {"dataset_digest": "abc"}, "generation": {"sampler": "ddim"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([REPORT], "it is [{"),
        ("report", 'it is "report"'),
        ({}, "it holds no 'fid'"),
        ({**REPORT, "protocol": "x"}, 'protocol is "x"'),
        ({**REPORT, "protocol": {"measurement": []}}, "protocol.measurement is []"),
        ({**REPORT, "protocol": {**REPORT["protocol"], "generation": 3}}, "protocol.generation is 3"),
        ({**REPORT, "fid": "low"}, 'fid is "low"'),
        ({**REPORT, "copying": {"share": None}}, "copying is "),
        ({**REPORT, "intervals": {"fid": ["low", "high"]}}, "intervals is "),
        ({**REPORT, "noise_floor": {"fid": "none"}}, "noise_floor is "),
    ],
)
def test_a_report_that_is_none_is_one_clear_line(folder, written, says, capsys):
    (folder / "report.json").write_text(json.dumps(written))
    with pytest.raises(WrongInput) as refused:
        load(str(folder), "", SETTINGS)
    for words in ("its report.json is damaged:", says, "export it again"):
        assert words in str(refused.value)
    assert main(["export", "--model", str(folder), "--format", "space", "--out", f"{folder}-space"]) == 2
    assert "its report.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("intervals", [{"fid": None}, {"fid": [None, None]}, {"fid": [1]}])
def test_figures_that_were_not_finite_are_no_damage(folder, intervals):
    """None as they are kept now, and NaN as some hand may have written it: a server answers in JSON, which has neither."""
    odd = {**REPORT, "fid": float("nan"), "fid_std": None, "intervals": intervals, "copying": None}
    (folder / "report.json").write_text(json.dumps(odd))
    served = load(str(folder), "", SETTINGS)
    told = describe(served, "model")
    assert (told["figures"]["fid"], told["figures"]["kid"]) == (None, 0.2)
    json.dumps(told, allow_nan=False)
    assert "| kid_classifier (n=64) | 0.2 | ± 0.02 |" in card(served.model, "safetensors", "ema", served.report)


def test_a_report_of_an_early_release_without_its_number_of_pictures_is_shown(folder):
    (folder / "report.json").write_text(json.dumps({name: value for name, value in REPORT.items() if name != "n"}))
    served = load(str(folder), "", SETTINGS)
    told = card(served.model, "safetensors", "ema", served.report)
    assert "\nThey compare with" in told and "| fid_classifier | 2 | ± 0.2 |" in told


def test_what_every_request_would_be_refused_for_is_refused_at_the_start(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    settings = tmp_path / "model" / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "guidance": 3.0}))
    with pytest.raises(WrongInput, match=r"guidance: 3.0 will not do"):
        load(str(tmp_path / "model"), "", SETTINGS)


def test_what_lies_beside_a_checkpoint_is_not_its_report(checkpoint, tmp_path):
    """Whoever trains into a folder may keep anything there."""
    where = checkpoint.rsplit("/", 2)[0]
    beside = os.path.join(where, "report.json")
    with open(beside, "w") as file:
        file.write("{}")
    try:
        assert load(where, "", SETTINGS).report is None
    finally:
        os.unlink(beside)
