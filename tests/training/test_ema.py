"""The average's arithmetic."""

import pytest
import torch

from ddpm.training.ema import ema_decay, update_ema


def test_half_life_halves():
    """After half-life images of constant new weights, half of the old average is left, in steps of any size."""
    for batch in (10, 100, 1000):
        average, weights = [torch.ones(3, dtype=torch.float64)], [torch.zeros(3, dtype=torch.float64)]
        for _ in range(1000 // batch):
            update_ema(average, weights, 1 - ema_decay(batch, images_seen=10**9, half_life=1000))
        assert average[0].tolist() == pytest.approx([0.5] * 3)


def test_ramp_shortens_the_average_at_the_start():
    assert ema_decay(64, images_seen=1000, half_life=50_000) == pytest.approx(0.5 ** (64 / 50))
    assert ema_decay(64, images_seen=10**9, half_life=50_000) == pytest.approx(0.5 ** (64 / 50_000))
    assert ema_decay(64, images_seen=0, half_life=50_000) == 0, "the first step leaves nothing of the initial weights"


def test_is_the_recursion():
    average, expected = [torch.zeros(2)], torch.zeros(2)
    for step in range(5):
        weights = torch.tensor([step, -step]).float()
        update_ema(average, [weights], 0.1)
        expected = 0.9 * expected + 0.1 * weights
    torch.testing.assert_close(average[0], expected)


def test_a_share_on_the_device_is_the_same_share():
    whole, there = ([torch.linspace(-1, 1, 9), torch.ones(2, 2)] for _ in range(2))
    weights = [torch.linspace(3, 5, 9), torch.zeros(2, 2)]
    update_ema(whole, weights, 0.1)
    update_ema(there, weights, torch.tensor(0.1))
    torch.testing.assert_close(there, whole)
