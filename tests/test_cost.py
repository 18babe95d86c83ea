"""What a run took, by what its steps, its trials and its lost attempts left."""

import sys
from types import SimpleNamespace

import pytest
import torch

from ddpm.cost import cost, costs, hours_in_words, in_words, logged, saved_in_words
from ddpm.meter import Meter

HOUR, KWH = 3600.0, 3_600_000


def row(seconds, images=1000, joules=None, devices=1, number=0):
    return {"number": number, "seconds": seconds, "images_seen": images, "joules": joules, "devices": devices}


TRIALS = [row(900, 1000, KWH), row(1800, 2000, 2 * KWH, number=1), row(None, None, number=2)]
FACTS = {
    "ingest": {"seconds": 60.0},
    "train": {"seconds": HOUR, "trials": TRIALS, "best": 1, "images_seen": 5000, "spent": {"seconds": 3500, "joules": KWH}},
    "evaluate": {"seconds": HOUR / 2},
}  # fmt: skip
WORKERS = [{"seconds": 1000.0, "trials": TRIALS[:1]}, {"seconds": 2600.0, "trials": TRIALS[1:]}]


def test_each_step_and_the_whole():
    found = costs(FACTS, WORKERS, [], 3.0)
    assert {step: one["device_hours"] for step, one in found["steps"].items()} == {
        "ingest": 0, "search": 1.0, "train": 1.0, "evaluate": 0.5,
    }  # fmt: skip
    assert found["steps"]["search"]["seconds"] == 3600, "of both workers, who were at work at a time"
    assert [found["steps"][step]["images"] for step in ("search", "train", "evaluate")] == [3000, 3000, None]
    assert [found["steps"][step]["energy_kwh"] for step in ("search", "train", "evaluate")] == [3.0, 1.0, None]
    whole = found["run"]
    assert (whole["device_hours"], whole["money"], whole["images"], whole["energy_kwh"]) == (2.5, 7.5, 6000, 4.0)
    assert whole["seconds"] == 60 + HOUR + HOUR + HOUR / 2
    assert in_words(whole, 3.0) == "2.5 device-hours, 6,000 pictures trained on, 4 kWh, 7.5 at 3 an hour"
    assert logged(whole)["cost_money"] == 7.5


def test_who_waits_with_a_device_pays_for_it_and_it_is_counted_apart():
    """A TrainJob that waited an hour for its turn held nothing; of its two nodes one then waited for the other."""
    train = {**FACTS["train"], "devices": 2, "seconds": 2 * HOUR, "at_work": HOUR / 2, "waited": 900.0}
    workers = [{"seconds": 3000.0, "at_work": 2000.0, "waited": 1000.0, "trials": TRIALS[:1]}, WORKERS[1]]
    found = costs({**FACTS, "train": train}, workers, [], 2.0)
    assert (found["steps"]["train"]["seconds"], found["steps"]["train"]["device_hours"]) == (2 * HOUR, 1.25)
    assert found["steps"]["train"]["waiting_hours"] == 0.25 and found["steps"]["train"]["money"] == 2.5
    search = found["steps"]["search"]
    assert search["device_hours"] == pytest.approx(5600 / HOUR)
    assert search["waiting_hours"] == pytest.approx(1000 / HOUR)
    assert found["run"]["waiting_hours"] == logged(found["run"])["cost_waiting_hours"] == pytest.approx(1900 / HOUR)
    assert in_words(found["run"], 2.0).startswith("3.31 device-hours (0.53 of them waiting), ")
    assert found["steps"]["evaluate"]["waiting_hours"] == 0
    older = {name: value for name, value in found["run"].items() if name != "waiting_hours"}
    assert hours_in_words(older) == "3.31"
    assert hours_in_words({**older, "waiting_hours": 0.03}) == "3.31", "too little to speak of"


def test_what_nobody_measured_or_said_is_not_made_up():
    unknown = [{**one, "joules": None} for one in TRIALS[:1]] + TRIALS[1:]
    found = costs({**FACTS, "train": {**FACTS["train"], "trials": unknown}}, WORKERS, [], 0.0)["run"]
    assert found["energy_kwh"] is None and found["money"] is None
    words = "2.5 device-hours, 6,000 pictures trained on, energy not measured, no price given (price_per_hour)"
    assert in_words(found, 0.0) == words
    assert logged(found)["cost_energy_kwh"] is None
    assert costs({}, [], [], 0.0)["run"]["images"] is None


def test_attempts_that_came_to_nothing_count_where_their_time_is_known():
    lost = [
        {"key": "search-1", "seconds": 360.0}, {"key": "search-0", "seconds": None}, {"key": "train", "seconds": 1800.0},
        {"key": "ingest", "seconds": 5.0},
    ]  # fmt: skip
    found = costs(FACTS, WORKERS, lost, 1.0)
    assert found["steps"]["search"]["device_hours"] == pytest.approx(1.1)
    assert (found["steps"]["search"]["lost_seconds"], found["steps"]["search"]["lost_unknown"]) == (360, 1)
    assert found["steps"]["train"]["money"] == 1.5
    assert found["steps"]["ingest"]["seconds"] == 65 and found["steps"]["ingest"]["device_hours"] == 0
    assert in_words(found["run"], 1.0).endswith(
        "in attempts that came to nothing 2165 s and 1 that were killed, of unknown length"
    )


