"""A process that does not outlive the one that started it."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

SLEEPS_IN_ANOTHER = """
from anomalib_cxr.utils.processes import start_process
from time import sleep

if __name__ == "__main__":
    process = start_process(sleep, 600)
    print(process.pid, flush=True)
    process.join()
"""


@pytest.mark.timeout(60)
def test_ends_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(SLEEPS_IN_ANOTHER)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    process = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs([process], timeout=30)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
