"""Text that is drawn: on the page of a case, and on the picture that stands in for a heatmap that there is not."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from functools import cache

import numpy as np
from matplotlib.font_manager import findfont, get_font
from PIL import Image, ImageDraw, ImageFont

from anomalib_cxr.data.reading.dicom_text import printable
from anomalib_cxr.screening.case import NOT_SCORED_NOTICE, Case

FONT = "DejaVu Sans"
"""Font of all drawn text, which comes with matplotlib: Latin, Greek and Cyrillic letters, and signs."""
LEFT_OUT = "[...]"
_LEFT_OUT_NOTICE = f"{LEFT_OUT}: letters that cannot be drawn here; the structured report has them."
_RIGHT_TO_LEFT = frozenset({"R", "AL"})  # drawn letter by letter, they would be in the wrong order and not joined
_SIDE, _MARGIN = 512, 24  # pixels
_POINTS, _LINE = 17, 48  # size of the letters in pixels, and characters in a line


def drawable(text: str) -> str:
    """Return a text whose letters the font has, on one line.

    Args:
        text: Any text. Letters that the font lacks, and those of scripts that run from right to left, become `[...]`.

    Example:
        >>> drawable("DICOM DX, \u6771\u829d X-1"), drawable("\u0391\u03b8\u03ae\u03bd\u03b1")
        ('DICOM DX, [...] X-1', 'Αθήνα')
    """
    known = _letters()
    shown = "".join(letter if _can_draw(letter, known) else "\0" for letter in printable(text))
    return re.sub("\0+", LEFT_OUT, shown)


def drawn_lines(texts: list[str], width: int) -> list[str]:
    """Return the lines of a text to draw, and a last one if letters are left out.

    Args:
        texts: Paragraphs; empty ones are left out.
        width: Characters in a line, at most.
    """
    shown = [drawable(text).strip() for text in texts]
    notice = [_LEFT_OUT_NOTICE] * any(LEFT_OUT in text for text in shown)
    return [line for text in (*shown, *notice) for line in textwrap.wrap(text, width)]


def draw_refusal(case: Case) -> np.ndarray:
    """Draw the picture of a refused case: that it was not scored, and why.

    Args:
        case: The case.

    Returns:
        RGB, `(H, W, 3)`, uint8.

    Example:
        >>> from anomalib_cxr.screening.case import Decision
        >>> draw_refusal(Case("/a.dcm", 1, 1, Decision.REFUSED, why="blurred")).shape
        (512, 512, 3)
    """
    file = findfont(FONT)
    reason = drawn_lines([case.why, NOT_SCORED_NOTICE], _LINE)
    height = 2 * _MARGIN + 3 * _POINTS + len(reason) * 3 * _POINTS // 2
    picture = Image.new("RGB", (_SIDE, max(_SIDE, height)))
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), "anomalib_cxr: not scored", fill="white", font=ImageFont.truetype(file, 2 * _POINTS))
    font = ImageFont.truetype(file, _POINTS)
    for number, line in enumerate(reason):
        place = (_MARGIN, _MARGIN + 3 * _POINTS + number * 3 * _POINTS // 2)
        draw.text(place, line, fill="white", font=font)
    return np.asarray(picture)


@cache
def _letters() -> frozenset[str]:
    return frozenset(map(chr, get_font(findfont(FONT)).get_charmap()))


def _can_draw(letter: str, known: frozenset[str]) -> bool:
    return letter in known and unicodedata.bidirectional(letter) not in _RIGHT_TO_LEFT
