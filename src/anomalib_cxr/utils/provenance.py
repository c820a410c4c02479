"""Provenance of results: versions of the libraries and revision of the code."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anomalib_cxr._version import __version__

from .files import atomic_path

LIBRARIES = ("anomalib", "torch", "torchvision", "lightning", "monai")


def code_record() -> dict[str, Any]:
    """Describe the code of a run.

    Returns:
        `date` (UTC), `versions` of the libraries, and `git`, see :func:`git_revision`.
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
        "git": git_revision(Path.cwd()),
    }


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as JSON.

    Args:
        record: Record; values of types without a JSON form are written as text.
        path: JSON file.
    """
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Return the revision of a git checkout.

    Args:
        folder: Folder in the checkout.

    Returns:
        `revision`, and `dirty`, whether tracked files are changed; None outside a checkout.

    Example:
        >>> from tempfile import mkdtemp
        >>> git_revision(Path(mkdtemp())) is None
        True
    """
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  # fixed words, no shell
            [program, "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None  # no checkout, or no commit yet
    return answer.stdout.strip()


def _versions() -> dict[str, str]:
    return {
        "anomalib_cxr": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }
