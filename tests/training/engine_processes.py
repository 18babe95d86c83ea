"""What the tests of the engine run in processes of their own."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from ddpm.errors import Refused
from ddpm.progress import Quiet
from ddpm.settings import ModelSettings, TrainSettings
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World, join_world

MODEL = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)
SETTINGS = TrainSettings(lr=1e-3, epochs=4, batch_size=32, held_out_every=2, checkpoint_seconds=1e-6)
CPU = torch.device("cpu")
ALONE = World(CPU)


def trainer(data, out, settings=SETTINGS, model=MODEL, world=ALONE, start=None):
    torch.set_num_threads(1)
    return Trainer(model, settings, data, str(out), world, start)


class Logged(NoObserver):
    """Writes each figure down as it is told, and reads them all."""

    def __init__(self, out):
        self.path = Path(f"{out}.log")

    def metrics(self, values, images_seen):
        with self.path.open("ab", buffering=0) as file:
            kept = {name: value for name, value in values.items() if name != "images_per_second"}
            file.write(json.dumps([images_seen, kept]).encode() + b"\n")

    def figures(self):
        """By images seen and name: all values that were told."""
        found = {}
        for line in self.path.read_text().splitlines():
            images_seen, values = json.loads(line)
            for name, value in values.items():
                found.setdefault((images_seen, name), set()).add(value)
        return found


def train_here(data, out, kill):
    """`kill`: after how many steps of this process, and how many seconds, it is killed."""
    run = trainer(data, out, dataclasses.replace(SETTINGS, epochs=12), dataclasses.replace(MODEL, dropout=0.1))
    if kill is not None:
        steps, seconds = kill
        began, step = run.steps_done, run.step
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))

        def armed():
            if run.steps_done == began + steps:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            return step()

        run.step = armed
    run.run(Logged(out), Quiet())


class _NoRoom(torch.autograd.Function):
    """Nothing, until the way back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("out of memory")


def limit_memory(run, most, where="forward"):
    """More pictures than that at once do not fit, which shows on the way there, after it, or on the way back."""
    forward = run.learner.net.forward

    def tight(x, *others):
        if where == "forward" and len(x) > most:
            raise torch.OutOfMemoryError("out of memory")
        found = forward(x, *others)
        if where == "loss" and len(x) > most:
            raise torch.OutOfMemoryError("out of memory")
        return _NoRoom.apply(found) if where == "backward" and len(x) > most else found

    run.learner.net.forward = tight


class _Refuses(NoObserver):
    def looked(self, epoch, images_seen, model):
        raise Refused("looked, and said no")


class _Rests(NoObserver):
    def rests(self):
        return True


def train_as_rank(rank, size, port, data, out, settings, steps, box, room=None):
    """`room`: by rank, how many pictures fit into its memory at once, and where it shows; "refuses", "rests": rank 0's observer does."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with join_world() as world:
        run = trainer(data, out, settings, world=world)
        if room == "refuses":
            with pytest.raises(Refused, match="looked, and said no"):
                run.run(_Refuses(), Quiet())
            box.put((rank, run.steps_done))
            return
        if room == "rests":
            run.run(_Rests() if rank == 0 else NoObserver(), Quiet())
            box.put((rank, run.steps_done))
            return
        if room:
            limit_memory(run, *room[rank])
        if steps is None:
            facts = run.run(NoObserver(), Quiet())
            box.put((rank, facts["weights_sha256"]))
            return
        for _ in range(steps):
            run.step()
        assert not room or run.gradients.micro <= room[rank][0]
        box.put((rank, [weight.detach().numpy() for weight in run.learner.weights]))
