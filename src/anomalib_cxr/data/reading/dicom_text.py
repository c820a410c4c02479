"""Texts of DICOM attributes for errors and tables, safe to show although a damaged value may hold anything."""

from __future__ import annotations

from pydicom.tag import Tag

_MAX_SHOWN = 64  # characters; a damaged value may have any length


def tag_text(keyword: str) -> str:
    """Return the name of an attribute with its tag.

    Args:
        keyword: DICOM keyword.

    Returns:
        Such as `Rows (0028,0010)`.

    Example:
        >>> tag_text("Rows")
        'Rows (0028,0010)'
    """
    return f"{keyword} {Tag(keyword)}"


def statement(keyword: str, value: object) -> str:
    """Return what an attribute states, shortened, for an error.

    Args:
        keyword: DICOM keyword.
        value: Its value.

    Returns:
        Such as `Modality (0008,0060) = 'CT'`.

    Example:
        >>> statement("Modality", "CT")
        "Modality (0008,0060) = 'CT'"
    """
    text = f"'{value}'" if isinstance(value, str) else repr(value)  # repr doubles the backslash of several values
    return f"{tag_text(keyword)} = {text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}...'}"


def printable(text: str) -> str:
    r"""Replace characters that cannot be printed, such as line breaks, by blanks.

    Args:
        text: Any text.

    Returns:
        A text of the same length.

    Example:
        >>> printable("CHEST\nPA")
        'CHEST PA'
    """
    return "".join(character if character.isprintable() else " " for character in text)
