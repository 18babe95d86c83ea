"""Folders of generated pictures, as people have them."""

import pytest
import torch
from PIL import Image

from ddpm.errors import WrongInput
from ddpm.evaluation.evaluate import evaluate
from ddpm.evaluation.generated import look_into
from ddpm.pictures import png
from ddpm.progress import Quiet
from ddpm.settings import DrawSettings, EvaluateSettings


def folder_of(path, images, ending="png"):
    path.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        if ending == "png":
            (path / f"{number:04d}.png").write_bytes(png(image))
        else:
            Image.fromarray(image).save(path / f"{number:04d}.{ending}")
    return path


def test_what_lies_beside_and_below_the_pictures_is_counted(tmp_path):
    pictures = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    folder = folder_of(tmp_path / "made", pictures)
    Image.new("RGB", (8, 8)).save(folder / "more.JFIF", format="JPEG")
    for name in ("grid.png", ".DS_Store", "._0.png", "paper.pdf", "film.mpg", "film2.MPG", "LICENCE", "a.heic"):
        (folder / name).write_bytes(b"x")
    folder_of(folder / "cats" / "deep", pictures)
    (folder / "empty").mkdir()
    found = look_into(folder)
    assert [path.name for path in found.pictures] == ["0000.png", "0001.png", "0002.png", "more.JFIF"]
    beside, below = found.passed_over
    assert beside.startswith(
        "7 files beside the pictures are passed over: 2 .mpg, 2 hidden, 1 .heic, 1 .pdf, 1 without"
    )
    assert below.startswith("3 pictures in folders below are not taken") and below.endswith("3 in cats/")


def test_a_plain_folder_says_nothing(tmp_path):
    assert look_into(folder_of(tmp_path, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))).passed_over == []


def test_it_is_said_in_the_report_and_asked_anew_each_time(all_digits, tmp_path):
    data, store, _ = all_digits
    folder = folder_of(tmp_path / "made", data.held_out.images[:64])

    def warnings():
        return evaluate(
            folder, data, EvaluateSettings(extractor="classifier"), DrawSettings(), store, Quiet()
        )["warnings"]  # fmt: skip

    plain = warnings()
    (folder / "notes.txt").write_text("x")
    assert warnings() == ["1 file beside the pictures is passed over: 1 .txt", *plain]
    (folder / "notes.txt").unlink()
    assert warnings() == plain


def test_class_folders_are_named_where_there_is_nothing_else(all_digits, tmp_path):
    data, store, _ = all_digits
    for name in "01":
        folder_of(tmp_path / name, data.held_out.images[:20])
    with pytest.raises(WrongInput, match="itself holds no pictures.*40 pictures in folders below.*20 in 0/, 20 in 1/"):
        evaluate(tmp_path, data, EvaluateSettings(extractor="classifier"), DrawSettings(), store, Quiet())
