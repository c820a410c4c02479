"""Output of other libraries that a user can do nothing about."""

from __future__ import annotations

import logging
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from types import TracebackType

from anomalib_cxr.errors import CxrError

WARNINGS = (
    (r"Importing from timm\.models\.layers is deprecated", r"timm\.models\.layers"),
    (r"The anomalib\.models\.components\.dinov2 package is deprecated", r"anomalib\.models\.image\.dinomaly\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"lightning\.(pytorch|fabric)\."),
)
"""Warnings that libraries cause in one another, by message and module."""
TALKATIVE = ("onnx_ir", "onnxscript")
"""Loggers that report each node which an export simplifies."""
_ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], object]
_WRAPPED = re.compile(r"  - (found: .*?)\n(?:  - |Given value type: )", re.DOTALL)
_LOGGED_TWICE = (None, "lightning.pytorch")  # loggers to which anomalib's command adds two handlers; the first is root
FORMAT_OF_ANOMALIB = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def quiet_libraries() -> None:
    """Silence warnings that only other libraries can act on, reports of each node of an export, and doubled log lines.

    anomalib's command adds two handlers to the root logger, so that each line appears twice. The one without line
    breaks stays, since commands and paths can be copied from its output. It also prints pages of other libraries' code
    above each error; of one about the input, the message alone is then printed.
    """
    for message, module in WARNINGS:
        warnings.filterwarnings("ignore", message=message, module=module)
    for name in TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    for library in map(logging.getLogger, _LOGGED_TWICE):
        if any(handler.formatter and handler.formatter._fmt == FORMAT_OF_ANOMALIB for handler in library.handlers):  # noqa: SLF001
            for handler in [handler for handler in library.handlers if type(handler).__name__ == "RichHandler"]:
                library.removeHandler(handler)
            if sys.excepthook is not print_error:
                _excepthooks.append(sys.excepthook)
                sys.excepthook = print_error


_excepthooks: list[_ExceptHook] = []  # those of the command, for errors of other kinds


def print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the message of an error about the input, and any other error as before.

    Args:
        kind: Its class.
        error: The error that ends the process.
        trace: Its traceback.
    """
    message = input_message(error)
    if message is None:
        _excepthooks[-1](kind, error, trace)
    else:
        print(f"anomalib: {message}", file=sys.stderr)  # noqa: T201  # as a command says it


def input_message(error: BaseException) -> str | None:
    r"""Return the message of an error about the input, which may be inside that of the command's parser.

    Args:
        error: Any error.

    Returns:
        What was found and expected, and the next step; None for errors of other kinds.

    Example:
        >>> wrapped = ValueError("Errors:\n  - Expected None\n  - found: a\n      expected: b\nGiven value type: int")
        >>> print(input_message(wrapped))
        found: a
          expected: b
    """
    if isinstance(error, CxrError):
        return str(error)
    wrapped = _WRAPPED.search(str(error)) if isinstance(error, ValueError) else None
    return None if wrapped is None else textwrap.dedent(f"    {wrapped[1]}")
