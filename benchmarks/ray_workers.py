"""How much faster two workers of Ray screen than one, on this machine.

    python benchmarks/ray_workers.py MODEL --output results/ray_workers

Screens phantoms of 256 pixels with the engine of `anomalib-cxr screen --engine ray`, by one worker and by more in turn.
All processes of a screening, the one that writes the rows included, may use as many cores as there are workers: a
worker's threads would otherwise take others' as well. All phantoms are screened, and a fourth of them alone: the
difference of the times does not have the start of Ray and of the workers in it. `efficiency` is the rate by several
workers as a share of as many times that by one. Writes `ray_workers.csv` and `run.json`. Linux only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import ray
from jsonargparse import auto_cli

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.screening.pipeline.ray_engine import RayEngine
from anomalib_cxr.screening.pipeline.screener import ScreenerSettings
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.provenance import code_record, write_record


def seconds(files: list[Path], settings: ScreenerSettings, workers: int) -> float:
    """Screen files into a worklist with a number of workers, on as many cores; return how long it took."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:workers])  # of this thread, and of the processes that it starts
    began = time.perf_counter()
    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
    worklist, count = Worklist(settings.output, create=True), 0
    try:
        for cases in RayEngine(settings, workers)(files):
            worklist.add(cases)
            count += len(cases)
    finally:
        ray.shutdown()
        os.sched_setaffinity(0, allowed)
    if count != len(files):
        raise SystemExit(f"{count} cases of {len(files)} files")
    return time.perf_counter() - began


def main(
    model: Path,
    output: Path = Path("results/ray_workers"),
    images: int = 4096,
    workers: tuple[int, ...] = (1, 2),
    repetitions: int = 3,
) -> None:
    """Measure, print and write.

    Args:
        model: Folder of a calibrated model.
        output: Folder of the results.
        images: Phantoms to screen; Ray gives them out in blocks of 256.
        workers: Numbers of workers, 1 among them.
        repetitions: Of each number.
    """
    rows = []
    with TemporaryDirectory() as name:
        drawn = write_phantoms(Path(name) / "phantoms", n_normal=images // 2, n_sick=images - images // 2, size=256)
        files = sorted((drawn / "CXR_png").iterdir())
        for repetition in range(repetitions):
            for count in workers:
                took = [
                    seconds(
                        part,
                        ScreenerSettings(model, Path(name) / f"{count}-{repetition}-{len(part)}", any_source=True),
                        count,
                    )
                    for part in (files[: images // 4], files)
                ]
                rate = (images - images // 4) / (took[1] - took[0])
                rows.append({"repetition": repetition, "workers": count, "images_a_second": rate})
    table = pd.DataFrame(rows)
    alone = table[table.workers == 1].set_index("repetition").images_a_second
    table["efficiency"] = table.images_a_second / (table.workers * table.repetition.map(alone))
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "ray_workers.csv", index=False, float_format="%.4g")
    write_record({**code_record(), "cores": os.cpu_count(), "images": images, "rows": rows}, output / "run.json")
    print(table.to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
