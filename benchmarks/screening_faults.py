"""Integrity of a worklist when the screening is killed, files are damaged, or the disk is full.

    python benchmarks/screening_faults.py MODEL --kills 50 --files 2000

MODEL is the folder of a calibrated model. Three trials, with the real command:

- An archive of phantoms is screened while the process is killed by SIGKILL at random moments and started again. The
  rows must be those of an undisturbed screening, each once, and every image complete.
- An archive of damaged PNG and DICOM files, as `benchmarks/fuzz.py` makes them: a row for each, and exit code 0.
- As root: the output on a file system that is too small. A clear error, rows and images that were written before are
  complete, and with more space it goes on.

Writes `screening_faults.json`, and exits with 1 if something is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from fuzz import draw_originals, mutate_files
from jsonargparse import auto_cli
from PIL import Image
from rich.progress import track

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.provenance import code_record, write_record

COMMAND = [sys.executable, "-c", "from anomalib_cxr.cli import main; main()"]
SMALL_DISK = "1m"


def start(archive: Path, model: Path, output: Path) -> subprocess.Popen[str]:
    """Start a screening."""
    words = ["screen", str(archive), "--model", str(model), "--worklist", str(output), "--any_source"]
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def rows_of(output: Path) -> list[tuple[Any, ...]]:
    """Return the facts that every screening of the same files must share, and decode each image."""
    cases = [case for _, case in Worklist(output).find()]
    for case in cases:
        for name in (case.heatmap, f"{case.layers}-heat.png", f"{case.layers}-lungs.png") if case.heatmap else ():
            Image.open(output / name).load()
    return sorted((case.path, case.decision, case.why, case.score and round(case.score, 5)) for case in cases)


def kill_often(model: Path, folder: Path, kills: int, images: int, rng: np.random.Generator) -> dict[str, Any]:
    """Screen with kills, and compare with a screening without."""
    archive = (
        write_phantoms(folder / "archive", n_normal=images // 2, n_sick=images - images // 2, size=256) / "CXR_png"
    )
    began = time.perf_counter()
    start(archive, model, folder / "whole").wait()
    seconds = time.perf_counter() - began
    grown = []
    for _ in track(range(kills), "Kills"):
        screening = start(archive, model, folder / "killed")
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        screening.kill()
        screening.wait()
        database = folder / "killed/worklist.sqlite"
        grown.append(Worklist(folder / "killed").count() if database.is_file() else 0)
        if grown[-1] == images:  # all is done: begin anew
            os.replace(folder / "killed", folder / f"done-{len(grown)}")  # noqa: PTH105
    start(archive, model, folder / "killed").wait()
    whole = rows_of(folder / "whole")
    done = [folder / "killed", *folder.glob("done-*")]
    differ = [str(output.name) for output in done if rows_of(output) != whole]
    return {"kills": kills, "images": images, "screenings": len(done), "rows_at_kill": grown, "differ": differ}


def screen_damaged(model: Path, folder: Path, files: int, seed: int) -> dict[str, Any]:
    """Screen damaged files, and count the decisions."""
    archive = folder / "damaged"
    archive.mkdir()
    for title, content in mutate_files(draw_originals(folder / "seeds"), files, seed):
        (archive / f"{title}.dat").write_bytes(content)
    screening = start(archive, model, folder / "fuzzed")
    words, _ = screening.communicate()
    counts = {decision.value: count for decision, count in Worklist(folder / "fuzzed").counts().items()}
    lost = files - sum(counts.values())
    return {"files": files, "exit": screening.returncode, "lost": lost, **counts, "words": words[-500:] * (lost != 0)}


def fill_disk(model: Path, folder: Path) -> dict[str, Any]:
    """Screen onto a disk that is too small, then onto the same one with more space."""
    archive, output = folder / "archive/CXR_png", folder / "disk"
    output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(output)], check=True)  # noqa: S603, S607
    try:
        screening = start(archive, model, output)
        words, _ = screening.communicate()
        subprocess.run(["mount", "-o", "remount,size=200m", str(output)], check=True)  # noqa: S603, S607
        kept = rows_of(output)
        start(archive, model, output).wait()
        same = rows_of(output) == rows_of(folder / "whole")
    finally:
        subprocess.run(["umount", str(output)], check=True)  # noqa: S603, S607
    return {"exit": screening.returncode, "kept": len(kept), "said": words.splitlines()[-3:], "whole_afterwards": same}


def main(
    model: Path,
    output: Path = Path("results/faults"),
    kills: int = 50,
    files: int = 2000,
    images: int = 120,
    seed: int = 0,
) -> None:
    """Run the three trials, print and write.

    Args:
        model: Folder of a calibrated model.
        output: Folder of the result.
        kills: Number of kills.
        files: Number of damaged files.
        images: Number of X-rays in the archive that is screened with kills.
        seed: Seed of the moments and the damages.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = {"kills": kill_often(model, folder, kills, images, np.random.default_rng(seed))}
        found["damaged"] = screen_damaged(model, folder, files, seed)
        if os.geteuid() == 0:
            found["full_disk"] = fill_disk(model, folder)
    write_record({**code_record(), "seed": seed, **found}, output / "screening_faults.json")
    for trial, outcome in found.items():
        print(trial, outcome)  # noqa: T201
    disk = found.get("full_disk", {"exit": 1, "whole_afterwards": True})
    wrong = found["kills"]["differ"] or found["damaged"]["lost"] or found["damaged"]["exit"]
    sys.exit(int(bool(wrong) or disk["exit"] != 1 or not disk["whole_afterwards"]))


if __name__ == "__main__":
    auto_cli(main)
