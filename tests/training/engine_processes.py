"""What the tests of the engine run in processes of their own."""

import dataclasses
import os
import signal

import torch

from ddpm.progress import Quiet
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.distributed import join_world
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer

MODEL = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)
SETTINGS = TrainSettings(lr=1e-3, epochs=4, batch_size=32, held_out_every=2, checkpoint_seconds=1e-6)
CPU = torch.device("cpu")


def trainer(data, out, settings=SETTINGS, model=MODEL, **others):
    torch.set_num_threads(1)
    return Trainer(model, settings, data, str(out), CPU, **others)


def train_here(data, out, kill):
    """`kill`: after how many steps of this process, and how many seconds, it is killed."""
    run = trainer(data, out, dataclasses.replace(SETTINGS, epochs=12), dataclasses.replace(MODEL, dropout=0.1))
    if kill is not None:
        steps, seconds = kill
        began, step = run.step, run._train_step
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

        def armed():
            if run.step == began + steps:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            return step()

        run._train_step = armed
    run.run(NoObserver(), Quiet())


def limit_memory(run, most):
    """More pictures than that at once do not fit."""
    forward = run.net.forward

    def tight(x, *others):
        if len(x) > most:
            raise torch.OutOfMemoryError("out of memory")
        return forward(x, *others)

    run.net.forward = tight


def train_as_rank(rank, size, port, data, out, settings, steps, box, room=None):
    """`room`: by rank, how many pictures fit into its memory at once."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with join_world() as world:
        run = trainer(data, out, settings, world=world)
        if room:
            limit_memory(run, room[rank])
        if steps is None:
            facts = run.run(NoObserver(), Quiet())
            box.put((rank, facts["weights_sha256"]))
            return
        for _ in range(steps):
            run._train_step()
        assert not room or run.micro <= room[rank]
        box.put((rank, [weight.detach().numpy() for weight in run.weights]))
