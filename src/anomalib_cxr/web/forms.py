"""Forms that browsers send: size, origin, and the text of their fields."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from .names import composed, unseen_characters
from .translation import translatable

UPLOAD, SCORE = "/upload", "/api/score"
MAX_FORM, MAX_UPLOAD = 64 * 1024, 200 * 1024**2
"""Size limits in bytes of a form without a file, and of an uploaded file."""
OUTDATED = translatable("This form is outdated. Nothing was saved. Go back, reload the page, and send the form again.")
_MAX_DIGITS = 15


def check_length(request: Request) -> None:
    """Refuse a form that does not say how long it is, or is too long, before it is read.

    Args:
        request: The request.

    Raises:
        HTTPException: If it is refused.
    """
    length = request.headers.get("Content-Length", "")
    limit = MAX_FORM + (MAX_UPLOAD if request.scope["path"] in {UPLOAD, SCORE} else 0)
    # The server holds a sender to the length that it declares; forms of browsers always do.
    is_declared = "Transfer-Encoding" not in request.headers and length.isascii() and length.isdecimal()
    if not is_declared or len(length) > _MAX_DIGITS or int(length) > limit:
        raise HTTPException(
            413,
            translatable(
                "Too large, or of unknown length: the limit is {limit} MB. Nothing was saved.",
                limit=MAX_UPLOAD // 1024**2,
            ),
        )


async def checked_form(request: Request) -> dict[str, str | UploadFile]:
    """Return the fields of a form whose CSRF token is that of the session.

    Args:
        request: The request.

    Raises:
        HTTPException: If the form cannot be read, another site sent it, or a page of a former session.
    """
    try:
        fields = dict(await request.form(max_files=1, max_fields=10, max_part_size=MAX_FORM))
    except (HTTPException, ClientDisconnect):
        raise
    except (LookupError, ValueError) as error:  # such as a character set that nobody knows
        raise HTTPException(400, translatable("The form cannot be read. Nothing was saved.")) from error
    csrf = fields.get("csrf")
    if not isinstance(csrf, str) or not hmac.compare_digest(csrf.encode(), request.session["csrf"].encode()):
        raise HTTPException(403, OUTDATED)
    return fields


Form = Annotated[dict[str, str | UploadFile], Depends(checked_form)]
"""Fields of a form that a page of this session sent."""


def text_field(form: dict[str, str | UploadFile], name: str, lines: bool = False) -> str:
    r"""Return the text of a field in Unicode's composed form, without blanks at both ends.

    Args:
        form: Fields of a form.
        name: Name of the field.
        lines: Admit several lines.

    Returns:
        The text; empty where the field is missing.

    Raises:
        HTTPException: If it has control characters, such as NUL, which other programs take for the end of a text, or
            characters that turn the direction of writing, which make a text look like another one.

    Example:
        >>> text_field({"reader": " Zoe\u0308 "}, "reader")
        'Zoë'
    """
    value = form.get(name, "")
    text = composed(value) if isinstance(value, str) else ""
    if unseen := unseen_characters(text, "\n\t" if lines else ""):
        raise HTTPException(
            400,
            translatable(
                "The field “{name}” has characters that cannot be shown: {unseen}. Nothing was saved.",
                name=name,
                unseen=unseen,
            ),
        )
    return text
