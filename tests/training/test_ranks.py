"""A training of several processes: that it is the training of one, and what becomes of it where one of them fails."""

import dataclasses
import multiprocessing
import socket

import pytest
import torch
from engine_processes import CPU, SETTINGS, train_as_rank, trainer

from ddpm.errors import WrongInput
from ddpm.progress import Quiet
from ddpm.training.observer import NoObserver
from ddpm.training.world import World


def in_two(data, out, settings, steps, room=None):
    """What two processes come to, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["engine_processes"])
    box = context.Queue()
    workers = [
        context.Process(target=train_as_rank, args=(rank, 2, port, data, str(out), settings, steps, box, room))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = dict(box.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return found


@pytest.mark.parametrize(("precision", "steps", "tolerance"), [("fp64", 50, 1e-8), ("fp32", 20, 1e-4)])
def test_two_processes_follow_one(digits, tmp_path, precision, steps, tolerance):
    settings = dataclasses.replace(SETTINGS, precision=precision, epochs=50)
    alone = trainer(digits, tmp_path / "one", settings)
    for _ in range(steps):
        alone.step()
    found = in_two(digits, tmp_path / "two", settings, steps)
    for mine, first, second in zip(alone.learner.weights, *found.values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(first), mine.detach(), rtol=0, atol=tolerance)
        assert (first == second).all(), "ranks are equal to the bit"


@pytest.mark.parametrize("where", ["forward", "loss", "backward"])
def test_memory_that_runs_out_on_one_of_two_processes_changes_nothing_for_either(digits, tmp_path, where):
    settings = dataclasses.replace(SETTINGS, precision="fp64", epochs=50)
    free = in_two(digits, tmp_path / "free", settings, 5)
    tight = in_two(digits, tmp_path / "tight", settings, 5, room=[(16, where), (3, where)])
    for mine, first, second in zip(free[0], *tight.values(), strict=True):
        assert (first == second).all(), "ranks are equal to the bit"
        assert abs(mine - first).max() < 1e-10


def test_what_rank_0_refuses_all_refuse(digits, tmp_path):
    found = in_two(digits, tmp_path, SETTINGS, None, room="refuses")
    assert found == {0: 16, 1: 16}, "at its look"


def test_where_rank_0_lets_it_rest_all_do(digits, tmp_path):
    found = in_two(digits, tmp_path, SETTINGS, None, room="rests")
    assert found == {0: 16, 1: 16}, "at its look"
    assert trainer(digits, tmp_path).steps_done == 16, "saved there, for whoever goes on"


def test_ranks_that_do_not_see_one_place_are_refused(digits, tmp_path):
    class Elsewhere(World):
        def broadcast(self, value):
            return value + 8 if isinstance(value, int) else value

    with pytest.raises(WrongInput, match="not the same place for all ranks"):
        trainer(digits, tmp_path, world=Elsewhere(CPU))


def test_a_checkpoint_moves_between_numbers_of_processes(digits, tmp_path):
    """Two processes go on from what one began, and end alike; and one from what two ended."""
    settings = dataclasses.replace(SETTINGS, precision="fp64", epochs=3, held_out_every=1)
    whole = trainer(digits, tmp_path / "whole", settings)
    whole.run(NoObserver(), Quiet())

    class Stops(NoObserver):
        def looked(self, epoch, images_seen, model):
            if epoch == 2:
                raise KeyboardInterrupt
            return False

    with pytest.raises(KeyboardInterrupt):
        trainer(digits, tmp_path / "moved", settings).run(Stops(), Quiet())
    found = in_two(digits, tmp_path / "moved", settings, None)
    assert found[0] == found[1]
    (tmp_path / "moved" / "done.json").unlink()
    again = trainer(digits, tmp_path / "moved", settings)
    assert again.steps_done == again.schedule.total_steps
    for mine, other in zip(whole.learner.weights, again.learner.weights, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-8)


def test_a_batch_that_cannot_be_shared_is_refused(digits, tmp_path):
    with pytest.raises(WrongInput, match="cannot be shared by 3 processes"):
        trainer(digits, tmp_path, world=World(CPU, 0, 3))
