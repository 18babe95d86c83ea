"""The process that runs the compiled pipeline: that it knows the kfp which it changes."""

import tomllib
from pathlib import Path

import kfp

from ddpm.progress import EVENT_MARK
from pipelines.runner import KFP, Job, run_pipeline

ROOT = Path(__file__).parents[2]


def test_its_kfp_is_the_pinned_and_installed_one():
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pipeline"]
    assert f"kfp=={KFP}" in pinned and kfp.__version__ == KFP


def test_another_kfp_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kfp, "__version__", "9.9.9")
    assert not run_pipeline(Job(str(tmp_path / "none.yaml"), {}, str(tmp_path), "subprocess", "run", 1))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(EVENT_MARK)
    assert '"status": 2' in said and f"version 9.9.9 is installed, and its tasks are started as in {KFP}" in said
