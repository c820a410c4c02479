"""Upload of one image, which is screened at once."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from filelock import FileLock, Timeout
from starlette.datastructures import UploadFile

from anomalib_cxr.errors import CxrError
from anomalib_cxr.screening.case import case_images
from anomalib_cxr.screening.pipeline.screening_process import ScreeningProcess
from anomalib_cxr.screening.worklist.store import UPLOADS, Worklist
from anomalib_cxr.utils.files import atomic_path, private_folder, unfinished_path
from anomalib_cxr.utils.path_text import path_as_text
from anomalib_cxr.web.audit import Action, record
from anomalib_cxr.web.forms import UPLOAD, Form
from anomalib_cxr.web.translation import translatable

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"}
"""Suffixes that are kept of a sender's file name; the rest, which may be a patient's name, is not."""
logger = logging.getLogger(__name__)


def screening_into(worklist: Worklist, model: Path, hospital: str = "") -> Callable[[Path], None]:
    """Return a function that screens one file with a calibrated model into a worklist, in a process of its own.

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
    process = ScreeningProcess(model, worklist.folder, hospital)

    def screen(path: Path) -> None:
        worklist.add(process.cases(path))

    return screen


class Uploads:
    """Takes images and screens them into a worklist, one at a time.

    Args:
        worklist: Worklist that the cases are added to.
        screen: Function that screens a file into the worklist.
    """

    def __init__(self, worklist: Worklist, screen: Callable[[Path], None]) -> None:
        self._worklist = worklist
        self._screen = screen
        self._turn = CapacityLimiter(1)  # those that wait for their turn hold none of the other pages' threads
        remove_unfinished(worklist)

    async def take(self, request: Request, upload: object) -> int:
        """Screen a file, and log it.

        Args:
            request: The request that has it.
            upload: The file, a field of a form.

        Returns:
            Number of the case.

        Raises:
            HTTPException: If there is no file, or it cannot be screened; nothing is left of it then.
        """
        if not isinstance(upload, UploadFile) or not upload.size:
            raise HTTPException(400, translatable("Choose a file that is not empty. Nothing was saved."))
        await to_thread.run_sync(record, request, Action.UPLOAD)
        number = await to_thread.run_sync(_screen_one, self._worklist, self._screen, upload, limiter=self._turn)
        case = await to_thread.run_sync(self._worklist.case, number)
        content = "" if case is None else case.content
        await to_thread.run_sync(record, request, Action.SCREENED, [number], content)
        return number


def upload_routes(uploads: Uploads) -> APIRouter:
    """Return the route that takes an image from a form of the page.

    Args:
        uploads: Takes the image.

    Returns:
        The router.
    """
    router = APIRouter()

    @router.post(UPLOAD)
    async def screen_upload(request: Request, form: Form) -> Response:
        number = await uploads.take(request, form.get("image"))
        return RedirectResponse(f"/case/{number}?decision=all", status_code=303)

    return router


def remove_unfinished(worklist: Worklist) -> None:
    """Remove what uploads that never became a case have left, since their server was killed before.

    Args:
        worklist: The worklist.
    """
    folder = worklist.folder.resolve() / UPLOADS
    for lock in folder.glob(".*.lock"):
        with suppress(Timeout), FileLock(lock, timeout=0):  # unless another server is at it
            for file in folder.glob(f"*{lock.stem[1:]}*"):
                if file != lock and worklist.number_of(file) is None:
                    _remove(worklist.folder, file)
                    logger.info("Removed an upload that was broken off")
            lock.unlink(missing_ok=True)


def _screen_one(worklist: Worklist, screen: Callable[[Path], None], upload: UploadFile) -> int:
    """Store and screen an upload; return the number of its case. Nothing is left of one that becomes none."""
    folder = worklist.folder.resolve() / UPLOADS
    private_folder(folder)
    name = secrets.token_hex(16)
    suffix = PurePosixPath(upload.filename or "").suffix.lower()
    path = folder / f"{name}{suffix if suffix in SUFFIXES else ''}"
    lock = folder / f".{name}.lock"  # until there is a case: by it a later server knows what a killed one left
    number = None
    try:
        with FileLock(lock, mode=0o600):
            with upload.file as source, atomic_path(path, private=True) as unfinished, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target, 1024**2)
            screen(path)
            number = worklist.number_of(path)
    except CxrError as error:
        raise HTTPException(
            422, translatable("The image could not be screened, and was not saved. {reason}", reason=error)
        ) from error
    finally:
        if number is None:
            _remove(worklist.folder, path)
        lock.unlink(missing_ok=True)
    if number is None:
        raise HTTPException(422, translatable("The image could not be screened, and was not saved."))
    return number


def _remove(folder: Path, upload: Path) -> None:
    """Remove an upload, and before it the images of it that a screening has written, or was writing."""
    if not upload.exists():
        return
    heatmap, layers = case_images(path_as_text(upload), hashlib.sha256(upload.read_bytes()).hexdigest())
    for name in (heatmap, f"{layers}-heat.png", f"{layers}-lungs.png"):
        image = folder / name
        for file in (image, unfinished_path(image)):
            file.unlink(missing_ok=True)
    upload.unlink()
