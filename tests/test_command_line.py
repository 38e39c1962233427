"""Settings of the commands' process."""

import subprocess
import sys

import pytest

# Frees and takes 8 MiB again, 50 times, touching every page; prints how many page faults that took.
PROGRAM = """
import resource, sys
import numpy as np
from psa_pose.process import keep_freed_memory
changed = keep_freed_memory() if sys.argv[1] == "keep" else False
np.ones(2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(2**20)
print(changed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(argument, **environment):
    command = [sys.executable, "-c", PROGRAM, argument]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    changed, count = answer.stdout.split()
    return changed == "True", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc's allocator")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    changed, kept = faults("keep")
    if not changed:
        pytest.skip("no glibc here")
    _, default = faults("default")
    assert kept < 5_000
    assert kept < default / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] is False
