"""Sentences that a screening stores in English: found again by their form, to be shown in the language of a page.

A worklist keeps sentences, not codes: its tables are read without this package. Each sentence of the screening and of
monitoring has a message here, with the values that vary in braces. What has no message stays as it is: what a file
states, and the technical reason why it cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

_PLACES = tuple(
    f"{side} lung, {zone} zone ({shown} in the image)"
    for side, shown in (("right", "left"), ("left", "right"))
    for zone in ("upper", "middle", "lower")
)
STORED_TEXTS = (
    # Explanation of a score, and the guarantee of its threshold.
    "{share} of healthy images score as high.",
    "Most unusual: {place}.",
    *_PLACES,
    "no lungs found",
    "The score is no finite number.",
    "At most {share} of sick images are expected below the threshold, at {level} confidence.",
    "At most {share} of sick patients are expected below the threshold, at {level} confidence.",
    # Reasons of a refusal.
    "not readable as a frontal X-ray: {reason}",
    "cannot be screened: {reason}",
    "never validated on this kind of source: {source}",
    "age {age} outside the validated {first} to {last} years",
    "too small: {width} x {height} pixels, validated from {least}",
    "squeezed or cropped: {width} x {height} pixels",
    "blurred: the lungs lack fine detail",
    "noisy: noise covers the fine detail of the lungs",
    "blank",
    "no two lungs of plausible size and place",
    "no upright frontal chest X-ray",
    "most like {kind}",
    "turned by 90 degrees",
    "upside down",
    "inverted, dense tissue dark",
    "a part of the chest, or one that is too small in the image",
    "a lateral chest X-ray",
    "no chest X-ray",
    "{stated}, a lateral view",
    # Reasons as monitoring counts them.
    "not readable as a frontal X-ray",
    "cannot be screened",
    "never validated on this kind of source",
    "age outside the validated years",
    "too small",
    "squeezed or cropped",
    "blurred",
    "noisy",
    # Sentences of monitoring.
    "No X-ray in the worklist.",
    "No drift: the X-rays that came in are like those of the calibration.",
    "Drift: the calibration no longer describes the X-rays that come in.",
    "Too few X-rays to tell: {scored} were scored, {least} are needed.",
    "{n} X-rays from {first} to {last}, {scored} of them scored",
    "{older} older ones are not looked at",
    "{tests} tests, corrected by Holm's method for a rate of false alarms of {rate} a run.",
    "{group} ({n}): median {value}, in the calibration {expected}",
    "distance {distance}, PSI {psi}, corrected p {p}.",
    "{group} ({n}): {value} (95 % interval {low} to {high}), expected {expected}",
    "corrected p {p}.",
    "Also: {group}",
    "all X-rays",
    "week of {monday}",
    "machine {machine}",
    "view {view}",
    "The scores fit best to {fitted} sick people, where the calibration was told {expected}",
    "a distance of {distance} is left.",
    "{n} X-rays were screened by an older version, without their exposure: it is not compared.",
    # Names of the figures of monitoring.
    "anomaly score",
    "gray value in the lungs",
    "contrast of tissue and lungs",
    "below the threshold",
    "refused for their quality",
    "called abnormal by a reader, of those below the threshold that were read",
    "called abnormal by a reader, of those to be read that were read",
)
"""Messages of the sentences."""
_PARTS = re.compile(r"(; |(?<=\.) (?=[A-Z0-9])|, (?=(?:week of|machine|view) |all X-rays))")
"""What lies between parts: items of a list, sentences, and groups of X-rays."""
_FIELD = re.compile(r"\\{(\w+)\\}")  # of a template that was escaped


def translate_stored(text: str, translate: Callable[[str], str]) -> str:
    """Translate what a screening has stored, part by part.

    Args:
        text: Sentences, or reasons separated by semicolons.
        translate: Function that translates a message of `STORED_TEXTS`, and returns other texts as they are.

    Returns:
        The text; parts without a message are as they were.

    Example:
        >>> translate_stored("too small: 9 x 9 pixels, validated from 64; other", lambda text: f"<{text}>")
        '<too small: 9 x 9 pixels, validated from 64>; other'
    """
    parts = _PARTS.split(text)
    return "".join(part if number % 2 else _translate_part(part, translate) for number, part in enumerate(parts))


def _translate_part(part: str, translate: Callable[[str], str]) -> str:
    for template, pattern in _patterns():
        if match := pattern.fullmatch(part):
            values = {name: _translate_part(value, translate) for name, value in match.groupdict().items()}
            return translate(template).format(**values)
    small = part[:1].lower() + part[1:]
    if small in STORED_TEXTS and small != part:  # the name of a figure at the beginning of a sentence
        found = translate(small)
        return found[:1].upper() + found[1:]
    return part


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return a pattern for each message, those without values first."""
    ordered = sorted(STORED_TEXTS, key=lambda template: template.count("{"))
    return tuple((each, re.compile(_FIELD.sub(r"(?P<\1>.+?)", re.escape(each)))) for each in ordered)
