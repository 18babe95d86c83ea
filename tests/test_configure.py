"""What a run finds out before it begins."""

import pytest
import torch

from ddpm.errors import Outage, WrongInput
from ddpm.progress import Quiet
from ddpm.steps.configure import configure
from ddpm.store import open_store


@pytest.fixture
def parameters(tmp_path):
    return {
        "run_name": "r", "store": str(tmp_path / "store"), "tracking_uri": f"sqlite:///{tmp_path}/m.db",
        "study_storage": str(tmp_path / "j"), "extractor": "inception", "score_n": 64,
    }  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    """As of a file that ends below the last blocks."""
    state = {name: torch.zeros(1) for name in ("Mixed_7c.branch1x1.conv.weight", "fc.weight")}
    torch.save({**state, "Mixed_6e.branch1x1.conv.weight": torch.ones(1)}, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def test_inceptions_weights_are_looked_at_before_anything_is_ingested(parameters, weights, tmp_path):
    (tmp_path / "none.pth").write_bytes(b"nothing")
    for changes, words in (
        ({"weights": "/no/w.pth"}, "weights: there is no file /no/w.pth"),
        ({"weights": f"file://{tmp_path}/store/w.pth"}, "there is no object"),
        ({"weights": weights, "weights_sha256": "0" * 64}, "not 0000"),
        ({"weights": weights, "layer": 2048}, "layer: .* up to layer 768 only"),
        ({"weights": str(tmp_path / "none.pth")}, "no state dict of torch-fidelity's Inception-v3"),
    ):
        with pytest.raises(WrongInput, match=words):
            configure({**parameters, **changes}, Quiet())
    assert not list(open_store(parameters["store"]).list("runs")), "and the name is bound to nothing"
    configure({**parameters, "weights": weights, "layer": 768}, Quiet())


def test_weights_that_cannot_be_downloaded_are_found_there_too(parameters, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(Outage) as refused:
        configure(parameters, Quiet())
    file = "weights-inception-2015-12-05-6726825d.pth"
    assert str(refused.value) == (
        "weights: Inception's could not be downloaded (Name or service not known); fetch "
        f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{file} (sha256 6726825d…) by hand, "
        f"and go on with SET='weights=/path/to/{file}' (--weights)"
    )
    assert not list(open_store(parameters["store"]).list(""))
