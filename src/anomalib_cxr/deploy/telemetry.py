"""Usage statistics of other libraries: switched off, since nothing is to leave the machine.

OpenVINO and NNCF post events to Google Analytics when they are imported, convert or quantize, unless the user has
opted out. Others do so by their own means. Each has a switch, which processes that this one starts inherit.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SWITCHES = {
    "DO_NOT_TRACK": "1",  # Hugging Face and others
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "NNCF_CI": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_BUILD": "anomalib_cxr",  # by which OpenVINO knows a machine that builds and tests, on which it sends nothing
    "WANDB_ERROR_REPORTING": "false",
}
"""Environment variables that switch usage statistics off, by the library that reads them."""


def disable_telemetry() -> None:
    """Keep other libraries from sending usage statistics, in this process and in those that it starts.

    A switch that the user has set stays. OpenVINO and NNCF send by the package `openvino_telemetry`; without it they
    use a stub of their own, so it is hidden from them. If it is already imported, its sender is replaced.

    The command `anomalib` imports OpenVINO before this package. For it OpenVINO's own opt-out is written into the home
    folder, as `opt_in_out --opt_out` does, unless there is a decision of the user. It holds from the next command on.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("openvino_telemetry")
    if loaded is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import raises ImportError
    else:
        loaded.main.TelemetrySender.send = _discard
    with suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        _opt_out(_consent_file())


def _consent_file() -> Path:
    """Return the file with the user's decision, at the place that `openvino_telemetry` has it."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "Intel Corporation" / "openvino_telemetry"
    return Path.home() / "intel" / "openvino_telemetry"


def _opt_out(consent: Path) -> None:
    consent.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError), consent.open("x", encoding="ascii") as file:
        file.write("0")


def _discard(*_: Any) -> None:
    """Discard an event."""
