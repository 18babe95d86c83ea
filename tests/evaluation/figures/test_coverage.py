"""Coverage: what is missing is named, and chance is not taken for a difference."""

import pytest
import torch

from ddpm.evaluation.figures.coverage import EXAMPLES, by_class, by_cluster

REAL = torch.arange(400) % 4
NAMES = ["a", "b", "c", "d"]


def test_equal_shares_miss_nothing():
    found = by_class(torch.arange(200) % 4, REAL, NAMES)
    assert found["missing"] == [] and found["distance"] == 0 and found["by_chance"] > 0
    assert [row["real"] for row in found["rows"]] == [0.25] * 4
    assert all(row["low"] < row["generated"] < row["high"] for row in found["rows"])


def test_a_class_that_is_not_drawn_is_named():
    found = by_class(torch.arange(300) % 3, REAL, NAMES)
    assert found["missing"] == ["d"]
    assert found["distance"] == pytest.approx(0.25) and found["distance"] > 5 * found["by_chance"]


def test_too_few_pictures_prove_nothing():
    assert by_class(torch.tensor([0, 1, 2]), REAL, NAMES)["missing"] == []


def test_clusters_that_are_not_drawn_are_named():
    noise = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    real = noise + 50 * torch.nn.functional.one_hot(REAL, 4)[:, :3]
    full, half = by_cluster(real[:200] + 0.1, real, 4), by_cluster(real[REAL < 2], real, 4)
    assert full["missing"] == [] and full["by"] == "cluster"
    assert len(half["missing"]) == 2
    assert by_cluster(real[:200] + 0.1, real, 4) == full
    kinds = [set(REAL[row["examples"]].tolist()) for row in full["rows"]]
    assert sorted(map(list, kinds)) == [[0], [1], [2], [3]], "each row's examples are of its own kind"
    assert [len(row["examples"]) for row in full["rows"]] == [EXAMPLES] * 4
    (alone,) = by_cluster(real[:20], real[:1], 4)["rows"]
    assert alone["examples"] == [0]
