"""Viewer of one case: its images, the result of the screening, and the verdicts."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile

from anomalib_cxr.errors import ChangedCaseError, CxrError
from anomalib_cxr.screening.case import Case, Verdict
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.accounts import MAX_NAME
from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.forms import Form, text_field
from anomalib_cxr.web.images import CaseImages, ImageUnavailableError
from anomalib_cxr.web.rendering import (
    MAX_NUMBER,
    FilterParameter,
    SavedCase,
    WorklistParameter,
    last_verdict,
    render_page,
)
from anomalib_cxr.web.sessions import account_of
from anomalib_cxr.web.translation import translatable

MAX_NOTE = 2000
READER = "reader"
"""Name of the cookie that remembers the reader's name until the browser is closed."""
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
MAX_WRITERS = 4
"""Number of verdicts that wait at a time for a locked worklist; the threads of other pages are not theirs."""
router = APIRouter()
_writers = CapacityLimiter(MAX_WRITERS)


def _case(number: Number, worklist: WorklistParameter) -> Case:
    case = worklist.case(number)
    if case is None:
        raise HTTPException(404, translatable("There is no case {number} in this worklist.", number=number))
    return case


async def _images(request: Request) -> CaseImages:
    images: CaseImages = request.app.state.images
    return images


CaseParameter = Annotated[Case, Depends(_case)]
ImagesParameter = Annotated[CaseImages, Depends(_images)]


@router.get("/case/{number}")
def show_case(
    request: Request,
    number: Number,
    case: CaseParameter,
    worklist: WorklistParameter,
    images: ImagesParameter,
    worklist_filter: FilterParameter,
    saved: SavedCase = None,
    picture: bool = False,
) -> Response:
    """Return the page of a case.

    Args:
        request: The request.
        number: Number of the case.
        case: The case.
        worklist: The worklist.
        images: Images of the cases.
        worklist_filter: Selection of cases that the case is one of.
        saved: Case whose verdict the page before saved.
        picture: Show the X-ray of a refused case, too.
    """
    record(request, Action.CASE, [number], case.content)
    with worklist.snapshot():
        previous, following = worklist.neighbors(number, worklist_filter.query)
        values = {
            "worklist_filter": worklist_filter,
            "number": number,
            "case": case,
            "previous": previous,
            "following": following,
            "saved": last_verdict(worklist, saved),
            "with_picture": picture or not case.why,
            "history": worklist.verdicts(number)[::-1],
            "earlier": [
                (other, earlier, worklist.verdicts(other)[::-1]) for other, earlier in worklist.earlier(number)
            ],
            "current": worklist.number_of(case.file) if case.superseded else None,
            "verdicts": list(Verdict),
            "reader": unquote(request.cookies.get(READER, "")),
            "max_note": MAX_NOTE,
            "max_name": MAX_NAME,
        }
    answer = render_page(request, "case", values)
    answer.background = BackgroundTask(_prefetch, images, worklist, following)
    return answer


async def _prefetch(images: CaseImages, worklist: Worklist, number: int | None) -> None:
    """Render the X-ray that is most likely requested next; an error is shown when it is requested."""
    with suppress(CxrError, ImageUnavailableError):
        case = None if number is None else await to_thread.run_sync(worklist.case, number)
        if case is not None and not case.why:
            await images.render_in_turn("xray", case)


@router.get("/case/{number}/{kind}.png")
async def send_image(
    request: Request,
    number: Number,
    case: CaseParameter,
    kind: Literal["xray", "values", "heat", "lungs", "thumbnail"],
    images: ImagesParameter,
) -> Response:
    """Return an image as PNG, or the reason why there is none.

    Args:
        request: The request.
        number: Number of the case.
        case: The case.
        kind: Kind of image.
        images: Images of the cases.
    """
    try:
        png = await images.render_in_turn(kind, case)
        if kind in {"xray", "values"}:  # the other ones count to the entry of the list or the case
            await to_thread.run_sync(record, request, Action.IMAGE, [number], case.content, kind)
        return Response(png, media_type="image/png")
    except (CxrError, ImageUnavailableError) as error:
        return PlainTextResponse(str(error), status_code=404)


