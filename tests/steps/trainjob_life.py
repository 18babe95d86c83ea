"""What becomes of a TrainJob while a test looks at it: for `TrainerStub`'s `on_read`."""

import json

import pytest

from ddpm.steps.trainjob import following, train_in_job
from ddpm.steps.trainjob.manifest import OUTCOME

FACTS = {"checkpoint": "s3://bucket/final/checkpoint-1", "images_seen": 7}


def leaving(run, **found):
    """At a look: rank 0 has left this, and the TrainJob is over."""

    def on_read(stub, job):
        folder, outcome = run.folder, job["metadata"]["annotations"][OUTCOME]
        folder.write(f"trainjob/{outcome}.json", json.dumps(found).encode())
        stub.phase(job, "Succeeded", "Succeeded")
        stub.say(job, "Complete" if "facts" in found else "Failed")
        stub.on_read = None

    return on_read


def looks(*steps):
    """At each look one of these, in turn."""
    left = list(steps)

    def on_read(stub, job):
        if left:
            left.pop(0)(stub, job)

    return on_read


def failing(*phases, **more):
    def on_read(stub, job):
        stub.phase(job, *phases, **more)
        stub.say(job, "Failed", "FailedJobs", "jobset failed")

    return on_read


def killed(stub, run, nodes, wanted, told):
    """An attempt that was killed as soon as it had begun: it could end nothing."""

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(following, "_end", lambda *arguments: None)
        patch.setattr(following, "_see_through", kill)
        train_in_job(nodes, run, told, wanted)
    assert len(stub.jobs) == 1
