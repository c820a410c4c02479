"""How pages are made: the templates, how they write numbers, and the page that says what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, StrictUndefined

from anomalib_cxr.screening.case import Decision
from anomalib_cxr.screening.worklist.store import Given, Worklist
from anomalib_cxr.screening.worklist.store import Query as CaseQuery

NONE = "\N{EN DASH}"
"""What stands where there is no number."""
LONGEST_SEARCH = 200
LARGEST = 2**63 - 1
"""Number that SQLite can hold."""
FILTERS = {
    "to_read": ("To be read", Decision.TO_READ),
    "ruled_out": ("Normal, ruled out", Decision.RULED_OUT),
    "refused": ("Refused", Decision.REFUSED),
    "all": ("All", None),
}
"""What the table can show, by the word in its address."""


def percent(share: float | None) -> str:
    """Write a share as 0 to 100 %, with as many digits as a reader wants to see.

    Example:
        >>> [percent(share) for share in (0.8731, 0.0412, 0.0001, 0.0, 1.0)]
        ['87 %', '4.1 %', '< 0.1 %', '0 %', '100 %']
    """
    if share is None:
        return NONE
    if 0 < share < 0.001:  # noqa: PLR2004
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"  # noqa: PLR2004


def number(value: float | None) -> str:
    """Write a number with two digits that tell something.

    Example:
        >>> number(0.0123), number(0.5), number(41.0)
        ('0.012', '0.5', '41')
    """
    return NONE if value is None else f"{value:.2g}"


def score(value: float | None) -> str:
    """Write a score or a threshold, which may be close to each other.

    Example:
        >>> score(0.5)
        '0.5000'
    """
    return NONE if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class Asked:
    """Which cases the address of a page asks for.

    Example:
        >>> Asked("all", "a b").address("/case/3")
        '/case/3?decision=all&search=a+b'
    """

    decision: str
    search: str = ""

    @property
    def query(self) -> CaseQuery:
        """The same for the worklist."""
        return CaseQuery(FILTERS[self.decision][1], self.search)

    def address(self, path: str, **more: object) -> str:
        """Return the address of a page that goes on with the same cases."""
        words = {"decision": self.decision} | ({"search": self.search} if self.search else {}) | more
        return f"{path}?{urlencode(words)}"

    def instead(self, decision: str) -> Asked:
        """Return the same search among other cases."""
        return Asked(decision, self.search)


async def _asked(
    decision: Literal["to_read", "ruled_out", "refused", "all"] = "to_read",
    search: Annotated[str, Query(max_length=LONGEST_SEARCH)] = "",
) -> Asked:
    return Asked(decision, search.strip())


async def _worklist(request: Request) -> Worklist:
    worklist: Worklist = request.app.state.worklist
    return worklist


def last_verdict(worklist: Worklist, case: int | None) -> Given | None:
    """Return the last verdict on a case, which the page after it confirms."""
    return None if case is None else worklist.latest_verdicts([case]).get(case)


Kept = Annotated[int | None, Query(ge=1, le=LARGEST)]
TheQuery = Annotated[Asked, Depends(_asked)]
TheWorklist = Annotated[Worklist, Depends(_worklist)]


def _file_name(path: str) -> str:
    return PurePath(path).name


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("anomalib_cxr.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "score": score, "file_name": _file_name}
    return environment


_TEMPLATES = Jinja2Templates(env=_environment())


def page(request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> Response:
    """Return a page made from a template."""
    return _TEMPLATES.TemplateResponse(request, f"{name}.html.jinja", dict(values), status_code=status)


def error_page(request: Request, status: int, words: str) -> Response:
    """Return a page that says in plain words why there is nothing else to see."""
    return page(request, "error", {"status": status, "title": HTTPStatus(status).phrase, "words": words}, status)
