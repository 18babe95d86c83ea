"""A cluster looked over: in order, not to be seen, or asked for what is none."""

from looked_over import PLACES, WELL, about

from pipelines.doctor.__main__ import main
from pipelines.doctor.finding import OK, UNKNOWN


def test_a_cluster_in_order(doctor, kubeflow):
    """The places' names are the cluster's own, and are not tried from here."""
    server = kubeflow(version="2.17.0")
    status, found = doctor("--endpoint", server.url, objects=WELL)
    assert status == 0
    assert (OK, f"Kubeflow Pipelines 2.17.0 at {server.url}") in found
    assert (OK, "gpu steps: 1 of 2 nodes would take 1 × nvidia.com/gpu") in found
    assert (OK, "retries: Argo's retryPolicy is Always") in found
    assert about(found, "ConfigMap ddpm") == [
        (OK, f"ConfigMap ddpm in namespace kubeflow: {', '.join(sorted(PLACES))}")
    ]
    assert about(found, "Secret ddpm")[0][0] == OK
    assert [state for state, _ in about(found, "image free-midjourney:0.1.0: it names no registry")] == [UNKNOWN]
    assert [state for state, words in found if words.startswith(("object store", "MLflow", "study"))] == [UNKNOWN] * 3


def test_what_is_not_there_is_not_looked_at_and_said_why(doctor):
    status, found = doctor()
    assert status == 0
    assert {state for state, _ in found} == {UNKNOWN}
    assert about(found, "Kubeflow Pipelines")[0][1].endswith("no ENDPOINT=http://HOST:PORT is given, nor KFP_ENDPOINT")
    for what in ("ConfigMap and Secret", "ResourceQuota", "retries", "nodes"):
        ((_, words),) = about(found, what)
        assert "no Kubernetes API is known here" in words and "KUBECONFIG" in words
    for what in ("object store", "MLflow", "study"):
        assert "neither this shell nor the ConfigMap says where it is" in about(found, what)[0][1]


def test_a_cluster_file_that_will_not_do_is_wrong_input(capsys):
    assert main(["--cluster", "nowhere"]) == 2
    assert "CLUSTER: there is neither a file 'nowhere' nor a cluster of that name" in capsys.readouterr().err
