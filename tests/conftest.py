"""Pictures, an S3 server and an MLflow database that every room's tests may use."""

import threading

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


@pytest.fixture(scope="session")
def moto():
    """The address of an S3 server that keeps to conditions, and checks no signature."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ, start):
        """As S3 does, and moto's threads do not: between its look for an object and its writing there is a gap."""
        with alone:
            return app(environ, start)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of an MLflow database in which nothing is yet: making one takes longer than most tests."""
    from ddpm.tracking import open_client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path
