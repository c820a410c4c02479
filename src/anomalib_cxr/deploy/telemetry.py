"""Usage statistics of OpenVINO, NNCF and Ray: switched off, since nothing is to leave the machine."""

from __future__ import annotations

import os
import sys
from typing import Any


def disable_telemetry() -> None:
    """Keep OpenVINO, NNCF and Ray from sending usage statistics from this process.

    Unless the user has opted out, OpenVINO and NNCF send events by the package `openvino_telemetry` when they are
    imported, convert or quantize. Without that package they use a stub of their own, so it is hidden from them; if it
    is already imported, its sender is replaced. An event of OpenVINO's own import, before that of this package (as by
    the command `anomalib`), cannot be kept back from here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    loaded = sys.modules.get("openvino_telemetry")
    if loaded is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that its import raises ImportError
    else:
        loaded.main.TelemetrySender.send = _discard


def _discard(*_: Any) -> None:
    """Discard an event."""
