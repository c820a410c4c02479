"""Upload of one image, which is screened at once."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import UploadFile

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.worklist.store import UPLOADS, Worklist
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.web.security import UPLOAD, Form

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"}
"""Suffixes that are kept of a sender's file name; the rest, which may be a patient's name, is not."""


def screening_into(worklist: Worklist, model: Path, hospital: str = "") -> Callable[[Path], None]:
    """Return a function that screens one file with a calibrated model into a worklist.

    Args:
        worklist: The worklist.
        model: Folder of the model.
        hospital: Hospital whose threshold holds, where the calibration has one for each.

    Returns:
        The function, which takes the path of the file.

    Raises:
        ScreeningError: If the model is not calibrated, the hospital is needed and unknown, or the worklist has rows of
            another model.
    """
    # OpenVINO, for which a server without uploads need not wait.
    from anomalib_cxr.screening.pipeline.screener import (  # noqa: PLC0415
        Screener,
        ScreenerSettings,
        refuse_other_calibration,
    )

    screener = Screener(ScreenerSettings(model, worklist.folder, hospital=hospital))
    refuse_other_calibration(worklist, screener.calibration)

    def screen(path: Path) -> None:
        for cases in screener.cases([path]):
            worklist.add(cases)

    return screen


def upload_routes(worklist: Worklist, screen: Callable[[Path], None]) -> APIRouter:
    """Return the route that takes an image.

    Args:
        worklist: Worklist that the case is added to.
        screen: Function that screens a file into the worklist; it is called once at a time.

    Returns:
        The router.
    """
    router = APIRouter()
    lock = threading.Lock()

    @router.post(UPLOAD)
    def screen_upload(form: Form) -> Response:
        upload = form.get("image")
        if not isinstance(upload, UploadFile) or not upload.size:
            raise HTTPException(400, "Choose a file that is not empty. Nothing was saved.")
        path = _store(upload, worklist.folder.resolve() / UPLOADS)
        number = None
        try:
            with lock:
                screen(path)
            number = worklist.number_of(path)
        except CxrError as error:
            raise HTTPException(422, f"The image could not be screened, and was not saved. {error}") from error
        finally:
            if number is None:
                path.unlink(missing_ok=True)
        if number is None:
            raise HTTPException(422, "The image could not be screened, and was not saved.")
        return RedirectResponse(f"/case/{number}?decision=all", status_code=303)

    return router


def _store(upload: UploadFile, folder: Path) -> Path:
    """Write an uploaded file under a random name."""
    suffix = PurePosixPath(upload.filename or "").suffix.lower()
    path = folder / f"{secrets.token_hex(16)}{suffix if suffix in SUFFIXES else ''}"
    with upload.file as source, atomic_path(path) as unfinished, unfinished.open("wb") as target:
        shutil.copyfileobj(source, target, 1024**2)
    return path
