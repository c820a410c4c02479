"""Application entity titles, PS3.5 6.2."""

from __future__ import annotations

MAX_CHARACTERS = 16


def is_ae_title(text: str) -> bool:
    r"""Return whether a text can name an application entity.

    Args:
        text: The text.

    Returns:
        True for 1 to 16 printable characters of ASCII without a backslash, and not only blanks.

    Example:
        >>> is_ae_title("XRAY ROOM 1"), is_ae_title("A\\B")
        (True, False)
    """
    fits = bool(text.strip()) and len(text) <= MAX_CHARACTERS
    return fits and text.isascii() and text.isprintable() and "\\" not in text
