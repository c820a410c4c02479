"""Export of chosen cases without what tells who the patient is, so that problems can be shown to others."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import IO

import numpy as np
from dicognito.anonymizer import Anonymizer
from PIL import Image

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.dicom_file import is_dicom
from anomalib_cxr.data.reading.intensities import read_intensities
from anomalib_cxr.errors import CxrError, DeidentificationError, RadiographError
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, NOTICE, Case
from anomalib_cxr.screening.worklist.deidentified_dicom import deidentified_dicom
from anomalib_cxr.screening.worklist.store import Worklist

from .images import CaseImages, ImageUnavailableError

MAX_CASES = 1000
"""Number of cases of one export, at most."""
_README = f"""X-rays without what tells who the patients are. {NOTICE}

Each folder is a case, numbered anew. xray.dcm has the stored values of the original, and of its header only what a
viewer needs; xray.png is the gray of a file that is no DICOM, in 16 bits, without its metadata. result.json is what the
screening and the readers said, without names, notes, dates and paths.

NOT TAKEN OUT: text that is burnt into the pixels, such as a name on a scanned film, and what the anatomy, an implant or
jewelry tells. Look at each picture before you give it to anybody.
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of all files in the archive
_RESULT = (
    *("score", "raw_score", "threshold", "probability", "p_value", "findings", "sex", "height", "width"),
    *("model", "calibration"),
)
_OLDEST = 90


def export_deidentified(worklist: Worklist, numbers: Sequence[int], file: IO[bytes]) -> None:
    """Write chosen cases into a ZIP archive; nothing of it is of use if this raises.

    Args:
        worklist: The worklist.
        numbers: Numbers of the cases, in the order in which they are numbered anew.
        file: File to write.

    Raises:
        DeidentificationError: If one of the cases cannot be exported; all that cannot are named.
    """
    if not 0 < len(numbers) <= MAX_CASES:
        raise DeidentificationError(f"{len(numbers)} cases", f"1 to {MAX_CASES}", "choose cases by their numbers")
    anonymizer, images = Anonymizer(), CaseImages(worklist.folder)
    problems: dict[int, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "README.txt", _README.encode())
        for index, number in enumerate(dict.fromkeys(numbers), start=1):
            files, problem = _tried(worklist, number, anonymizer, images)
            problems |= {number: problem} if problem else {}
            for name, content in files.items():
                _put(archive, f"case-{index:04}/{name}", content)
    if problems:
        found = "; ".join(f"case {number}: {problem}" for number, problem in problems.items())
        raise DeidentificationError(found, "X-rays that can be opened", "leave these cases out")


def _tried(worklist: Worklist, number: int, anonymizer: Anonymizer, images: CaseImages) -> tuple[dict[str, bytes], str]:
    """Return the files of a case, or why there are none."""
    try:
        return _files(worklist, number, anonymizer, images), ""
    except RadiographError as error:
        return {}, error.reason  # without the path: the message goes to the page
    except CxrError as error:
        return {}, error.found
    except ImageUnavailableError as error:
        return {}, str(error)


def _files(worklist: Worklist, number: int, anonymizer: Anonymizer, images: CaseImages) -> dict[str, bytes]:
    """Return the files of a case by their names."""
    case = worklist.case(number)
    if case is None:
        raise DeidentificationError("no such case", "a number of the table", "correct it")
    content = read_content(case.file)
    if content.sha256 != case.content:
        raise DeidentificationError("its file has changed since it was screened", "the same file", "screen it again")
    files = {"result.json": _result(worklist, number, case)}
    if is_dicom(content):
        files["xray.dcm"] = deidentified_dicom(content, anonymizer)
    else:
        gray = read_intensities(content, case.sixteen_bit_white)
        files["xray.png"] = _png(np.rint(gray * 65535).astype(np.uint16))
    if case.heatmap:
        files["heatmap.png"] = images.render("picture", case)
    return files


def _result(worklist: Worklist, number: int, case: Case) -> bytes:
    readers: dict[str, str] = {}
    verdicts = [
        {"reader": readers.setdefault(record.reader, f"reader {len(readers) + 1}"), "verdict": record.verdict.value}
        for record in worklist.verdicts(number)
    ]
    result = {
        "notice": f"{NOTICE} {BELOW_THRESHOLD_NOTICE}",
        "decision": case.decision.value,
        "is_dicom": case.source.startswith("DICOM"),
        "age": None if case.age is None else min(case.age, _OLDEST),
        **{name: getattr(case, name) for name in _RESULT},
        "verdicts": verdicts,
    }
    return json.dumps(result, indent=2).encode()


def _png(gray: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "png")
    return file.getvalue()


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
