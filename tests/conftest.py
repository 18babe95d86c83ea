"""Pictures that every room's tests may use."""

import pytest


@pytest.fixture(scope="session")
def digits():
    """256 training and 64 held-out digits at 8x8, as ingest publishes them."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from ddpm.data.dataset import PictureSet, Split

    raw = load_digits()
    grey = torch.from_numpy(np.round(raw.images * 255 / 16).astype(np.uint8))
    images, labels = grey[:, None].repeat(1, 3, 1, 1), torch.from_numpy(raw.target.astype(np.int64))
    return PictureSet(
        uri="memory:digits", digest="0" * 64, name="digits", image_size=8, classes=[str(i) for i in range(10)],
        train=Split(images[:256], labels[:256]), held_out=Split(images[256:320], labels[256:320]), manifest={},
    )  # fmt: skip
