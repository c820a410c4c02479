"""Jobs in processes of their own, of which some die and some do not heed SIGTERM, as a training of Lightning."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from anomalib_cxr.benchmark.run.runner import ProcessRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MODULE = "stubborn_jobs"
JOBS = '''
"""Jobs that write the number of their process, importable by a process of its own."""

import os
import signal
import time
from pathlib import Path


class Works:
    def __init__(self, file):
        self.file = Path(file)

    def run(self, task_id=None):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.file.with_suffix(".part").write_text(f"{os.getpid()} {task_id}")
        self.file.with_suffix(".part").rename(self.file)


class Dies(Works):
    def run(self, task_id=None):
        super().run(task_id)
        os._exit(3)


class Sleeps(Works):
    def run(self, task_id=None):
        super().run(task_id)
        time.sleep(600)
'''


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / f"{MODULE}.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return __import__(MODULE)


def test_one_that_dies_leaves_the_others_alone(jobs, tmp_path):
    names = ["first", "second", "third", "fourth"]
    kinds = [jobs.Works, jobs.Dies, jobs.Works, jobs.Works]
    todo = [kind(tmp_path / name) for kind, name in zip(kinds, names, strict=True)]
    ProcessRunner(lambda *_: iter(todo), n_jobs=2).run({})
    pids, slots = zip(*((tmp_path / name).read_text().split() for name in names), strict=True)
    assert len({*pids, str(os.getpid())}) == 5
    assert {*slots} == {"0", "1"}


def test_an_error_ends_all_that_run(jobs, tmp_path):
    def generate(*_):
        yield jobs.Sleeps(tmp_path / "pid")
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ProcessRunner(generate, n_jobs=2).run({})
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text().split()[0]))
