"""Language of the pages: messages in English, and catalogs of their translations.

A message is written in English where it arises, as the argument of :func:`translatable` or in a template. Catalogs are
the files `locale/<language>/messages.po`, which any editor of translations opens.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from fastapi import Request

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Decision, Verdict
from anomalib_cxr.screening.heat_colors import EXPLANATION

from .stored_texts import STORED_TEXTS, translate_stored

LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Languages by their codes, each in its own words. The first one is that of the messages."""
COOKIE = "language"
"""Name of the cookie that keeps the language that was chosen."""
CONSTANTS = (
    BELOW_THRESHOLD_NOTICE,
    EXPLANATION,
    *(decision.value for decision in Decision),
    *(verdict.value for verdict in Verdict),
    *STORED_TEXTS,
)
"""Messages of other parts of the package that the pages show."""
_LOCALE = Path(__file__).parent / "locale"
_MAX_HEADER = 500  # characters


class Message(str):
    """Text in English that can be translated when it is shown, with the values that are put into it."""

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, object]


def translatable(template: str, **values: object) -> Message:
    """Return a text that can be translated.

    Args:
        template: Text in English, with names of values in braces.
        values: The values. Those that are messages are translated, too.

    Example:
        >>> translatable("There is no case {number} in this worklist.", number=7)
        'There is no case 7 in this worklist.'
    """
    text = Message(template.format(**values) if values else template)
    text.template, text.values = template, values
    return text


def translated(text: str, language: str) -> str:
    """Return a text in a language; in English where it has no translation, as what a file or a reader says.

    What a screening has stored is found by its form.

    Args:
        text: A message, or any other text.
        language: Code of the language.

    Example:
        >>> translated(translatable("There is no case {number} in this worklist.", number=7), "de")
        'In dieser Arbeitsliste gibt es keinen Fall 7.'
        >>> translated("abnormal", "de"), translated("abnormal", "en"), translated("Dr. Ada", "de")
        ('auffällig', 'abnormal', 'Dr. Ada')
    """
    messages = catalog(language)
    if not isinstance(text, Message):
        found = messages.gettext(text) if text else text
        is_english = type(messages) is NullTranslations
        return found if found != text or is_english else translate_stored(text, messages.gettext)
    template = messages.gettext(text.template)
    if not text.values:
        return template
    values = {
        name: translated(value, language) if isinstance(value, Message) else value
        for name, value in text.values.items()
    }
    return template.format(**values)


@cache
def catalog(language: str) -> NullTranslations:
    """Return the translations into a language.

    Args:
        language: Code of the language.
    """
    file = _LOCALE / language / "messages.po"
    if not file.is_file():  # English
        return NullTranslations()
    compiled = io.BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def language_of(request: Request) -> str:
    """Return the language of a page: the one that was chosen, or else the best one that the browser accepts.

    Args:
        request: The request.
    """
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return chosen
    accepted = _accepted(request.headers.get("accept-language", ""))
    return negotiate_locale(accepted, list(LANGUAGES), sep="-") or next(iter(LANGUAGES))


def _accepted(header: str) -> list[str]:
    """Return the languages of an Accept-Language header (RFC 9110, 12.5.4), the most wanted one first.

    Example:
        >>> _accepted("en;q=0.5, de-AT, fr;q=0, nonsense;q=x")
        ['de-AT', 'en']
    """
    wanted = []
    for part in header[:_MAX_HEADER].split(","):
        name, _, quality = part.strip().partition(";")
        number = quality.strip().removeprefix("q=") or "1"
        if name and number.replace(".", "", 1).isdecimal() and float(number) > 0:
            wanted.append((-float(number), name.strip()))
    return [name for _, name in sorted(wanted, key=lambda pair: pair[0])]
