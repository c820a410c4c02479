"""Rendering of pages: templates, number formats, and the error page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import numpy as np
from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Decision, VerdictRecord
from anomalib_cxr.screening.heat_colors import EXPLANATION, TICKS, color_bar_stops
from anomalib_cxr.screening.worklist.store import CaseQuery, Worklist

from .blind.reading import READING
from .forms import MAX_UPLOAD, SCORE
from .sessions import account_of
from .translation import LANGUAGES, catalog, language_of, translatable, translated

MISSING = "\N{EN DASH}"
"""Text in place of a missing number."""
MAX_SEARCH = 200
_UID_FILE = re.compile(r"(?=.{24,})[0-9.]+(-\d+)?\.dcm")
_SHOWN = 15  # characters of a UID
_TITLES = {
    400: translatable("Bad Request"),
    403: translatable("Forbidden"),
    404: translatable("Not Found"),
    405: translatable("Method Not Allowed"),
    409: translatable("Conflict"),
    413: translatable("Too Large"),
    422: translatable("Cannot Be Used"),
    500: translatable("Internal Server Error"),
    503: translatable("Service Unavailable"),
    507: translatable("Insufficient Storage"),
}
MAX_NUMBER = 2**63 - 1
"""Largest integer of SQLite."""
FILTERS = {
    "to_read": (translatable("To be read"), Decision.TO_READ),
    "below_threshold": (translatable("Below the calibrated threshold"), Decision.BELOW_THRESHOLD),
    "refused": (translatable("Refused"), Decision.REFUSED),
    "all": (translatable("All"), None),
}
"""Label and decision of each filter of the table, by its name in the address."""


def percent(share: float | None) -> str:
    """Format a share as a percentage.

    Args:
        share: In [0, 1], or None.

    Returns:
        The percentage with its sign; a dash for None.

    Example:
        >>> [percent(share) for share in (0.8731, 0.0412, 0.0001, 0.0, 1.0)]
        ['87 %', '4.1 %', '< 0.1 %', '0 %', '100 %']
        >>> [percent(share) for share in (0.963, 0.9999)]  # certain is only what is
        ['96.3 %', '> 99.9 %']
    """
    if share is None:
        return MISSING
    rare = min(share, 1 - share)
    if 0 < rare < 0.001:  # noqa: PLR2004
        return "< 0.1 %" if rare == share else "> 99.9 %"
    return f"{100 * share:.1f} %" if 0 < rare < 0.09 else f"{100 * share:.0f} %"  # noqa: PLR2004


def number(value: float | None) -> str:
    """Format a number with two significant digits.

    Args:
        value: The number, or None.

    Returns:
        The number; a dash for None.

    Example:
        >>> number(0.0123), number(0.5), number(41.0)
        ('0.012', '0.5', '41')
    """
    return MISSING if value is None else f"{value:.2g}"


def decimal(value: float | None) -> str:
    """Format a number with two decimals.

    Args:
        value: The number, or None.

    Returns:
        The number; a dash for None.

    Example:
        >>> decimal(0.6666), decimal(-0.004), decimal(1.0), decimal(None) == MISSING
        ('0.67', '0.00', '1.00', True)
    """
    return MISSING if value is None else f"{round(value, 2) + 0.0:.2f}"  # without the sign of a zero


def score(value: float | None, other: float | None = None) -> str:
    """Format a score or a threshold with four decimals, or as many more as it takes to tell the two apart.

    Args:
        value: The score, or None.
        other: The threshold that it is compared with; for the threshold the score.

    Returns:
        The score; a dash for None.

    Example:
        >>> score(0.5), score(0.499998, 0.500004), score(0.500004, 0.499998)
        ('0.5000', '0.499998', '0.500004')
    """
    if value is None:
        return MISSING
    pair = [np.float32(each) for each in (value, value if other is None else other)]  # as they are compared
    decimals = 4
    while pair[0] != pair[1] and f"{pair[0]:.{decimals}f}" == f"{pair[1]:.{decimals}f}":
        decimals += 1
    return f"{pair[0]:.{decimals}f}"


@dataclass(frozen=True)
class WorklistFilter:
    """Selection of cases by the address of a page.

    Args:
        decision: Name of a filter, see `FILTERS`.
        search: Part of the path or of a UID; empty for all.

    Example:
        >>> WorklistFilter("all", "a b").address("/case/3")
        '/case/3?decision=all&search=a+b'
    """

    decision: str
    search: str = ""

    @property
    def query(self) -> CaseQuery:
        """The same selection for the worklist."""
        return CaseQuery(FILTERS[self.decision][1], self.search)

    def address(self, path: str, **parameters: object) -> str:
        """Return the address of a page with the same selection.

        Args:
            path: Path of the page.
            parameters: Further parameters of the address.
        """
        search = {"search": self.search} if self.search else {}
        return f"{path}?{urlencode({'decision': self.decision, **search, **parameters})}"

    def with_decision(self, decision: str) -> WorklistFilter:
        """Return the same search with another filter.

        Args:
            decision: Name of the filter.
        """
        return WorklistFilter(decision, self.search)


async def _worklist_filter(
    decision: Literal["to_read", "below_threshold", "refused", "all"] = "to_read",
    search: Annotated[str, Query(max_length=MAX_SEARCH)] = "",
) -> WorklistFilter:
    return WorklistFilter(decision, search.strip())


async def _worklist(request: Request) -> Worklist:
    worklist: Worklist = request.app.state.worklist
    return worklist


def last_verdict(worklist: Worklist, number: int | None) -> VerdictRecord | None:
    """Return the last verdict on a case, which the next page confirms.

    Args:
        worklist: The worklist.
        number: Number of the case, or None.
    """
    return None if number is None else worklist.latest_verdicts([number]).get(number)


SavedCase = Annotated[int | None, Query(alias="saved", ge=1, le=MAX_NUMBER)]
"""Number of the case whose verdict was saved by the page before."""
FilterParameter = Annotated[WorklistFilter, Depends(_worklist_filter)]
WorklistParameter = Annotated[Worklist, Depends(_worklist)]


def _utc(time: str) -> str:
    """Shorten a time in ISO 8601, UTC, to minutes.

    Example:
        >>> _utc("2026-01-31T10:00:59+00:00")
        '2026-01-31 10:00 UTC'
    """
    return f"{time[:16].replace('T', ' ')} UTC"


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter; the other letters stay as they are.

    Args:
        text: The text.

    Example:
        >>> sentence("anomaly score of PA")
        'Anomaly score of PA'
    """
    return text[:1].upper() + text[1:]


