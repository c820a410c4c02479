"""Choice of the language of the pages."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import RedirectResponse

from anomalib_cxr.web.forms import Form, text_field
from anomalib_cxr.web.translation import COOKIE, LANGUAGES, translatable

LANGUAGE = "/language"
"""Path that needs no sign-in: the page of the sign-in has the choice, too."""
_SECONDS = 365 * 24 * 3600
router = APIRouter()


@router.post(LANGUAGE)
async def choose_language(form: Form) -> Response:
    """Keep a language for a year in a cookie, and return a redirect to the page that it was chosen on.

    Args:
        form: Fields `language` and `back`, an address of this server.

    Raises:
        HTTPException: If there is no such language.
    """
    language, back = text_field(form, "language"), text_field(form, "back")
    if language not in LANGUAGES:
        raise HTTPException(400, translatable("There is no such language."))
    is_own = back.startswith("/") and not back.startswith(("//", "/\\"))  # others could lead to another server
    answer = RedirectResponse(back if is_own else "/", status_code=303)
    answer.set_cookie(COOKIE, language, max_age=_SECONDS, httponly=True, samesite="strict")
    return answer
