"""Names and texts that people give: one spelling in Unicode, and nothing in them that cannot be seen."""

from __future__ import annotations

import unicodedata

_UNSEEN = frozenset(("Cc", "Cs"))  # categories: controls, such as NUL, and halves of characters
_TURNS = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))  # of the direction of writing
_MAX_SHOWN = 5


def composed(text: str) -> str:
    r"""Return a text in Unicode's composed form, with lines that end in a line feed, without blanks at both ends.

    Args:
        text: Any text.

    Example:
        >>> composed(" Zoe\u0308 ")
        'Zoë'
    """
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").strip())


def unseen_characters(text: str, allowed: str = "") -> str:
    r"""Name the characters that cannot be shown.

    They are controls, such as NUL, which other programs take for the end of a text, and those that turn the direction
    of writing, which make a text look like another one.

    Args:
        text: Any text.
        allowed: Characters that are admitted.

    Returns:
        Code points of the first five; empty where there is none.

    Example:
        >>> unseen_characters("Ada\0\u202e"), unseen_characters("Ada")
        ('U+0000, U+202E', '')
    """
    unseen = sorted(
        {
            character
            for character in text
            if character not in allowed
            and (unicodedata.category(character) in _UNSEEN or unicodedata.bidirectional(character) in _TURNS)
        }
    )
    return ", ".join(f"U+{ord(character):04X}" for character in unseen[:_MAX_SHOWN])
