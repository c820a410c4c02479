"""Usage statistics of other libraries: switched off, since nothing is to leave the machine.

OpenVINO and NNCF post events to Google Analytics when they are imported, convert or quantize, unless the user has
opted out. Others do so by their own means. Each has a switch, which processes that this one starts inherit.
"""

from __future__ import annotations

import os
import sys
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

    The command `anomalib` imports OpenVINO before this package, but torch before both. torch calls the entry points of
    the group `torch.backends` when it is imported, and this function is one of them.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("openvino_telemetry")
    if loaded is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import raises ImportError
    else:
        loaded.main.TelemetrySender.send = _discard


def _discard(*_: Any) -> None:
    """Discard an event."""
