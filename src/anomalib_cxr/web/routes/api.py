"""Interface for programs: one image in, its score and picture out, and the description of it."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from anomalib_cxr._version import __version__
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOTICE, Case
from anomalib_cxr.web.forms import MAX_FORM, SCORE
from anomalib_cxr.web.images import ImageUnavailableError
from anomalib_cxr.web.rendering import WorklistParameter, render_page
from anomalib_cxr.web.security import API, OPENAPI

from .upload import Uploads
from .viewer import ImagesParameter

MAX_JSON = 64 * 1024**2
"""Size limit of a request in JSON in bytes, which is held in memory; a form may have a larger file."""
router = APIRouter()


def _decoded(text: object) -> bytes:
    """Decode Base64, and refuse what is none: pydantic's own type skips characters that it does not know."""
    if not isinstance(text, str):
        raise ValueError("expected a text in Base64")  # noqa: TRY004  # pydantic reports this one
    return base64.b64decode(text, validate=True)


class ScoreRequest(BaseModel):
    """One image to score."""

    model_config = ConfigDict(extra="forbid")
    image: Annotated[bytes, BeforeValidator(_decoded)] = Field(
        description="Content of a PNG, JPEG, TIFF or DICOM file, in Base64"
    )
    suffix: str = Field("", description="Suffix of the file, such as .png; a file name is not kept", max_length=16)
    picture: bool = Field(True, description="Answer with the heatmap over the X-ray")


class ScoreAnswer(BaseModel):
    """Result of the screening of one image, which is a case of the worklist now."""

    case: int = Field(description="Number of the case in the worklist")
    decision: str = Field(description="to be read, below the calibrated threshold, or refused")
    why: str = Field(description="Reason of a refusal; empty otherwise")
    score: float | None = Field(description="Anomaly score in [0, 1]; null where refused, as the next ones")
    threshold: float | None = Field(description="Calibrated threshold: scores from it upwards are to be read")
    probability: float | None = Field(description="Probability of disease at the prevalence of the calibration")
    p_value: float | None = Field(description="Share of healthy images that score as high")
    findings: str = Field(description="Explanation of the score")
    guarantee: str = Field(description="Share of sick people that may be below the threshold")
    source: str = Field(description="Kind of source of the image")
    content: str = Field(description="SHA-256 of the file")
    model: str = Field(description="SHA-256 of the model")
    calibration: str = Field(description="SHA-256 of the calibration")
    screened: str = Field(description="Time, UTC, ISO 8601")
    picture: str | None = Field(description="Heatmap over the X-ray, PNG in Base64; null where there is none")
    notice: str = Field(description="What the result is not for")


class Failure(BaseModel):
    """Reason for a missing result; nothing is left of the image then."""

    error: str


