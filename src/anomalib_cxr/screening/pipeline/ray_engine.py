"""The same screening on a Ray cluster, for archives of a million images."""

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
"""Files that a worker gets at a time: what is done again where one dies."""
BATCH = 32


class _Worker:
    """An actor, which loads the model once."""

    def __init__(self, settings: ScreenerSettings) -> None:
        self.screener = Screener(settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        files = [Path(path) for path in batch["path"]]
        cases = [case for part in self.screener.cases(files) for case in part]
        return {"case": np.array(cases, dtype=object)}


class RayEngine:
    """Screens files by Ray Data with a pool of actors.

    The cluster is the one that `ray.init` finds: that of `RAY_ADDRESS`, or this machine. Inputs, model and output have
    to be seen under the same paths by all its machines. Rows are written by the process that started the screening, as
    they come; one that is screened twice, since its worker died before it could tell, replaces itself.

    Args:
        settings: What each worker makes its screener with.
        workers: Actors; as many as the cluster has processors, where it is None.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, settings: ScreenerSettings, workers: int | None = None) -> None:
        require_extra("ray", "ray")
        # Workers start in folders of their own.
        self.settings = replace(settings, model=settings.model.resolve(), output=settings.output.resolve())
        self.workers = workers

    def __call__(self, files: Sequence[Path]) -> Iterator[list[Case]]:
        """Screen files, and yield their cases as they come."""
        if not files:
            return
        import ray  # noqa: PLC0415  # an extra that not everyone has

        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        blocks = max(workers, len(files) // BLOCK)
        rows = ray.data.from_items([{"path": str(file)} for file in files], override_num_blocks=min(blocks, len(files)))
        screened = rows.map_batches(
            _Worker,
            fn_constructor_args=(self.settings,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            max_restarts=-1,
            max_task_retries=-1,
        )
        for batch in screened.iter_batches(batch_size=BATCH, batch_format="numpy"):
            yield list(batch["case"])
