"""How torch works on the CPU."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm.device import SMALL, drawing_format, memory_format, pick_device, placed, threads_for
from ddpm.errors import WrongInput

LAST, FIRST = torch.channels_last, torch.contiguous_format
FAULTS_OF_LATER_TENSORS = """
import resource, sys, torch
from ddpm.device import keep_memory
if sys.argv[1] == "kept":
    keep_memory(torch.device("cpu"))
def ones():
    return torch.ones(16 * 2**20)
for _ in range(32):  # until the small things in between have found their places
    ones()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    ones()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere than on Linux memory is left as it is")
def test_memory_that_a_tensor_freed_is_there_for_the_next():
    """64 MiB are 16,384 pages: handed back and taken anew each time, or not."""
    faults = {
        way: int(subprocess.check_output([sys.executable, "-c", FAULTS_OF_LATER_TENSORS, way]))
        for way in ("left", "kept")
    }
    assert faults["kept"] < 16_384 < 8 * 16_384 <= faults["left"]


def has(monkeypatch, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_a_gpu_is_taken_by_itself_and_apples_where_it_is_named(monkeypatch):
    monkeypatch.delenv("DDPM_DEVICE", raising=False)
    for cuda, mps, picked in ((False, False, "cpu"), (True, False, "cuda"), (False, True, "cpu")):
        has(monkeypatch, cuda, mps)
        assert pick_device().type == picked
    monkeypatch.setenv("DDPM_DEVICE", "mps")
    assert pick_device().type == "mps"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    has(monkeypatch, cuda=False, mps=False)
    for named in ("mps", "cuda", "tpu", "cuda:1"):
        monkeypatch.setenv("DDPM_DEVICE", named)
        with pytest.raises(WrongInput, match=f"^DDPM_DEVICE: '{named}' is not to be had here; give one of: cpu$"):
            pick_device()


def test_each_thread_gets_its_own_number_of_threads_back():
    """A server's thread draws with a small network while another one loads the next version, and leaves first."""
    cpu, found = torch.device("cpu"), {}
    entered, left, gone = (threading.Event() for _ in range(3))
    both = threading.Barrier(2)

    def draws():
        torch.set_num_threads(3)
        with threads_for(SMALL - 1, cpu):
            both.wait()
            found["drawing"] = torch.get_num_threads()
            entered.wait()
        left.set()
        gone.wait()
        with threads_for(SMALL, cpu):
            found["drew"] = torch.get_num_threads()

    def loads():
        torch.set_num_threads(3)
        both.wait()
        with threads_for(SMALL - 1, cpu), threads_for(SMALL - 1, cpu):
            entered.set()
            left.wait()
            found["loading"] = torch.get_num_threads()
            found["of MKL"] = "mkl_get_max_threads() : 3" in torch.__config__.parallel_info()
        gone.set()
        found["loaded"] = torch.get_num_threads()

    before = torch.get_num_threads()
    workers = [threading.Thread(target=work) for work in (draws, loads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.set_num_threads(before)
    assert found == {"drawing": 1, "drew": 3, "loading": 1, "of MKL": False, "loaded": 3}


def test_apples_gpu_is_asked_for_no_fp64(digits, tmp_path):
    from ddpm.settings import ModelSettings, TrainSettings
    from ddpm.training.trainer import Trainer
    from ddpm.training.world import World

    model = ModelSettings(channel_mults="1-2", base_channels=8, blocks=1, attention_resolution=4)
    settings = TrainSettings(precision="fp64", epochs=1)
    with pytest.raises(WrongInput, match="^precision: Apple's GPU has no fp64; give fp32, or DDPM_DEVICE=cpu$"):
        Trainer(model, settings, digits, str(tmp_path), World(torch.device("mps")))


def lies(net):
    """The order of a convolution's weights."""
    return LAST if net.weight.is_contiguous(memory_format=LAST) else FIRST


@pytest.mark.parametrize(
    ("processor", "order"), [("AVX2", LAST), ("AVX512", LAST), ("DEFAULT", FIRST), ("SVE256", FIRST)]
)
def test_weights_lie_as_a_processors_convolutions_want_them_to_train_and_to_draw(monkeypatch, processor, order):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    assert memory_format(torch.device("cpu")) == order
    for before in (FIRST, LAST):
        net = torch.nn.Conv2d(4, 8, 3).to(memory_format=before)
        assert placed(net, torch.device("cpu")) is net and lies(net) == order


def test_a_gpu_trains_with_channels_last_and_draws_with_torchs_order_or_what_it_trained():
    assert memory_format(torch.device("cuda")) == LAST and drawing_format(torch.device("cuda")) == FIRST
    elsewhere = torch.device("meta")
    for before in (FIRST, LAST):
        net = torch.nn.Conv2d(4, 8, 3).to(memory_format=before)
        assert lies(placed(net, elsewhere)) == FIRST
    there = torch.nn.Conv2d(4, 8, 3, device="meta").to(memory_format=LAST)
    weight = there.weight
    assert placed(there, elsewhere).weight is weight and lies(there) == LAST


def test_threads_that_draw_first_from_one_network_leave_its_weights_as_they_were(monkeypatch):
    """Each finds weights in the other order. One alone may put them right."""
    order, at_work = [LAST], []
    monkeypatch.setattr("ddpm.device.drawing_format", lambda device: order[0])
    net = torch.nn.Sequential(*(torch.nn.Conv2d(4, 4, 3) for _ in range(50)))
    before = [weight.clone() for weight in net.parameters()]
    real = net.to

    def to(**how):
        at_work.append(threading.get_ident())
        time.sleep(0.05)
        assert len(at_work) == 1, "two at once"
        found = real(**how)
        at_work.clear()
        return found

    monkeypatch.setattr(net, "to", to)
    for order[0] in (LAST, FIRST, LAST):
        with ThreadPoolExecutor(4) as threads:
            done = [threads.submit(placed, net, torch.device("cpu")) for _ in range(4)]
            assert all(one.result() is net for one in done)
        assert {lies(one) for one in net} == {order[0]}
        assert all(torch.equal(now, then) for now, then in zip(net.parameters(), before, strict=True))


def test_a_network_that_has_drawn_can_be_trained(monkeypatch):
    net = torch.nn.Conv2d(4, 8, 3)
    monkeypatch.setattr("ddpm.device.drawing_format", lambda device: LAST)
    with torch.inference_mode():
        placed(net, torch.device("cpu"))(torch.randn(1, 4, 8, 8))
    assert lies(net) == LAST
    net(torch.randn(1, 4, 8, 8)).square().mean().backward()
    assert net.weight.grad is not None
