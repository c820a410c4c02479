"""Run each job of a pipeline in a process of its own."""

from __future__ import annotations

from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from anomalib.pipelines.components import JobGenerator, Runner

from anomalib_cxr.utils.processes import start_process


class ProcessRunner(Runner):
    """Runner of parallel jobs, each in a new process, so that a process that dies takes no other job with it.

    anomalib's `ParallelRunner` shares a pool of processes among its jobs. If one of them dies, the pool ends the others
    by SIGTERM and waits for them. But Lightning lets a training survive that signal, and from Python 3.12 on nothing
    else tells the process to end, so that the pool waits for ever.

    Args:
        generator: Generator of the jobs.
        n_jobs: Number of jobs that run at a time.
    """

    def __init__(self, generator: JobGenerator, n_jobs: int) -> None:
        super().__init__(generator)
        self.n_jobs = n_jobs
        self._running: dict[int, SpawnProcess] = {}

    def run(self, args: dict[str, Any], prev_stage_results: Any = None) -> None:
        """Run all jobs to their end; what they return, and whether they die, is left to their own records.

        Args:
            args: Arguments of the generator.
            prev_stage_results: Results of the previous stage, for the generator.
        """
        try:
            for job in self.generator(args, prev_stage_results):
                while len(self._running) == self.n_jobs:
                    self._await_any()
                slot = next(slot for slot in range(self.n_jobs) if slot not in self._running)
                self._running[slot] = start_process(job.run, slot)
            while self._running:
                self._await_any()
        finally:  # after an interrupt, or an error of the generator
            for process in self._running.values():
                process.kill()
                process.join()

    def _await_any(self) -> None:
        """Sleep until a process has ended, and free its slot."""
        wait([process.sentinel for process in self._running.values()])
        self._running = {slot: process for slot, process in self._running.items() if process.is_alive()}
