"""`make secrets`: what it draws, what it takes, and what it leaves alone."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """deploy/ without anybody's secrets."""
    ignored = lambda folder, names: {n for n in names if Path(folder).name == "secrets" and not n.endswith(".example")}  # noqa: E731
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=ignored)
    return tmp_path / "deploy"


def draw(tree, *words, **environment):
    command = [sys.executable, "-I", "-S", tree / "passwords.py", *words]  # the standard library alone
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_every_blank_is_filled_in_and_files_are_their_owner_s(tree):
    assert draw(tree, "dev").returncode == 0
    folder = tree / "overlays/dev/secrets"
    written = {file.name: file.read_text() for file in folder.iterdir() if file.suffix != ".example"}
    assert {f"{name}.example" for name in written} == {file.name for file in folder.glob("*.example")}
    assert "${" not in "".join(written.values())
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir() if file.name in written} == {0o600}
    drawn = re.findall(r"(?<==)[\w-]{32}$", "".join(written.values()), re.MULTILINE)
    assert len(set(drawn)) >= 8


def test_no_two_people_get_the_same(tree, tmp_path):
    draw(tree, "aws")
    first = (tree / "overlays/aws/secrets/mlflow.env").read_text()
    for file in (tree / "overlays/aws/secrets").glob("*[!e]"):
        file.unlink()
    assert draw(tree, "aws").returncode == 0
    assert (tree / "overlays/aws/secrets/mlflow.env").read_text() != first


def test_the_token_is_told_and_only_its_digest_is_kept(tree):
    said = draw(tree, "dev").stdout
    token = re.search(r"^TOKEN=(\S+)", said, re.MULTILINE)[1]
    assert (
        tree / "overlays/dev/secrets/tokens"
    ).read_text() == f"first sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"
    assert not [file for file in tree.rglob("*") if file.is_file() and token in file.read_text()]


def test_what_is_there_is_not_drawn_anew(tree):
    (tree / "overlays/dev/secrets/serve.env").write_text("MINE=1\n")
    found = draw(tree, "dev")
    assert (found.returncode, found.stdout) == (2, "")
    assert "serve.env" in found.stderr and found.stderr.count("\n") == 1
    assert (tree / "overlays/dev/secrets/serve.env").read_text() == "MINE=1\n"
    assert not (tree / "overlays/dev/secrets/ddpm.env").exists()


def test_a_value_may_be_given(tree):
    assert draw(tree, "aws", OPTUNA_PASSWORD="given-by-a-person").returncode == 0
    assert "PGPASSWORD=given-by-a-person\n" in (tree / "overlays/aws/secrets/ddpm.env").read_text()


@pytest.mark.parametrize("value", ["short", 'with "quotes" in it', "a line\nand another one", "${OTHER_PASSWORD}", ""])
def test_a_value_that_will_not_do_is_refused_and_nothing_is_written(tree, value):
    found = draw(tree, "aws", OPTUNA_PASSWORD=value)
    assert found.returncode == 2
    assert found.stderr.startswith("OPTUNA_PASSWORD: ") and found.stderr.count("\n") == 1
    assert not [file for file in (tree / "overlays/aws/secrets").iterdir() if file.suffix != ".example"]


@pytest.mark.parametrize("words", [[], ["gpu"], ["../dev"], ["dev", "aws"]])
def test_an_overlay_is_named_and_has_secrets_of_its_own(tree, words):
    found = draw(tree, *words)
    assert found.returncode == 2
    assert "aws, dev" in found.stderr


def test_what_is_written_is_kept_out_of_git():
    asked = [
        "git",
        "check-ignore",
        "deploy/overlays/dev/secrets/ddpm.env",
        "deploy/overlays/dev/secrets/ddpm.env.example",
    ]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["deploy/overlays/dev/secrets/ddpm.env"]
