"""The jobs of a benchmark: the runs of its grid that are not finished yet."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from anomalib.pipelines.components import Job, JobGenerator

from .grid import DONE, Run
from .job import RunJob
from .resolve import refuse_other_settings


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