async def _score_request(request: Request) -> tuple[UploadFile, bool]:
    """Return the file of a request, and whether its picture is asked for."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request)
    if kind != "application/json":
        raise HTTPException(415, "Send application/json or multipart/form-data. Nothing was saved.")
    if int(request.headers["content-length"]) > MAX_JSON:  # a number, as `check_length` has made sure
        raise HTTPException(413, f"JSON of more than {MAX_JSON // 1024**2} MB: send a form. Nothing was saved.")
    try:
        asked = await to_thread.run_sync(ScoreRequest.model_validate_json, await request.body())
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'JSON'}: {each['msg']}" for each in error.errors()[:5])
        raise HTTPException(422, f"The request cannot be used: {found}. Nothing was saved.") from error
    file = UploadFile(io.BytesIO(asked.image), size=len(asked.image), filename=f"image{asked.suffix}")
    return file, asked.picture


async def _from_form(request: Request) -> tuple[UploadFile, bool]:
    try:
        form = await request.form(max_files=1, max_fields=2, max_part_size=MAX_FORM)
    except (HTTPException, ClientDisconnect):
        raise
    except (LookupError, ValueError) as error:
        raise HTTPException(400, "The form cannot be read. Nothing was saved.") from error
    image, picture = form.get("image"), form.get("picture", "true")
    if not isinstance(image, UploadFile) or picture not in {"true", "false"}:
        raise HTTPException(422, "A form needs the file “image”; “picture” may be true or false. Nothing was saved.")
    return image, picture == "true"


_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "PNG, JPEG, TIFF or DICOM file, at most 200 MB"},
        "picture": {"type": "string", "enum": ["true", "false"], "default": "true"},
    },
}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": ScoreRequest.model_json_schema()},
        "multipart/form-data": {"schema": _FORM},
    },
}
_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The file is empty, or the form cannot be read"},
    401: {"model": Failure, "description": "Name or password is wrong or missing, where the server has accounts"},
    403: {"model": Failure, "description": "A page of a browser has sent it, or the account reads blind"},
    404: {"model": Failure, "description": "The server was started without a model"},
    413: {"model": Failure, "description": "Too large, or of unknown length"},
    415: {"model": Failure, "description": "Neither JSON nor a form"},
    422: {"model": Failure, "description": "A field is missing or wrong, or the file cannot be screened"},
    429: {"model": Failure, "description": "Too many wrong passwords; Retry-After has the seconds to wait"},
    503: {"model": Failure, "description": "The worklist cannot be used at the moment"},
    507: {"model": Failure, "description": "The disk is full"},
}


@router.post(SCORE, tags=["api"], responses=_FAILURES, openapi_extra={"requestBody": _BODY})
async def score_image(
    request: Request,
    asked: Annotated[tuple[UploadFile, bool], Depends(_score_request)],
    worklist: WorklistParameter,
    images: ImagesParameter,
) -> ScoreAnswer:
    """Screen one image into the worklist, and return its result.

    An image that the screening refuses, such as one that is no chest X-ray, is a result, too, with the code 200.
    """
    uploads: Uploads | None = request.app.state.uploads
    if uploads is None:
        raise HTTPException(404, "This server has no model: start it by `anomalib-cxr serve --model`.")
    file, with_picture = asked
    number = await uploads.take(request, file)
    case = await to_thread.run_sync(worklist.case, number)
    if case is None:
        raise HTTPException(503, "The worklist was made anew meanwhile.")
    picture = None
    if with_picture and case.heatmap:
        try:
            picture = base64.b64encode(await images.render_in_turn("picture", case)).decode()
        except ImageUnavailableError:
            picture = None
    return _answer(number, case, picture)


@router.get(OPENAPI)
async def send_description(request: Request) -> JSONResponse:
    """Return the description of the interface as OpenAPI 3.1.

    Args:
        request: The request.
    """
    return JSONResponse(_description(request))


@router.get(API)
async def show_description(request: Request) -> Response:
    """Return the page that describes the interface.

    Args:
        request: The request.
    """
    return render_page(request, "api", {"description": _description(request), "schemas": _schemas(request)})


def _answer(number: int, case: Case, picture: str | None) -> ScoreAnswer:
    names = ScoreAnswer.model_fields.keys() - {"case", "decision", "picture", "notice"}
    return ScoreAnswer(
        case=number,
        decision=case.decision.value,
        picture=picture,
        notice=f"{NOTICE} {BELOW_THRESHOLD_NOTICE}",
        **{name: getattr(case, name) for name in names},
    )


def _description(request: Request) -> dict[str, Any]:
    routes = [route for route in router.routes if "api" in getattr(route, "tags", ())]
    description = get_openapi(title="anomalib-cxr", version=__version__, description=NOTICE, routes=routes)
    if request.app.state.password_check is not None:
        description["components"]["securitySchemes"] = {"account": {"type": "http", "scheme": "basic"}}
        description["security"] = [{"account": []}]
    return description


def _schemas(request: Request) -> dict[str, Any]:
    schemas: dict[str, Any] = _description(request)["components"]["schemas"]
    return {
        "ScoreRequest": ScoreRequest.model_json_schema(),
        **{name: schemas[name] for name in ("ScoreAnswer", "Failure")},
    }
