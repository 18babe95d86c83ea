"""An exported Space, started as it is started there, in an environment of its own needs, and clicked in a browser."""

import importlib.metadata
import json
import os
import runpy
import shutil
import subprocess
import sys

import pytest
from test_page import browser, opened  # noqa: F401

from ddpm.registry.export import export
from ddpm.serving.settings import ServeSettings
from ddpm.serving.versions import load

# What a Space has not installed must not be asked for.
START = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mlflow", "boto3", "yaml", "pandas", "scipy", "sklearn", "sqlalchemy", "optuna", "kfp", "rich", "jinja2", "requests", "torchvision"):
            raise ImportError(f"{name} is not among requirements.txt")

sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/app.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def space(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "space"
    facts = export(checkpoint, "space", str(folder), "")
    assert {"README.md", "app.py", "Dockerfile", "requirements.txt", "model/weights.safetensors"} <= set(facts["files"])
    return folder


def test_a_space_says_what_it_is_and_what_it_needs(space):
    readme = (space / "README.md").read_text()
    assert (
        readme.startswith("---\n")
        and "sdk: docker\napp_port: 7860\n" in readme
        and "# A diffusion model of 8×8" in readme
    )
    needs = dict(line.split("==") for line in (space / "requirements.txt").read_text().splitlines())
    for name, version in needs.items():
        assert importlib.metadata.version(name).startswith(version)
    assert not list(space.rglob("*.pyc"))


def test_a_space_of_a_version_has_its_figures_and_no_path_of_the_machine(registry, checkpoint, tmp_path):
    export("models:/m/1", "space", str(tmp_path / "space"), registry)
    export(checkpoint, "space", str(tmp_path / "unregistered"), registry)
    assert json.loads((tmp_path / "space" / "model" / "report.json").read_text())["fid"] == 3.0
    assert "page" not in json.loads((tmp_path / "space" / "model" / "report.json").read_text())
    told = (tmp_path / "space" / "README.md").read_text()
    assert "## Intended use" in told and "## Provenance" in told and "- From" not in told
    assert "ddpm sample --model model --n 16" in told
    page = load(str(tmp_path / "space" / "model"), "", ServeSettings(batch=16))
    assert page.card == told.partition("---\n\n")[2], "the page shows the card that the Space's README is"
    assert page.report["fid"] == 3.0
    where = os.path.dirname(checkpoint).encode()
    assert not [
        path
        for path in tmp_path.rglob("*/*")
        if "mlflow" not in path.parts and path.is_file() and where in path.read_bytes()
    ]


def test_a_space_that_cannot_start_says_why_in_one_line(space, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "space"
    shutil.copytree(space, broken)
    for file, port, says in (
        ("[]", "0", "its report.json is damaged: it is []; register or export it again"),
        ("[]", "many", "port: 'many' is not a whole number"),
    ):
        (broken / "model" / "report.json").write_text(file)
        monkeypatch.setenv("DDPM_SERVE_PORT", port)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(broken / "app.py"), run_name="__main__")
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("app.py: ") and says in said and said.count("\n") == 1, said


def test_a_space_is_started_and_clicked(space, browser, tmp_path):  # noqa: F811
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "DDPM_SERVE_PORT": "0",
        "DDPM_SERVE_ANYONE": "true",
        "DDPM_SERVE_ALLOWED_HOSTS": "*",
        "HOME": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-c", START, str(space)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as app:
        try:
            said = []
            for line in app.stderr:
                said.append(line)
                if line.startswith("serving at"):
                    break
            assert said and said[-1].startswith("serving at"), said
            with opened(browser, said[-1].split()[2].rstrip(";")) as page:
                page.fill("#draw [name=seed]", "5")
                page.fill("#drawing [name=steps]", "3")
                page.click("#draw button")
                with page.expect_download() as download:
                    page.click("#download:not([hidden])")
                assert download.value.suggested_filename == "5.png"
                with open(download.value.path(), "rb") as file:
                    assert file.read().startswith(b"\x89PNG")
        finally:
            app.terminate()
            app.wait(60)
