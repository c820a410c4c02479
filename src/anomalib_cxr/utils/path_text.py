"""Paths as printable text, and back: a file name is bytes, and need not be valid text."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LOOKS_ESCAPED = re.compile(rb"\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def path_as_text(path: Path | str) -> str:
    r"""Return a path as text that can be printed, stored and encoded.

    Args:
        path: Any path. Python has bytes that are no UTF-8, such as those of a Latin-1 name, as lone surrogates, which
            no file, table or terminal takes.

    Returns:
        The path itself; bytes that are no UTF-8 are `\xNN`, and so is a backslash that looks like the start of one.

    Example:
        >>> path_as_text(os.fsdecode(b"/xrays/M\xfcller.png"))
        '/xrays/M\\xfcller.png'
        >>> path_as_text("/xrays/plain.png")
        '/xrays/plain.png'
    """
    return _LOOKS_ESCAPED.sub(rb"\\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def text_as_path(text: str) -> Path:
    r"""Return the path behind a text of :func:`path_as_text`.

    Args:
        text: The text.

    Example:
        >>> os.fsencode(text_as_path(r"/xrays/M\xfcller.png"))
        b'/xrays/M\xfcller.png'
    """
    raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8", "surrogatepass"))
    return Path(os.fsdecode(raw))
