"""Real pictures, and what they are measured by."""

import pytest

from ddpm.data.dataset import open_dataset
from ddpm.data.ingest import ingest
from ddpm.evaluation.reference import open_reference
from ddpm.progress import Quiet
from ddpm.settings import EvaluateSettings, IngestSettings
from ddpm.store import open_store


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory):
    """scikit-learn's digits as published, their store, and their reference: of two classifiers."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    data = open_dataset(ingest(IngestSettings(image_size=8), store, Quiet())["uri"])
    return data, store, open_reference(EvaluateSettings(extractor="classifier"), data, store, "cpu", Quiet())
