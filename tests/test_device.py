"""How torch works on the CPU."""

import subprocess
import sys

import pytest

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
