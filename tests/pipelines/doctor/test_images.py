"""The images: asked for as `make submit` does, the tasks' and an overlay's."""

import pytest
import yaml
from looked_over import about

from ddpm.errors import WrongInput
from pipelines import registries
from pipelines.doctor import images
from pipelines.doctor.finding import OK, UNKNOWN, WRONG

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def registry(monkeypatch):
    """Answers of registries, by the image; the very function that submit asks (tests/pipelines/test_registries.py)."""
    answers = {"r.example/team/ddpm:1": ""}

    def look(image):
        if image.startswith("r.example"):
            if image not in answers:
                raise WrongInput(f"IMAGE: r.example has no {image}; push it, or name another (make image, docker push)")
            return answers[image]
        return f"image {image}: whether it is there is not known; r.example answers 401 here"

    monkeypatch.setattr(registries, "look", look)


def test_one_that_is_there_one_that_is_not_and_one_that_nobody_shows(doctor, registry):
    status, found = doctor("--image", "r.example/team/ddpm:1")
    assert (status, about(found, "image")) == (0, [(OK, "image r.example/team/ddpm:1 is there")])
    status, found = doctor("--image", "r.example/team/ddpm:2")
    assert status == 3 and about(found, "image r.example/team/ddpm:2: r.example has no")[0][0] == WRONG
    status, found = doctor("--image", "private.example/ddpm:1")
    assert status == 0 and about(found, "image private.example/ddpm:1: whether it is there")[0][0] == UNKNOWN


def test_an_overlay_s_servers_are_looked_for_too(doctor, registry):
    _, found = doctor("--image", "r.example/team/ddpm:1", "--overlay", "gpu")
    assert [words.partition(": ")[0] for _, words in about(found, "image")] == [
        "image r.example/team/ddpm:1 is there", "image registry.example/team/ddpm-mlflow:0.1.0", "image registry.example/team/ddpm-serve:0.1.0",
    ]  # fmt: skip


def test_an_overlay_s_images_are_what_kustomize_makes_of_it(tmp_path, monkeypatch):
    for name, facts in {
        "dev": {"images": [{"name": "a", "newName": "r.example/a", "newTag": "1"}, {"name": "b", "digest": DIGEST}]},
        "mine": {"resources": ["../dev", "file.yaml"], "images": [{"name": "r.example/a", "newTag": "2"}]},
        "plain": {},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(yaml.safe_dump(facts))
    monkeypatch.setattr(images, "OVERLAYS", tmp_path)
    assert images.servers_images("dev") == [f"b@{DIGEST}", "r.example/a:1"]
    assert images.servers_images("mine") == [f"b@{DIGEST}", "r.example/a:2"]
    assert images.servers_images("plain") == []
    with pytest.raises(
        WrongInput, match="OVERLAY: there is none named 'devv'; there are dev, mine, plain .did you mean dev"
    ):
        images.servers_images("devv")


def test_what_is_no_image_is_wrong_input(capsys):
    from pipelines.doctor.__main__ import main

    assert main(["--image", "https://r.example/ddpm"]) == 2
    assert "IMAGE: 'https://r.example/ddpm' is no image" in capsys.readouterr().err
