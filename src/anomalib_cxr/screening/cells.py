"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # by which a spreadsheet knows what it would compute


def harmless(cell: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not compute; a note may begin with an equals sign.

    Example:
        >>> harmless("=1+1"), harmless("a=b"), harmless(-0.5)
        ("'=1+1", 'a=b', -0.5)
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