@router.post("/case/{number}/verdict")
async def save_verdict(
    request: Request,
    number: Number,
    case: CaseParameter,
    worklist: WorklistParameter,
    worklist_filter: FilterParameter,
    form: Form,
) -> Response:
    """Save a verdict.

    Args:
        request: The request.
        number: Number of the case.
        case: The case.
        worklist: The worklist.
        worklist_filter: Selection of cases that the case is one of.
        form: Fields `verdict`, `reader` (unless signed in), `note`, and `content` of the case that the page showed.

    Returns:
        Redirect to the next case, or to the table after the last one; a page of status 409 if the case has another
        X-ray by now.

    Raises:
        HTTPException: If a field is missing or too long.
    """
    verdict, reader, note = checked_fields(request, form)
    try:
        await save(request, worklist, number, verdict, reader, note, text_field(form, "content"), detail=verdict.value)
    except ChangedCaseError:
        current = await to_thread.run_sync(worklist.number_of, case.file) or number
        address = worklist_filter.address(f"/case/{current}")
        values = {"number": number, "current": current, "address": address, "verdict": verdict.value, "note": note}
        return render_page(request, "changed", values, 409)
    _, following = await to_thread.run_sync(worklist.neighbors, number, worklist_filter.query)
    path = "/" if following is None else f"/case/{following}"
    answer = RedirectResponse(worklist_filter.address(path, saved=number), status_code=303)
    if account_of(request) is None:
        answer.set_cookie(READER, quote(reader), httponly=True, samesite="strict")
    return answer


async def save(
    request: Request,
    worklist: Worklist,
    number: int,
    verdict: Verdict,
    reader: str,
    note: str,
    content: str,
    *,
    detail: str,
) -> None:
    """Save a verdict, and log it before: none is saved that is not logged.

    Args:
        request: The request.
        worklist: The worklist.
        number: Number of the case.
        verdict: The verdict.
        reader: Name of the reader.
        note: Note of the reader.
        content: Content of the X-ray that the page showed.
        detail: What the log says of the verdict.

    Raises:
        ChangedCaseError: If the case has another X-ray by now.
        CxrError: If the worklist cannot be written.
    """
    log = partial(record, request, cases=[number], content=content, detail=detail)
    write = partial(worklist.give_verdict, number, verdict, reader, note, content=content)
    await to_thread.run_sync(log, Action.VERDICT)
    try:
        await to_thread.run_sync(write, limiter=_writers)
    except CxrError:
        await to_thread.run_sync(log, Action.NOT_SAVED)
        raise


def checked_fields(request: Request, form: dict[str, str | UploadFile]) -> tuple[Verdict, str, str]:
    """Return verdict, reader and note of a form; the reader is who signed in, where anybody has to.

    Args:
        request: The request.
        form: Fields `verdict`, `reader` and `note`.

    Raises:
        HTTPException: If one is missing or too long.
    """
    account = account_of(request)
    verdict = text_field(form, "verdict")
    reader = text_field(form, "reader") if account is None else account.name
    note = text_field(form, "note", lines=True)
    if verdict not in {known.value for known in Verdict}:
        raise HTTPException(400, translatable("Choose normal, abnormal or unsure. Nothing was saved."))
    if not 0 < len(reader) <= MAX_NAME or len(note) > MAX_NOTE:
        raise HTTPException(
            400,
            translatable(
                "A verdict needs the reader's name (at most {name} characters) and may have a note (at most {note}). "
                "Nothing was saved. Go back and correct the form.",
                name=MAX_NAME,
                note=MAX_NOTE,
            ),
        )
    return Verdict(verdict), reader, note
