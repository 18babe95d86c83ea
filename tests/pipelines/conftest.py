"""A server of Kubeflow Pipelines for the tests of what talks to one."""

import pytest
from kfp_stub import KubeflowStub


@pytest.fixture
def kubeflow():
    """Makes one whose run goes through these states."""
    made = []

    def make(*states, **options):
        made.append(KubeflowStub(states or ("SUCCEEDED",), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
