"""The most memory that a run holds at once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

import psutil
import torch
from typing_extensions import Self

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Measures the peak of a block: on a GPU of what torch allocated there, else of the whole process.

    On Linux the kernel keeps the peak and can be told to begin anew, which makes runs comparable that follow each other
    in one process. Elsewhere the peak is that of the process since its start.

    Example:
        >>> with PeakMemory() as memory:
        ...     _ = torch.ones(10**7)
        >>> memory.peak > 4 * 10**7, memory.device in {"cpu", "cuda"} or memory.device != ""
        (True, True)
    """

    peak: int
    """In bytes, once the block has ended."""

    def __enter__(self) -> Self:
        """Begin anew."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif _RESET.exists():
            _RESET.write_text(_RESET_PEAK, encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read the peak."""
        self.peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _process_peak()

    @property
    def device(self) -> str:
        """Name of the device whose memory is measured."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _process_peak() -> int:
    """Return the peak of the resident memory of this process, in bytes."""
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss)) if sys.platform == "win32" else int(memory.rss)
