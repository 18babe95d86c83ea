"""Modules of one's own, named in the environment, are known to the commands and to a pipeline's tasks."""

import json

import pytest

from ddpm import settings
from ddpm.cli import main
from ddpm.errors import WrongInput
from ddpm.extensions import load_extensions
from ddpm.model.sampling import SAMPLERS
from ddpm.steps.task import perform


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine_of_this_test.py").write_text(
        "from ddpm.model.sampling import Sampler, ddim, register\nregister('mine', Sampler(ddim))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DDPM_EXTENSIONS", "mine_of_this_test")
    yield
    SAMPLERS.pop("mine", None)
    settings.SAMPLERS[:] = [name for name in settings.SAMPLERS if name != "mine"]


def test_named_modules_are_imported(module):
    load_extensions()
    assert "mine" in settings.SAMPLERS


def test_one_that_cannot_be_imported_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DDPM_EXTENSIONS", "no_such_module_here")
    with pytest.raises(WrongInput, match="DDPM_EXTENSIONS: no_such_module_here cannot be imported"):
        load_extensions()
    assert main(["rank", "x.csv"]) == 2
    assert capsys.readouterr().err.startswith("ddpm: DDPM_EXTENSIONS: no_such_module_here cannot be imported")
    with pytest.raises(SystemExit) as ended:
        perform(
            "ingest", lambda: pytest.fail("no"), lambda run, progress: pytest.fail("no"), str(tmp_path / "out.json")
        )
    assert ended.value.code == 2
    event = json.loads(capsys.readouterr().out.removeprefix("@ddpm "))
    assert event["status"] == 2 and "no_such_module_here" in event["error"]
