"""What the benchmarks of speed have in common: turns taken ratios with their spread, the machine's rates."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Seconds = dict[str, npt.NDArray[np.float64]]


def device_name() -> str:
    """Return what the benchmark runs on."""
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]  # noqa: PTH123, SIM115
    return models[0] if models else platform.processor()


def wait() -> None:
    """Wait until the device has done what it was told."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def resident(what: str) -> float:
    """Return the resident memory of this process now (`VmRSS`) or at its greatest (`VmHWM`), in MiB."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def forget_greatest() -> None:
    """Let the greatest resident memory of this process be what it is now."""
    Path("/proc/self/clear_refs").write_text("5")


def take_turns(jobs: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1) -> Seconds:
    """Time jobs one after the other, over and over: what slows the machine for a while then slows all of them.

    Args:
        jobs: The jobs by name.
        repetitions: Of each.
        warm_up: Rounds before, that do not count.

    Returns:
        Seconds of each repetition, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(-warm_up, repetitions):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(each) for name, each in seconds.items()}


def ratio(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the median of the ratios of each turn, with the least and the greatest."""
    each = ours / theirs
    return {"ratio": float(np.median(each)), "least": float(each.min()), "greatest": float(each.max())}


def matrix_rate(side: int = 2048, repetitions: int = 5) -> float:
    """Return the floating-point operations a second of a plain float32 matrix product, the best of several.

    On a GPU if there is one, in the precision that torch has there for float32.
    """
    left, right = (torch.randn(side, side, device=DEVICE) for _ in range(2))

    def product() -> None:
        for _ in range(10):
            left @ right
        wait()

    seconds = take_turns({"product": product}, repetitions)["product"]
    return float(20 * side**3 / seconds.min())


def copy_rate(megabytes: int = 512, repetitions: int = 5) -> float:
    """Return the bytes a second of a plain copy in memory, the best of several; each byte is read and written."""
    source = np.ones(megabytes * 2**20, np.uint8)
    target = np.empty_like(source)
    seconds = take_turns({"copy": lambda: np.copyto(target, source)}, repetitions)["copy"]
    return float(source.nbytes / seconds.min())
