"""Pages of a blind reading. They are given an X-ray and the reader's own verdicts, and nothing else of the worklist."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.case import Case, Verdict
from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.blind.reading import BlindReading, BlindReadings, Progress
from anomalib_cxr.web.forms import Form, text_field
from anomalib_cxr.web.images import ImageUnavailableError
from anomalib_cxr.web.rendering import WorklistParameter, render_page
from anomalib_cxr.web.security import BLIND
from anomalib_cxr.web.sessions import account_of
from anomalib_cxr.web.translation import translatable

from .viewer import MAX_NOTE, ImagesParameter, checked_fields, save

router = APIRouter(prefix=BLIND)
Position = Annotated[int, Path(ge=1, le=10**9)]


class OwnReading(NamedTuple):
    """A blind reading, as its reader may see it."""

    reading: BlindReading
    progress: Progress


class BlindXray(NamedTuple):
    """X-ray at a position of a blind reading."""

    number: int
    """Number of its case, which is not shown."""
    case: Case


def _own(request: Request, worklist: WorklistParameter) -> OwnReading:
    readings, account = BlindReadings(worklist), account_of(request)
    reading = readings.load()
    if reading is None or reading.closed or account is None or account.name not in reading.readers:
        raise HTTPException(404, translatable("There is no blind reading for you."))
    return OwnReading(reading, readings.progress(reading)[account.name])


OwnParameter = Annotated[OwnReading, Depends(_own)]


def _xray(position: Position, own: OwnParameter, worklist: WorklistParameter) -> BlindXray:
    if position > len(own.reading.cases):
        raise HTTPException(404, translatable("There is no such X-ray in this reading."))
    case = own.reading.cases[position - 1]
    shown = BlindReadings(worklist).shown(case)
    if shown is None:
        raise HTTPException(409, translatable("This X-ray was replaced since the reading was opened; it is left out."))
    return BlindXray(case.number, shown)


XrayParameter = Annotated[BlindXray, Depends(_xray)]


@router.get("")
def show_progress(request: Request, own: OwnParameter) -> Response:
    """Return the list of the X-rays, with the reader's own verdicts.

    Args:
        request: The request.
        own: The reading.
    """
    return render_page(request, "blind_list", {"total": len(own.reading.cases), "progress": own.progress})


@router.get("/{position}")
def show_xray(request: Request, position: Position, own: OwnParameter, xray: XrayParameter) -> Response:
    """Return the page of an X-ray.

    Args:
        request: The request.
        position: Position in the reading.
        own: The reading.
        xray: The X-ray.
    """
    record(request, Action.CASE, [xray.number], xray.case.content, "blind")
    values = {
        "position": position,
        "total": len(own.reading.cases),
        "unread": len(own.progress.unread),
        "own": own.progress.verdicts.get(position),
        "content": xray.case.content,
        "verdicts": list(Verdict),
        "max_note": MAX_NOTE,
    }
    return render_page(request, "blind", values)


@router.get("/{position}/{kind}.png")  # noqa: FAST003  # `_xray` takes the position
async def send_xray(
    request: Request, kind: Literal["xray", "values"], xray: XrayParameter, images: ImagesParameter
) -> Response:
    """Return an X-ray as PNG.

    Args:
        request: The request.
        kind: Kind of image.
        xray: The X-ray.
        images: Images of the cases.
    """
    try:
        png = await images.render_in_turn(kind, xray.case)
    except (CxrError, ImageUnavailableError):  # whose messages name the file
        return PlainTextResponse("This X-ray cannot be shown at the moment. Tell an admin.", status_code=404)
    await to_thread.run_sync(record, request, Action.IMAGE, [xray.number], xray.case.content, f"{kind}, blind")
    return Response(png, media_type="image/png")


@router.post("/{position}/verdict")
async def save_blind_verdict(
    request: Request,
    position: Position,
    own: OwnParameter,
    xray: XrayParameter,
    worklist: WorklistParameter,
    form: Form,
) -> Response:
    """Save a verdict, and go to the next X-ray without one.

    Args:
        request: The request.
        position: Position in the reading.
        own: The reading.
        xray: The X-ray.
        worklist: The worklist.
        form: Fields `verdict`, `note`, and `content` of the X-ray that the page showed.
    """
    verdict, reader, note = checked_fields(request, form)
    content = text_field(form, "content")
    await save(request, worklist, xray.number, verdict, reader, note, content, detail=f"{verdict.value}, blind")
    unread = [other for other in own.progress.unread if other != position]
    following = next((other for other in unread if other > position), unread[0] if unread else None)
    return RedirectResponse(BLIND if following is None else f"{BLIND}/{following}", status_code=303)