def test_a_run_that_failed_has_cost_what_its_trials_took():
    """Of workers that were killed there are no facts, but of trials there are checkpoints."""
    found = costs({"ingest": {"seconds": 1.0}}, WORKERS[:1], [{"key": "search-1", "seconds": 7200.0}], 0.0)
    assert found["steps"]["search"]["device_hours"] == pytest.approx((1000 + 7200) / 3600)
    long = [{"seconds": 100.0, "trials": [row(5000.0)]}]
    assert costs({}, long, [], 0.0)["steps"]["search"]["seconds"] == 5000, "carried on: most of it was before"


def test_what_pruning_saved():
    whole = {**row(HOUR, 1000), "budget_images": 1000, "state": "COMPLETE"}
    pruned = {**row(HOUR / 4, 250, devices=2), "budget_images": 1000, "state": "PRUNED"}
    old = {**row(HOUR, 250), "state": "PRUNED"}
    failed = {**row(HOUR / 4, 250), "budget_images": 1000, "state": "FAIL"}
    trials = [
        {**one, "number": number} for number, one in enumerate([whole, whole, pruned, pruned, old, failed])
    ]  # fmt: skip
    found = costs({}, [{"seconds": 1.0, "trials": trials}], [], 3.0)["saved"]
    assert found == {
        "trials": 2,
        "images": 1500,
        "share": 0.375,
        "device_hours": pytest.approx(3.0),
        "money": pytest.approx(9.0),
    }
    words = "2 trials ended early, which saved 1,500 pictures, 38% of all trials' budgets: about 3 device-hours, 9 at 3 an hour"
    assert saved_in_words(found, 3.0) == words
    assert costs({}, [{"seconds": 1.0, "trials": [whole, {**old, "number": 1}]}], [], 3.0)["saved"] is None, (
        "nobody knows"
    )


def test_a_trial_of_which_several_workers_had_a_turn_counts_once():
    """Its facts are of all turns, and stand with each of them."""
    workers = [{"seconds": 100.0, "trials": [row(150.0, joules=KWH)]} for _ in range(2)]
    search = costs({}, workers, [], 0.0)["steps"]["search"]
    assert (search["seconds"], search["images"], search["energy_kwh"]) == (200, 1000, 1)


def test_several_devices_cost_as_many_hours():
    assert cost(HOUR, 2.0, devices=4)["money"] == 8.0


def test_a_cpu_s_energy_is_not_measured():
    meter = Meter(torch.device("cpu"))
    assert meter.spent({"seconds": 5.0, "joules": 7.0})["joules"] is None
    assert meter.spent({"seconds": 5.0, "joules": None})["seconds"] >= 5


class Driver(SimpleNamespace):
    """Stands for NVIDIA's: a counter of millijoules for each GPU, by its UUID."""

    class NVMLError(Exception):
        pass

    def __init__(self, counter):
        super().__init__(counter=counter)

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1234"
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.counter is None:
            raise self.NVMLError
        self.counter += 2500
        return self.counter


@pytest.mark.parametrize(("counter", "devices", "joules"), [(10_000, 1, 9.5), (None, 1, None), (10_000, 2, None)])
def test_a_gpu_s_energy_is_what_its_counter_grew_by(monkeypatch, counter, devices, joules):
    monkeypatch.setitem(sys.modules, "pynvml", Driver(counter))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234"))
    meter = Meter(torch.device("cuda", 0), devices)
    assert meter.spent({"seconds": 1.0, "joules": 7.0})["joules"] == joules


def test_without_the_package_that_asks_the_driver_it_is_not_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter(torch.device("cuda", 0)).spent()["joules"] is None


def test_the_second_set_s_training_counts_whole_and_its_lost_attempts_are_its_own():
    """It begins with no pictures behind it, on as many devices as it says."""
    second = {
        "transfer-ingest": {"seconds": 60.0},
        "transfer-train": {"seconds": HOUR, "best": 1, "images_seen": 4000, "devices": 2, "spent": {"joules": KWH}},
        "transfer-evaluate": {"seconds": HOUR},
    }
    lost = [{"key": "transfer-train", "seconds": 1800.0}, {"key": "search-0", "seconds": 360.0}]
    found = costs({**FACTS, **second}, WORKERS, lost, 0.0)["steps"]
    assert {step: found[step]["device_hours"] for step in second} == {
        "transfer-ingest": 0, "transfer-train": 3.0, "transfer-evaluate": 1.0,
    }  # fmt: skip
    assert (found["transfer-train"]["images"], found["transfer-train"]["energy_kwh"]) == (4000, 1.0)
    assert found["train"]["lost_seconds"] == 0 and found["search"]["lost_seconds"] == 360
