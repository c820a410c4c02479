"""Run the grid of a benchmark with anomalib's pipeline, and write its report."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from anomalib.pipelines.components import Job, JobGenerator, Pipeline, Runner
from anomalib.pipelines.components.runners import SerialRunner
from anomalib.pipelines.components.runners.serial import SerialExecutionError
from filelock import FileLock, Timeout

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, Grid, Run
from anomalib_cxr.benchmark.plan.resolve import check_unchanged, resolve_grid
from anomalib_cxr.benchmark.report.report import write_report
from anomalib_cxr.errors import CxrError, DatasetError
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.processes import start_process

from .checkpoint import discard_partial
from .job import RunJob, partial_folder, run_folder
from .runner import ProcessRunner

logger = logging.getLogger(__name__)


class RunGenerator(JobGenerator):
    """Generator of a job for each run that is not done; runs that failed before are repeated.

    Args:
        runs: The runs of the grid.
        folder: Folder of the benchmark.

    Raises:
        SettingError: If the folder has finished runs of the same names with other settings.
    """

    def __init__(self, runs: Sequence[Run], folder: Path) -> None:
        self.folder = folder
        records = [read_record(folder / run.folder) for run in runs]
        finished = [(run, record) for run, record in zip(runs, records, strict=True) if record.get("status") == DONE]
        check_unchanged({str(run): (record["config"], _as_json(run.settings)) for run, record in finished}, folder)
        done = {run.folder for run, _ in finished}
        self.planned = [run for run in runs if run.folder not in done]

    @property
    def job_class(self) -> type[Job]:
        """Class of the jobs."""
        return RunJob

    def generate_jobs(
        self, args: dict[str, Any] | None = None, prev_stage_result: Any = None
    ) -> Generator[Job, None, None]:
        """Yield the jobs.

        Args:
            args: Not used.
            prev_stage_result: Not used.

        Yields:
            One job per run.
        """
        del args, prev_stage_result
        for number, run in enumerate(self.planned, start=1):
            yield RunJob(run, self.folder, f"{number} of {len(self.planned)}")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run.

    Args:
        folder: Folder of the run.

    Returns:
        Content of `run.json`; empty if it is missing or damaged.
    """
    try:
        return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _as_json(settings: dict[str, Any]) -> Any:
    """Return settings as they are after writing and reading them."""
    return json.loads(json.dumps(settings, default=str))


class BenchmarkError(CxrError):
    """Some runs of a benchmark failed; the message names each with its reason."""


class Benchmark(Pipeline):
    """Pipeline that runs a grid. Finished runs and checkpoints are kept, so that a stopped benchmark can be resumed.

    Args:
        grid: The grid.
        folder: Output folder for `benchmark.yaml`, the folders of the runs, and the report.
        n_jobs: Parallel runs; above 1 each has its own process, and its own GPU where there are several.
    """

    def __init__(self, grid: Grid, folder: Path, n_jobs: int = 1) -> None:
        self.grid = grid
        self.folder = folder
        self.n_jobs = n_jobs
        self.generator: RunGenerator

    def _setup_runners(self, args: dict[str, Any]) -> list[Runner]:
        del args
        return [ProcessRunner(self.generator, self.n_jobs) if self.n_jobs > 1 else SerialRunner(self.generator)]

    def run(self, args: Any = None) -> Path:  # type: ignore[override]  # anomalib's hides failures
        """Do the runs that are not done, and write the report.

        Args:
            args: Not used.

        Returns:
            The report, `report.html`.

        Raises:
            SettingError: Before the first run, if the grid or the folder cannot be used.
            BenchmarkError: After the last one, if some failed.
        """
        del args
        runs = resolve_grid(self.grid)
        with self._locked_folder():
            self.generator = RunGenerator(runs, self.folder)
            with atomic_path(self.folder / "benchmark.yaml") as unfinished:
                unfinished.write_text(yaml.safe_dump(self.grid.to_yaml(), sort_keys=False), encoding="utf-8")
            logger.info("%d runs, %d of them to be done, in %s", len(runs), len(self.generator.planned), self.folder)
            try:
                self._run_all()
            finally:  # processes that were killed leave their folders
                for run in self.generator.planned:
                    discard_partial(partial_folder(run, self.folder))
            report = write_report(self.folder)
        self._raise_failures(report)
        return report

    @contextmanager
    def _locked_folder(self) -> Iterator[None]:
        """Lock the folder against other benchmarks, and explain errors in writing to it."""
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
        """Run all jobs, and those whose process died once more, alone: they may have been short of memory."""
        with suppress(SerialExecutionError):
            self._setup_runners({})[0].run({})
        for run in self.generator.planned:
            if not self._has_ended(run):
                self._run_alone(run)

    def _has_ended(self, run: Run) -> bool:
        return read_record(self.folder / run.folder).get("status") in {DONE, FAILED}

    def _run_alone(self, run: Run) -> None:
        """Do a run in its own process, and record it as failed if the process dies."""
        process = start_process(RunJob(run, self.folder, "once more").run)
        try:
            process.join()
        finally:
            process.kill()
        if not self._has_ended(run):
            reason = f"its process died (exit code {process.exitcode}): killed from outside, or out of memory"
            with run_folder(run, self.folder) as (_, record):
                record |= {"status": FAILED, "reason": reason}

    def _raise_failures(self, report: Path) -> None:
        records = {str(run): read_record(self.folder / run.folder) for run in self.generator.planned}
        failed = {name: record["reason"] for name, record in records.items() if record.get("status") == FAILED}
        if failed:
            lines = "".join(f"\n    {name}: {reason}" for name, reason in failed.items())
            raise BenchmarkError(
                f"{len(failed)} runs that failed, of {len(records)}:{lines}",
                "runs without errors",
                f"see log.txt in their folders; the same command repeats them; report on the others: {report}",
            )
