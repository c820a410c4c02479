"""Worklist of phantoms and the real server on it, for the benchmarks of the page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.radiograph import read_mask
from anomalib_cxr.deploy.runtime import hash_of
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.pipeline.explanation import write_png
from anomalib_cxr.screening.worklist.store import Worklist

COMMAND = Path(sys.executable).with_name("anomalib-cxr")
N_PHANTOMS = 10


def fill_worklist(folder: Path, rows: int, size: int = 1024) -> Worklist:
    """Create a worklist of links to a few phantoms with random scores, one in five to be read.

    Args:
        folder: Folder to create.
        rows: Number of cases.
        size: Side of the phantoms in pixels.

    Returns:
        The worklist.
    """
    root = write_phantoms(folder / "phantoms", n_normal=N_PHANTOMS // 2, n_sick=N_PHANTOMS // 2, size=size)
    phantoms = sorted((root / "CXR_png").iterdir())
    worklist = Worklist(folder / "out", create=True)
    for phantom in phantoms:
        lungs = read_mask(root / "masks" / phantom.name).numpy().astype(float)
        write_png(lungs, worklist.folder / f"layers/{phantom.stem}-lungs.png")
        write_png(gaussian_filter(lungs, size / 40), worklist.folder / f"layers/{phantom.stem}-heat.png")
    (archive := folder / "archive").mkdir()
    rng = np.random.default_rng(0)
    contents = {phantom: hash_of([phantom]) for phantom in phantoms}
    chosen = [phantoms[index % N_PHANTOMS] for index in range(rows)]
    worklist.add(
        _row(archive, index, phantom, contents[phantom], float(rng.random())) for index, phantom in enumerate(chosen)
    )
    return worklist


def _row(archive: Path, index: int, phantom: Path, content: str, score: float) -> Case:
    path = archive / f"{index:06d}.png"
    os.link(phantom, path)
    stat = path.stat()
    return Case(
        str(path),
        stat.st_size,
        stat.st_mtime_ns,
        Decision.TO_READ if score >= 0.8 else Decision.BELOW_THRESHOLD,  # noqa: PLR2004
        content=content,
        score=score,
        threshold=0.8,
        guarantee="At most 5 % of sick people are expected below the threshold, at 95 % confidence.",
        probability=score**2,
        p_value=1 - score * 0.999,
        findings="Drawn at random, to measure the page.",
        study_uid=f"1.2.826.0.1.{index}",
        sop_uid=f"1.2.826.0.2.{index}",
        layers=f"layers/{phantom.stem}",
        model="0" * 64,
        screened="2026-01-31T10:00:00+00:00",
    )


def start_server(worklist: Worklist) -> tuple[subprocess.Popen[str], str]:
    """Start `anomalib-cxr serve`, and wait until it listens.

    Returns:
        The process, and the address.
    """
    server = subprocess.Popen(  # noqa: S603  # this project's own command
        [COMMAND, "serve", "--worklist", worklist.folder, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None  # noqa: S101  # it is a pipe
    for line in server.stdout:
        found = re.search(r"http://[\d.]+:\d+", line)
        if found:
            return server, found[0]
    raise RuntimeError(f"the server ended with {server.wait()}")


@contextmanager
def served(worklist: Worklist) -> Iterator[str]:
    """Run a server, and yield its address."""
    server, address = start_server(worklist)
    try:
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def hidden_field(text: str, name: str) -> str:
    """Return the value of a hidden field of a page's form, such as `csrf`."""
    found = re.search(rf'name="{name}" value="([0-9a-f]*)"', text)
    if found is None:
        raise RuntimeError(f"the page has no form with {name}")
    return found[1]
