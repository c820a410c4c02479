"""How long the commands take to start, beyond what they must import.

    python benchmarks/cold_start.py --output results/cold_start
    python benchmarks/cold_start.py --model MODEL --output results/cold_start

Starts fresh Pythons in turns: a bare one, the libraries that a command cannot do without, the command. The files of all
have been read before, so it is the processor's time and not the disk's. With a calibrated model, screens one X-ray too.
Writes `cold_start.csv` and `run.json`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from jsonargparse import auto_cli
from measuring import take_turns
from served import COMMAND, fill_worklist, start_server

from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.provenance import code_record, write_record

BARE = "python -c pass"
COMMAND_LINE = "jsonargparse"
SCREENING = "openvino, scipy.ndimage, scipy.sparse, cv2, matplotlib, pydicom, pydantic, rich.progress, filelock"
SERVER = "fastapi, uvicorn, jinja2, numpy, PIL.Image, matplotlib"
CALIBRATION = f"{SCREENING}, pandas"
VERBS = ("", "init", "phantom", "benchmark", "segment train", "segment predict", "calibrate", "screen", "serve")
OF_SCREEN = "import anomalib_cxr.screening.pipeline.screener"
OF_CALIBRATE = "import anomalib_cxr.screening.calibrate, anomalib_cxr.screening.calibration_table"
OF_SERVE = "import anomalib_cxr.screening.worklist.store, anomalib_cxr.web.server, anomalib_cxr.web.routes.upload"


class Start(NamedTuple):
    """What is started, and the name of what it must import."""

    job: Callable[[], object]
    beyond: str = BARE


def run(*words: str | Path) -> None:
    """Run a program to its end."""
    subprocess.run([*map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def python(code: str) -> Callable[[], None]:
    """Return what runs a fresh Python."""
    return partial(run, sys.executable, "-c", code)


def serve(worklist: Worklist) -> float:
    """Start the page; return the seconds until it has answered with the table."""
    began = time.perf_counter()
    server, address = start_server(worklist)
    with urllib.request.urlopen(address) as answer:  # noqa: S310  # this machine's own server
        answer.read()
    seconds = time.perf_counter() - began
    server.send_signal(signal.SIGINT)
    server.wait()
    return seconds


def starts(worklist: Worklist, folder: Path, model: Path | None) -> dict[str, Start]:
    """Return what is started, by name."""
    image = next((folder / "phantoms" / "CXR_png").iterdir())
    found = {
        BARE: Start(python("pass")),
        COMMAND_LINE: Start(python("import jsonargparse")),
        SCREENING: Start(python(f"import {SCREENING}")),
        CALIBRATION: Start(python(f"import {CALIBRATION}")),
        SERVER: Start(python(f"import {SERVER}")),
        "import anomalib_cxr": Start(python("import anomalib_cxr")),
        **{" ".join(["anomalib-cxr", *words]): Start(partial(run, COMMAND, *words), COMMAND_LINE)
           for words in (["--version"], *([*verb.split(), "--help"] for verb in VERBS))},
        "imports of screen": Start(python(OF_SCREEN), SCREENING),
        "imports of calibrate, with a table": Start(python(OF_CALIBRATE), CALIBRATION),
        "imports of serve": Start(python(OF_SERVE), SERVER),
        "serve, until the table has come": Start(partial(serve, worklist), SERVER),
    }  # fmt: skip
    if model is not None:
        words = ("screen", image, "--model", model, "--any_source", "--worklist")
        found["screen, one X-ray"] = Start(lambda: run(COMMAND, *words, mkdtemp(dir=folder)), SCREENING)
    return found


def spread(values: npt.NDArray[np.float64], name: str) -> dict[str, float]:
    """Return the median of several values, the least and the greatest."""
    return {
        name: float(np.median(values)),
        f"{name}_least": float(values.min()),
        f"{name}_greatest": float(values.max()),
    }


def main(output: Path = Path("results/cold_start"), model: Path | None = None, repetitions: int = 7) -> None:
    """Measure, print and write.

    Args:
        output: Folder of the results.
        model: Folder of a calibrated model; None leaves out the screening of an X-ray.
        repetitions: Of each start.
    """
    with TemporaryDirectory() as name:
        worklist = fill_worklist(Path(name), rows=100, size=256)
        each = starts(worklist, Path(name), model)
        seconds = take_turns({what: start.job for what, start in each.items()}, repetitions)
    rows = [
        {"start": what, **spread(seconds[what], "seconds"), "beyond": start.beyond,
         **spread(seconds[what] - seconds[start.beyond], "added")}
        for what, start in each.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "cold_start.csv", index=False, float_format="%.3f")
    write_record({**code_record(), "cores": os.cpu_count(), "rows": rows}, output / "run.json")
    print(table.drop(columns="beyond").round(3).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    auto_cli(main)
