"""Output of other libraries that a user can do nothing about."""

from __future__ import annotations

import logging
import warnings

WARNINGS = (
    (r"Importing from timm\.models\.layers is deprecated", r"timm\.models\.layers"),
    (r"The anomalib\.models\.components\.dinov2 package is deprecated", r"anomalib\.models\.image\.dinomaly\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"lightning\.(pytorch|fabric)\."),
)
"""Warnings that libraries cause in one another, by message and module."""
TALKATIVE = ("onnx_ir", "onnxscript")
"""Loggers that report each node which an export simplifies."""
FORMAT_OF_ANOMALIB = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def quiet_libraries() -> None:
    """Silence warnings that only other libraries can act on, reports of each node of an export, and doubled log lines.

    anomalib's command adds two handlers to the root logger, so that each line appears twice. The one without line
    breaks stays, since commands and paths can be copied from its output.
    """
    for message, module in WARNINGS:
        warnings.filterwarnings("ignore", message=message, module=module)
    for name in TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    root = logging.getLogger()
    if any(handler.formatter and handler.formatter._fmt == FORMAT_OF_ANOMALIB for handler in root.handlers):  # noqa: SLF001
        for handler in [handler for handler in root.handlers if type(handler).__name__ == "RichHandler"]:
            root.removeHandler(handler)
