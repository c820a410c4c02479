"""Search in the worklist: texts that look alike are found, however they are spelled in Unicode."""

from __future__ import annotations

import unicodedata

from anomalib_cxr.screening.case import Case


def search_key(text: str) -> str:
    r"""Fold a text so that letter case and the normal form of Unicode make no difference.

    Args:
        text: Any text. File names of one system are composed, those of another one decomposed.

    Returns:
        The text in the normal form NFKC, with folded case.

    Example:
        >>> search_key("Zoe\u0308") == search_key("ZO\u00cb"), search_key("STRASSE") == search_key("Stra\u00dfe")
        (True, True)
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())


def search_text(case: Case) -> str:
    """Return what a case is found by: its path and its UIDs, folded, a line each.

    Args:
        case: The case.
    """
    return "\n".join(map(search_key, (case.path, case.study_uid, case.sop_uid)))
