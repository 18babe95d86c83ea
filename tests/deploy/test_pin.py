"""Images by digest, written into an overlay."""

import shutil
import subprocess
import sys
from pathlib import Path

import policies
import pytest
from processes import kustomize

ROOT = Path(__file__).parents[2]
DIGESTS = {name: f"sha256:{str(place) * 64}" for place, name in enumerate(("ddpm-mlflow", "ddpm-serve"))}
IMAGES = [f"registry.example:5000/mine/{name}@{digest}" for name, digest in DIGESTS.items()]


@pytest.fixture
def tree(deploy, tmp_path):
    """A copy of deploy/, with secrets."""
    return shutil.copytree(deploy, tmp_path / "deploy")


def pin(tree, *words):
    """With the standard library alone."""
    return subprocess.run(
        [sys.executable, "-I", "-S", tree / "pin.py", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("overlay", "of"), [("dev", "gpu"), ("aws", "aws")])
def test_an_overlay_has_its_images_by_digest(tree, overlay, of):
    done = pin(tree, overlay, *IMAGES)
    assert (done.returncode, done.stdout) == (0, f"deploy/overlays/{overlay}/kustomization.yaml\n"), done.stderr
    objects = kustomize(tree / "overlays" / of)
    images = {one["image"] for pod in policies.pods(objects) for one in pod.containers}
    assert {image for image in images if "ddpm-" in image} == set(IMAGES)
    assert policies.images_are_pinned(objects) == []
    again = [image.replace("sha256:0", "sha256:f") for image in IMAGES]
    assert pin(tree, overlay, *again).returncode == 0, "and the next release's after them"
    assert set(again) <= {
        one["image"] for pod in policies.pods(kustomize(tree / "overlays" / of)) for one in pod.containers
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name one overlay (aws, dev, kserve; gpu takes dev's), and images by digest"),
        (("dev",), "and images by digest"),
        (("gpu", IMAGES[0]), "name one overlay"),
        (("dev", "registry.example/ddpm-serve:0.2.0"), "'registry.example/ddpm-serve:0.2.0' is no image by digest"),
        (("dev", "ddpm-serve@sha256:" + "0" * 64), "is no image by digest"),
        (("dev", IMAGES[0], IMAGES[1][:-1]), "is no image by digest"),
        (("dev", IMAGES[0].replace("mine/", "/../")), "is no image by digest"),
        (("dev", IMAGES[0].replace("mine/", "../mine/")), "is no image by digest"),
        (("dev", IMAGES[0].replace("/ddpm", "//ddpm")), "is no image by digest"),
        (("dev", IMAGES[0].replace("mine", "mine:1")), "is no image by digest"),
        (("dev", *IMAGES, IMAGES[0].replace("mine", "yours")), "ddpm-mlflow is given twice, and each time as another"),
        (("dev", *IMAGES, IMAGES[0].replace(":0", ":1")), "ddpm-mlflow is given twice, and each time as another"),
        (("kserve", *IMAGES), "the overlay's `images` do not name ddpm-mlflow"),
    ],
)
def test_what_will_not_do_changes_nothing(tree, words, said):
    before = {path: path.read_text() for path in tree.glob("overlays/*/kustomization.yaml")}
    done = pin(tree, *words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert {path: path.read_text() for path in tree.glob("overlays/*/kustomization.yaml")} == before
    assert not [*tree.glob("overlays/*/tmp*")]


def test_a_tag_beside_the_digest_is_left_out(tree):
    tagged = [image.replace("@", ":V1.2_rc-3@") for image in IMAGES]
    assert pin(tree, "dev", *tagged, tagged[0]).returncode == 0, "and the same twice is the same"
    written = (tree / "overlays" / "dev" / "kustomization.yaml").read_text()
    assert "V1.2" not in written and all(image.split("@")[0] + ", digest: " in written for image in IMAGES)


@pytest.mark.parametrize("overlay", ["aws", 'a"; touch x; "', "a`touch x`", "a$HOME"])
def test_make_hands_it_both_as_they_were_written(tree, overlay):
    """OVERLAY is no part of a command that the shell reads."""
    makefile = shutil.copy(ROOT / "Makefile", tree.parent)
    called = tree.parent / "python"
    called.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    called.chmod(0o755)
    for target, program in (
        ("pin", ["deploy/pin.py", overlay, IMAGES[0]]),
        ("secrets", ["deploy/passwords.py", overlay]),
    ):
        words = [f"OVERLAY={overlay}", f"IMAGES={IMAGES[0]}", f"PYTHON={called}"]
        made = subprocess.run(
            # make says where it is when another make runs the tests
            ["make", "--no-print-directory", "-f", makefile, target, *words],
            cwd=tree.parent, capture_output=True, text=True,
        )  # fmt: skip
        assert made.stdout.splitlines() == program, made.stderr
    assert not (tree.parent / "x").exists()
