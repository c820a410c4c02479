"""The viewer of one case: its pictures, what screening says of it, and what readers say."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.background import BackgroundTask

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.case import Case, Verdict
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.images import PictureError, Pictures
from anomalib_cxr.web.rendering import LARGEST, Asked, Kept, TheQuery, TheWorklist, last_verdict, page
from anomalib_cxr.web.security import Form, remember

LONGEST_NOTE, LONGEST_NAME = 2000, 100
READER = "reader"
"""The cookie that remembers a reader's name until the browser is closed."""
Number = Annotated[int, Path(ge=1, le=LARGEST)]
router = APIRouter()


def _case(number: Number, worklist: TheWorklist) -> Case:
    case = worklist.case(number)
    if case is None:
        raise HTTPException(404, f"There is no case {number} in this worklist.")
    return case


async def _pictures(request: Request) -> Pictures:
    pictures: Pictures = request.app.state.pictures
    return pictures


TheCase = Annotated[Case, Depends(_case)]
ThePictures = Annotated[Pictures, Depends(_pictures)]


@router.get("/case/{number}")
def show_case(
    request: Request,
    number: Number,
    case: TheCase,
    worklist: TheWorklist,
    pictures: ThePictures,
    asked: TheQuery,
    kept: Kept = None,
    picture: bool = False,
) -> Response:
    """Show a case.

    Args:
        request: The request.
        number: Of the case.
        case: The case.
        worklist: The worklist.
        pictures: Makes the pictures.
        asked: The cases that it stands among.
        kept: The case whose verdict was kept just before.
        picture: Show the picture of a refused case, too.
    """
    before, after = worklist.beside(number, asked.query)
    values = {
        "asked": asked,
        "number": number,
        "case": case,
        "before": before,
        "after": after,
        "kept": last_verdict(worklist, kept),
        "with_picture": picture or not case.why,
        "history": worklist.verdicts(number)[::-1],
        "verdicts": list(Verdict),
        "reader": unquote(request.cookies.get(READER, "")),
        "longest_note": LONGEST_NOTE,
        "longest_name": LONGEST_NAME,
    }
    answer = page(request, "case", values)
    answer.background = BackgroundTask(_warm, pictures, worklist, after)
    return answer


def _warm(pictures: Pictures, worklist: Worklist, number: int | None) -> None:
    """Make the picture that is most likely asked for next; what is wrong with it is told when it is asked for."""
    case = None if number is None else worklist.case(number)
    if case is not None and not case.why:
        try:
            pictures.make("xray", case)
        except (CxrError, PictureError):
            return


@router.get("/case/{number}/{kind}.png")  # noqa: FAST003  # `_case` takes the number
def show_picture(case: TheCase, kind: Literal["xray", "heat", "lungs", "thumbnail"], pictures: ThePictures) -> Response:
    """Send a picture, or why there is none."""
    try:
        return Response(pictures.make(kind, case), media_type="image/png")
    except (CxrError, PictureError) as error:
        return PlainTextResponse(str(error), status_code=404)


@router.post("/case/{number}/verdict", dependencies=[Depends(_case)])
def keep_verdict(request: Request, number: Number, worklist: TheWorklist, asked: TheQuery, form: Form) -> Response:
    """Keep a verdict, and go on to the next case."""
    verdict, note, reader = (str(form.get(name, "")).strip() for name in ("verdict", "note", "reader"))
    if verdict not in {each.value for each in Verdict}:
        raise HTTPException(400, "Choose normal, abnormal or unsure. Nothing was kept.")
    if not 0 < len(reader) <= LONGEST_NAME or len(note) > LONGEST_NOTE:
        raise HTTPException(
            400,
            f"A verdict needs the reader's name (at most {LONGEST_NAME} characters) and may have a note (at most "
            f"{LONGEST_NOTE}). Nothing was kept. Go back and correct the form.",
        )
    _, after = worklist.beside(number, asked.query)
    worklist.give_verdict(number, Verdict(verdict), reader, note)
    answer = RedirectResponse(_onwards(asked, number, after), status_code=303)
    remember(request, answer, READER, quote(reader))
    return answer


def _onwards(asked: Asked, number: int, after: int | None) -> str:
    return asked.address("/", kept=number) if after is None else asked.address(f"/case/{after}", kept=number)
