"""What the pipeline's ingest tells a person, and keeps, of the pictures that it takes."""

import json

import numpy as np
import pytest
from PIL import Image

from ddpm.plan import Plan
from ddpm.run import Run
from ddpm.steps.ingest import in_pipeline
from ddpm.summary import gather
from pipelines.closing import lines

SAID = "24 of 32 pictures (max_pictures)"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A run whose ingest has taken fewer pictures than there are, of classes that its network is not told of."""
    folder = tmp_path_factory.mktemp("step")
    draw = np.random.default_rng(0)
    for name in "ab":
        (folder / "in" / name).mkdir(parents=True)
        for number in range(16):
            picture = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "in" / name / f"{number}.png")

    def ingest(run_name, **changes):
        plan = Plan.from_parameters({
            "run_name": run_name, "store": str(folder / "store"), "tracking_uri": f"sqlite:///{folder}/m.db", "study_storage": str(folder / "j"),
            "source": str(folder / "in"), "dataset_name": "d", "image_size": 8, "max_pictures": 24, **changes,
        })  # fmt: skip
        (folder / "plan.json").write_text(json.dumps({"plan": json.loads(plan.to_json())}))
        Run(plan).write_plan()
        in_pipeline(str(folder / "plan.json"), output=str(folder / "out.json"))
        return Run(plan)

    return ingest


def test_fewer_pictures_than_there_are_and_classes_that_are_not_used_are_said(ingested, capsys):
    run = ingested("few")
    said = [
        json.loads(line[6:])["say"] if line.startswith("@ddpm ") else line
        for line in capsys.readouterr().err.splitlines()
    ]
    assert any(line.startswith("data set d: ") and line.endswith(f"ingested; {SAID}") for line in said)
    assert "2 classes found, not used; SET='classes=2' tells the network of them" in said
    with run.tracker.parent() as tracked:
        found = tracked.client.get_run(tracked.run_id)
        assert found.data.tags["dataset_taken"] == SAID
        tracked.dataset(run.facts("ingest"))
        assert SAID in tracked.client.get_run(tracked.run_id).inputs.dataset_inputs[0].dataset.profile
    summary = gather(run, succeeded=False)
    assert summary["dataset"]["taken"] == SAID
    floor = {"fid": 1.0, "kid": 0.1, "extrapolated": False, "n": 4}
    final = {"fid": 1.0, "kid": 0.1, "fid_std": 0.1, "kid_std": 0.1, "noise_floor": floor}
    model = {"name": "m", "version": 1, "aliases": [], "new": True}
    whole = {**summary, "best_why": "", "final": final, "model": model, "protocol": {"measurement": {}}}
    assert any(
        line.startswith("data set") and line.endswith(SAID.replace("[", "\\["))
        for line in lines(whole, run.plan, "again")
    )


def test_all_pictures_and_classes_that_are_used_need_no_word(ingested, capsys):
    run = ingested("all", max_pictures=0, classes=2)
    said = capsys.readouterr().err
    assert "max_pictures" not in said
    assert "not used" not in said
    assert "taken" not in gather(run, succeeded=False)["dataset"]


def test_a_second_set_is_looked_at_before_anything_is_trained(ingested, tmp_path, capsys):
    """By the first set's ingest: what its network would be told, its measurement would need, and what is no picture."""
    first = {"held_out": 0.25, "transfer_dataset_name": "other"}
    (tmp_path / "b").mkdir()
    for number in range(16):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "b" / f"{number}.png")
    second = {**first, "transfer_source": str(tmp_path)}
    for changes, status, says in (
        ({"transfer_classes": 2}, 2, "transfer_classes: 2, but other has 1; give that, or 0"),
        ({"extractor": "classifier"}, 3, "extractor: data set other has pictures without a class"),
    ):
        with pytest.raises(SystemExit) as ended:
            ingested(f"refused-{status}", **second, **changes)
        assert ended.value.code == status
        assert says in capsys.readouterr().out
    run = ingested("both", **second)
    assert run.facts("ingest")["second_n"] + 4 >= 12
    assert run.second.facts("ingest") is None, "its own step leaves that"
    summary = gather(run, succeeded=False)
    assert summary["transfer"] == {"begun_from": "scratch"}
