"""Memory that a step frees is there for the next."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from dav2.training.memory import keep_freed_memory

def step():
    return [torch.ones(1_000_000) for _ in range(50)]


keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are"
)
def test_what_is_freed_is_not_cleared_again():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    # 200 MB are 48828 pages of 4 kB; handed back, all of them would fault each time.
    assert int(answer.stdout) < 48828
