"""Screening on a Ray cluster, for archives of a million images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_cxr.errors import require_extra
from anomalib_cxr.screening.case import Case

from .screener import Screener, ScreenerSettings

BLOCK = 256
"""Number of files in a block of work, which is repeated where a worker dies."""
BATCH = 32
"""Number of files in a batch of a worker."""


class _Worker:
    """Ray actor that loads the model once."""

    def __init__(self, settings: ScreenerSettings) -> None:
        self.screener = Screener(settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        files = [Path(path) for path in batch["path"]]
        cases = [case for part in self.screener.cases(files) for case in part]
        return {"case": np.array(cases, dtype=object)}


class RayEngine:
    """Screening engine by Ray Data with a pool of actors.

    The cluster is the one that `ray.init` finds: that of `RAY_ADDRESS`, or this machine. Inputs, model and output must
    have the same paths on all its machines. The process that started the screening writes the rows as they come; a
    file that is screened twice, because a worker died before it could report, replaces its own row.

    Args:
        settings: Settings of each worker's screener.
        workers: Number of actors; None for the number of processors of the cluster.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, settings: ScreenerSettings, workers: int | None = None) -> None:
        require_extra("ray", "ray")
        # Workers start in folders of their own.
        self.settings = replace(settings, model=settings.model.resolve(), output=settings.output.resolve())
        self.workers = workers

    def __call__(self, files: Sequence[Path]) -> Iterator[list[Case]]:
        """Screen files.

        Args:
            files: Absolute paths.

        Yields:
            Cases in batches, in any order.
        """
        if not files:
            return
        import ray  # noqa: PLC0415  # an extra

        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        blocks = max(workers, len(files) // BLOCK)
        rows = ray.data.from_items([{"path": str(file)} for file in files], override_num_blocks=min(blocks, len(files)))
        screened = rows.map_batches(
            _Worker,
            fn_constructor_args=(self.settings,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            max_restarts=-1,
            max_task_retries=-1,
        )
        for batch in screened.iter_batches(batch_size=BATCH, batch_format="numpy"):
            yield list(batch["case"])
