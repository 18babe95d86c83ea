"""How large a network is, before it is built."""

import pytest
import torch

from ddpm.device import memory_of
from ddpm.errors import WrongInput
from ddpm.model.unet import UNet, require_room, weights_of
from ddpm.settings import ModelSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("image_size", "changes"),
    [
        (8, {"channel_mults": "1"}),
        (8, {"channel_mults": "1-2-4", "blocks": 1}),
        (16, {"channel_mults": "2-1-3", "blocks": 3, "attention_resolution": 0}),
        (32, {"channel_mults": "1-2-2-4", "attention_resolution": 16, "classes": 7}),
        (16, {"channel_mults": "1-2", "attention_resolution": 16, "augment": 0.1}),
    ],
)
def test_weights_are_counted_as_they_are_built(image_size, changes):
    settings = ModelSettings(base_channels=8, **changes)
    built = sum(weight.numel() for weight in UNet(settings, image_size).parameters())
    assert weights_of(settings, image_size) == built


def test_a_network_that_no_machine_has_memory_for_is_one_line():
    largest = ModelSettings(base_channels=4096, blocks=64, channel_mults="-".join(["99"] * 10))
    with pytest.raises(
        WrongInput, match=r"a network of [0-9,]{20,} weights, .* GiB to train, and there are .*; lower one"
    ):
        require_room(largest, 512, 20, CPU)
    require_room(ModelSettings(), 64, 20, CPU)
    assert 2**28 < memory_of(CPU) < 2**60
