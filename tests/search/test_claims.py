"""Claims: of all who want a trial, one has it, and keeps it."""

import subprocess
import sys

from ddpm.search.claims import claim
from ddpm.store import open_store

RACER = """
import sys
from ddpm.search.claims import claim
from ddpm.store import open_store
claims, worker = open_store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(*(number for number in range(200) if claim(claims, number, worker)))
"""


def test_of_racing_processes_one_has_each_trial(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(worker)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for worker in range(3)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sorted(int(number) for numbers in won for number in numbers) == list(range(200))


def test_a_claim_is_kept(tmp_path):
    claims = open_store(str(tmp_path))
    assert claim(claims, 7, worker=1)
    assert claim(claims, 7, worker=1), "it is there when the worker is started again"
    assert not claim(claims, 7, worker=2)
    assert claim(claims, 8, worker=2)


def test_claims_of_earlier_runs_are_read(tmp_path):
    (tmp_path / "000003.json").write_bytes(b'{"worker": 2}')
    claims = open_store(str(tmp_path))
    assert claim(claims, 3, worker=2)
    assert not claim(claims, 3, worker=0)
    assert claim(claims, 4, worker=0)
    assert (tmp_path / "000004.json").read_bytes() == b'{"worker": 0}'
