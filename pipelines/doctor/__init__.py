"""`make doctor`: a cluster looked over before a run, by what is asked of it. Nothing is changed there.

    finding.py     what was found, in a line
    server.py      Kubeflow Pipelines: that it answers, and how old it is
    images.py      the tasks' image, and the servers': whether their registries have them
    namespace.py   the namespace in which tasks run: Secret, ConfigMap, quotas
    retries.py     what Argo does with a failed step
    nodes.py       nodes that would take the pods
    trainjob.py    where the final training has several nodes: Kubeflow Trainer, its runtime, and the tasks' rights
    places.py      the object store, MLflow, and the study's database
    probe.py       a tiny run, for who asks for it: whether a step that fails is tried again

Kubernetes is asked through the kubeconfig of who runs this, or the pod's own account.
"""
