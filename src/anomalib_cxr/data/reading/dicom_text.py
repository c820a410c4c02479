"""Texts of DICOM attributes for errors and tables, safe to show although a damaged value may hold anything."""

from __future__ import annotations

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

UNREADABLE = "\ufffd"
"""Letter in place of one whose character set is not stated."""
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


def stated_text(text: str, dataset: Dataset) -> str:
    r"""Return a text without letters that were guessed.

    Without a Specific Character Set (0008,0005) only ASCII is allowed (PS3.5 6.1.2). But many files have names in the
    character set of their machine, which pydicom reads as Latin-1: a Russian name becomes one of wrong letters.

    Args:
        text: Text as pydicom has read it.
        dataset: Its dataset.

    Returns:
        The text; where no character set is stated, as UTF-8 if all of it is that, or else with U+FFFD for all that is
        not ASCII.

    Example:
        >>> ascii(stated_text("Ян^A".encode("cp1251").decode("latin-1"), Dataset()))
        "'\\ufffd\\ufffd^A'"
        >>> stated_text("Иванов".encode().decode("latin-1"), Dataset())
        'Иванов'
    """
    if text.isascii() or _states_character_set(dataset):
        return text
    try:
        return text.encode(default_encoding).decode("utf-8")
    except UnicodeEncodeError:  # it was not read as Latin-1
        return text
    except UnicodeDecodeError:
        return "".join(letter if letter.isascii() else UNREADABLE for letter in text)


def _states_character_set(dataset: Dataset) -> bool:
    """Return whether a dataset states a character set with more than ASCII."""
    stated = dataset.get("SpecificCharacterSet") or ""
    names = list(stated) if isinstance(stated, MultiValue) else [str(stated)]
    try:
        encodings = convert_encodings(names)
    except LookupError:
        return False
    return any(encoding != default_encoding for encoding in encodings)
