"""Kubeflow Pipelines' own server."""

import pytest
from looked_over import about

from pipelines.doctor.finding import OK, UNKNOWN, WRONG


@pytest.mark.parametrize(
    ("version", "state", "words"),
    [
        ("2.17.0", OK, "Kubeflow Pipelines 2.17.0"),
        ("2.16.1", OK, "Kubeflow Pipelines 2.16.1"),
        ("2.15.0", WRONG, "it ignores the security context, and tasks run as root or are refused. Upgrade it to 2.16"),
        ("2.14.4", WRONG, "optional Secrets and ConfigMaps are not optional to it"),
        ("unknown", UNKNOWN, "does not say its version; 2.16 or later is needed"),
        (None, UNKNOWN, "does not say its version"),
    ],
)
def test_the_server_s_version(doctor, kubeflow, version, state, words):
    _, found = doctor("--endpoint", kubeflow(version=version).url)
    ((is_state, is_words),) = about(found, "Kubeflow Pipelines")
    assert is_state == state
    assert words in is_words


def test_a_server_that_is_away_or_asks_for_a_token(doctor, kubeflow):
    assert (WRONG, "no server answers") in [
        (state, words[20:37]) for state, words in about(doctor("--endpoint", "http://127.0.0.1:9")[1], "Kubeflow")
    ]
    _, found = doctor("--endpoint", kubeflow(token="t").url)
    assert "asks for a token; export KFP_TOKEN" in about(found, "Kubeflow")[0][1]
