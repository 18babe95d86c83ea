"""A tiny model in a registry, and servers of it at addresses of their own."""

import contextlib

import pytest
from sites import running, train


@pytest.fixture(scope="session")
def checkpoint(digits, tmp_path_factory):
    """A trained network of 8x8: its checkpoint's URI."""
    return train(tmp_path_factory.mktemp("out"), digits, 0)


@pytest.fixture(scope="session")
def checkpoints(checkpoint, digits, tmp_path_factory):
    """Three of them, the first that one."""
    return [checkpoint, *(train(tmp_path_factory.mktemp("out"), digits, seed) for seed in (1, 2))]


@pytest.fixture(scope="session")
def labelled(digits, tmp_path_factory):
    """A network that knows ten classes: its checkpoint's URI."""
    return train(tmp_path_factory.mktemp("labelled"), digits, 0, classes=10)


@pytest.fixture
def registry(tmp_path, checkpoints):
    """An MLflow database in which all three are versions of `m`, and the first is its champion: its URI."""
    from ddpm.registry.version import register
    from ddpm.tracking import open_client
    from ddpm.training.checkpoint import read_facts

    place = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    for number, uri in enumerate(checkpoints):
        generation = {
            "weights_sha256": read_facts(uri)["sha256"]["ema.safetensors"], "sampler": "ddim", "sampling_steps": 4,
            "checkpoint": uri,
        }  # fmt: skip
        report = {
            "metric": "fid_classifier", "fid": 3.0 - number, "fid_std": 0.1, "kid": 0.2, "kid_std": 0.01, "n": 64,
            "copying": {"share": 0.0, "share_held_out": 0.0, "excess_low": -0.1}, "noise_floor": {"fid": 0.1, "kid": 0.0},
            "page": f"{uri}/page.html", "grid": f"{uri}/grid.png", "pictures": {"grid": f"{uri}/grid.png"},
            "protocol": {
                "measurement": {"extractor": "classifier", "n": 64, "image_size": 8, "dataset_digest": "abc"},
                "generation": generation,
            },
        }  # fmt: skip
        register(place, "m", uri, report, None, {})
    open_client(place).set_registered_model_alias("m", "champion", "1")
    return place


@pytest.fixture
def point(registry):
    """Moves an alias of `m` to a version."""
    from ddpm.tracking import open_client

    return lambda alias, version: open_client(registry).set_registered_model_alias("m", alias, str(version))


@pytest.fixture
def guided(registry, checkpoints):
    """A further version of `m`, the second checkpoint led by 2 away from the third: its number."""
    from ddpm.registry.version import figures, register
    from ddpm.training.checkpoint import read_facts

    report = dict(figures(registry, "m", 2))
    guide = {"guidance": 2.0, "guide": read_facts(checkpoints[2])["sha256"]["ema.safetensors"]}
    report["protocol"] = {**report["protocol"], "generation": report["protocol"]["generation"] | guide}
    return register(registry, "m", checkpoints[1], report, None, {}, guide=checkpoints[2])["version"]


@pytest.fixture
def serve():
    """Starts servers that end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *reference, **settings: stack.enter_context(running(*reference, **settings))


@pytest.fixture(scope="module")
def site(checkpoint):
    """A server of the first checkpoint, for tests that change nothing of it."""
    with running(checkpoint) as found:
        yield found