def _file_name(path: str) -> str:
    """Return the name of a file; of one that is named by a UID, as received ones are, the end that tells it apart.

    Example:
        >>> _file_name("/archive/chest.dcm"), _file_name("/received/1.2.826.0.1/1.2.826.0.1.3680043.8.498.1234.dcm")
        ('chest.dcm', '…0043.8.498.1234')
    """
    name = PurePath(path).name
    return f"…{name[:-4][-_SHOWN:]}" if _UID_FILE.fullmatch(name) else name


@pass_context
def _say(context: Context, text: str) -> str:
    """Translate a text into the language of the page."""
    return translated(text, context["language"])


@pass_context
def _gettext(context: Context, text: str) -> str:
    return catalog(context["language"]).gettext(text)


@pass_context
def _ngettext(context: Context, one: str, many: str, count: int) -> str:
    return catalog(context["language"]).ngettext(one, many, count)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("anomalib_cxr.web"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (percent, decimal, number, score, sentence)
    environment.filters |= {function.__name__: function for function in formats}
    environment.filters |= {"file_name": _file_name, "utc": _utc, "say": _say}
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]  # of i18n
    environment.globals |= {
        "heat_stops": color_bar_stops(),
        "heat_ticks": TICKS,
        "heat_explanation": EXPLANATION,
    }
    return environment


_TEMPLATES = Jinja2Templates(env=_environment())


def _address(request: Request) -> str:
    """Return where a page is, to come back to it; the table where it is the answer to a form."""
    url = request.url
    return f"{url.path}{'?' if url.query else ''}{url.query}" if request.method == "GET" else "/"


def render_page(request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> Response:
    """Render a template.

    Args:
        request: The request.
        name: Name of the template.
        values: Variables of the template.
        status: Status code of the response.

    Returns:
        The page.
    """
    state = {
        "account": account_of(request),
        "language": language_of(request),
        "languages": LANGUAGES,
        "back": _address(request) if status == HTTPStatus.OK else "/",
        "max_upload": MAX_UPLOAD,
        "has_blind_reading": (request.app.state.worklist.folder / READING).exists(),
        "needs_sign_in": request.app.state.sessions is not None,
        "below_threshold_notice": BELOW_THRESHOLD_NOTICE,
    }
    return _TEMPLATES.TemplateResponse(request, f"{name}.html.jinja", {**state, **values}, status_code=status)


def error_page(request: Request, status: int, text: str) -> Response:
    """Render the page of an error; for a program as JSON.

    Args:
        request: The request.
        status: Status code of the response.
        text: Explanation in plain words.

    Returns:
        The page.
    """
    if request.scope["path"] == SCORE:
        return JSONResponse({"error": text}, status)
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    return render_page(request, "error", {"title": title, "message": text}, status)
