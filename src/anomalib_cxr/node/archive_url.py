"""Addresses of archives among the inputs of a screening."""

from __future__ import annotations

import re
from pathlib import Path

_SCHEMES = {"dicomweb": "http", "dicomwebs": "https"}
_ADDRESS = re.compile(r"(dicomwebs?):/{1,2}([^/].*)")  # one of the slashes is lost where it was a path


def archive_url(text: str | Path) -> str | None:
    """Return the address of the DICOMweb service that an input names; None for a file or folder.

    Args:
        text: Input, such as `dicomweb://127.0.0.1:8042/dicom-web`; `dicomwebs://` for HTTPS.

    Example:
        >>> archive_url("dicomweb://pacs:8042/dicom-web"), archive_url("chest.dcm")
        ('http://pacs:8042/dicom-web', None)
    """
    match = _ADDRESS.fullmatch(str(text))
    return None if match is None else f"{_SCHEMES[match[1]]}://{match[2].rstrip('/')}"
