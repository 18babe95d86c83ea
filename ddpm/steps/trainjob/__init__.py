"""A step on several nodes: a TrainJob of Kubeflow Trainer's (2.2 or later), which the step's own task makes, follows and ends.

    nodes.py      what is asked for: how many nodes, and what the pod on each takes ($DDPM_TRAINJOB)
    manifest.py   the TrainJob, as Kubernetes is given it
    api.py        what is asked of Kubernetes, with an outage waited out
    following.py  taken up, followed and ended; what came of it
    log.py        the log of the first node, passed on
    rank.py       what each process on the nodes runs; rank 0 leaves its outcome in the run's folder

The task itself trains nothing and needs no GPU. One TrainJob belongs to one folder of checkpoints, by its name, which
Kubernetes gives once: two never train on the same folder. A second attempt at the step finds the one that the first left
and takes it over, or waits until all of it is gone.
"""

from ddpm.steps.trainjob.following import end_left_over, train_in_job
from ddpm.steps.trainjob.nodes import VARIABLE, Nodes, told
from ddpm.steps.trainjob.rank import call, leave

__all__ = ["VARIABLE", "Nodes", "call", "end_left_over", "leave", "told", "train_in_job"]
