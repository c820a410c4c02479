"""Runs a grid on anomalib's runners, and reports on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from anomalib.pipelines.components import Job, JobGenerator, Pipeline, Runner
from anomalib.pipelines.components.runners import ParallelRunner, SerialRunner
from anomalib.pipelines.components.runners.parallel import ParallelExecutionError
from anomalib.pipelines.components.runners.serial import SerialExecutionError
from filelock import FileLock, Timeout

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, Grid, Run
from anomalib_cxr.benchmark.plan.resolve import refuse_other_settings, resolve_grid
from anomalib_cxr.benchmark.report.report import write_report
from anomalib_cxr.errors import CxrError, DatasetError
from anomalib_cxr.utils.files import atomic_path

from .job import RunJob, whole_run

logger = logging.getLogger(__name__)


class RunGenerator(JobGenerator):
    """Yields a job for each run without a finished folder, once; one that failed in an earlier session too.

    Args:
        runs: The runs of the grid.
        folder: Folder of the benchmark.

    Raises:
        SettingError: If the folder holds finished runs of the same names and other settings.
    """

    def __init__(self, runs: Sequence[Run], folder: Path) -> None:
        self.folder = folder
        records = [read_record(folder / run.place) for run in runs]
        finished = [(run, record) for run, record in zip(runs, records, strict=True) if record.get("status") == DONE]
        refuse_other_settings(
            {str(run): (record["config"], _as_json(run.settings)) for run, record in finished}, folder
        )
        done = {run.place for run, _ in finished}
        self.asked = [run for run in runs if run.place not in done]
        self.begun: list[Run] = []

    @property
    def job_class(self) -> type[Job]:
        """Return the class of the jobs."""
        return RunJob

    def generate_jobs(
        self, args: dict[str, Any] | None = None, prev_stage_result: Any = None
    ) -> Generator[Job, None, None]:
        """Yield the jobs that have not begun; called again, it goes on."""
        del args, prev_stage_result
        while len(self.begun) < len(self.asked):
            run = self.asked[len(self.begun)]
            self.begun.append(run)
            yield RunJob(run, self.folder, f"{len(self.begun)} of {len(self.asked)}")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run; empty where there is none, or none that can be read."""
    try:
        return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _as_json(settings: dict[str, Any]) -> Any:
    """Return settings as they look after they were written and read."""
    return json.loads(json.dumps(settings, default=str))


class BenchmarkError(CxrError):
    """Some runs of a benchmark failed; it names each with its reason."""


class PatientRunner(ParallelRunner):
    """anomalib's parallel runner, which waits for a free process without keeping one busy by asking."""

    def _await_cleanup_processes(self, blocking: bool = False) -> None:
        running = [process for process in self.processes.values() if process is not None]
        if running and not blocking:
            wait(running, return_when=FIRST_COMPLETED)
        super()._await_cleanup_processes(blocking)


class Benchmark(Pipeline):
    """A grid of runs, of which finished ones are kept: started again, it goes on where it was stopped.

    Args:
        grid: What to run.
        folder: Where `benchmark.yaml`, the folders of the runs and the report go.
        n_jobs: Runs at a time; above 1 each has a process of its own, and a GPU where there are several.
    """

    def __init__(self, grid: Grid, folder: Path, n_jobs: int = 1) -> None:
        self.grid = grid
        self.folder = folder
        self.n_jobs = n_jobs
        self.generator: RunGenerator

    def _setup_runners(self, args: dict[str, Any]) -> list[Runner]:
        del args
        return [PatientRunner(self.generator, self.n_jobs) if self.n_jobs > 1 else SerialRunner(self.generator)]

    def run(self, args: Any = None) -> Path:  # type: ignore[override]  # anomalib's swallows failures and tells nothing
        """Do what is missing, and write the report.

        Returns:
            The report, `report.html`.

        Raises:
            SettingError: Before the first run, if the grid or the folder cannot be used.
            BenchmarkError: After the last one, if some failed.
        """
        del args
        runs = resolve_grid(self.grid)
        with self._writing():
            self.generator = RunGenerator(runs, self.folder)
            with atomic_path(self.folder / "benchmark.yaml") as unfinished:
                unfinished.write_text(yaml.safe_dump(self.grid.record(), sort_keys=False), encoding="utf-8")
            logger.info("%d runs, %d of them to be done, in %s", len(runs), len(self.generator.asked), self.folder)
            self._run_all()
            report = write_report(self.folder)
        self._raise_failures(report)
        return report

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder for this benchmark alone, and say what to do where it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise DatasetError(
                f"{self.folder}, in which another benchmark is running",
                "a folder of its own",
                "wait for it, or choose another --output",
            ) from error
        except OSError as error:
            raise DatasetError(
                f"{self.folder}: cannot be written ({error})",
                "a place with enough free space and the right to write",
                "free space, or choose another --output; finished runs are kept",
            ) from error

    def _run_all(self) -> None:
        """Run all jobs. A process that dies takes those beside it along: each is then tried once more, alone."""
        while len(self.generator.begun) < len(self.generator.asked):
            with suppress(BrokenProcessPool, ParallelExecutionError, SerialExecutionError):
                self._setup_runners({})[0].run({})
            for run in self._without_record():
                self._run_alone(run)

    def _without_record(self) -> list[Run]:
        """Return the runs that began and left nothing."""
        states = {DONE, FAILED}
        return [run for run in self.generator.begun if read_record(self.folder / run.place).get("status") not in states]

    def _run_alone(self, run: Run) -> None:
        """Do a run in a process of its own, and write it down if that dies."""
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                pool.submit(RunJob(run, self.folder, "once more").run).result()
        except BrokenProcessPool:
            with whole_run(run, self.folder) as (_, record):
                record |= {"status": FAILED, "reason": "its process died: killed from outside, or out of memory"}

    def _raise_failures(self, report: Path) -> None:
        records = {str(run): read_record(self.folder / run.place) for run in self.generator.asked}
        failed = {name: record["reason"] for name, record in records.items() if record.get("status") == FAILED}
        if failed:
            lines = "".join(f"\n    {name}: {reason}" for name, reason in failed.items())
            raise BenchmarkError(
                f"{len(failed)} runs that failed, of {len(records)}:{lines}",
                "runs that end",
                f"see log.txt in their folders; the same command tries them again; report on the others: {report}",
            )
