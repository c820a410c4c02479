"""Layouts of data folders: X-rays with their lung masks, lesion mask and clinical reading.

The name of its folder determines the role of a file, and its own name the X-ray that it belongs to. That covers all
layouts of the public sets and any mixture of them: the two official archives unpacked side by side, the Shenzhen masks
in a folder `mask`, the merged layout, and each set as it is on Kaggle with its readings in a table, under any number of
top folders.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from anomalib_cxr.errors import DatasetError

ROLES = {
    "cxr_png": "image",
    "test": "image",  # the merged layout's images without a mask
    "images": "image",  # of each set on Kaggle
    "masks": "mask",
    "mask": "mask",
    "leftmask": "mask",
    "rightmask": "mask",
    "lesions": "lesion",  # phantoms only
    "clinicalreadings": "reading",
}
SHARED_FOLDERS = {"images"}
"""Folders whose name other files have, too: of these only files with the name of an X-ray count."""
SOURCES = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen", "PHANTOM": "phantom"}
_NAME = re.compile(rf"(?P<prefix>{'|'.join(SOURCES)})_(?P<number>\d+)_(?P<label>[01])")
_SUFFIXES = {
    "image": {".png", ".jpg", ".jpeg", ".dcm"},
    "mask": {".png", ".jpg"},
    "lesion": {".png"},
    "reading": {".txt"},
}
_Files = dict[str, defaultdict[str, list[Path]]]
"""Files by role and by the name of their X-ray."""
_LISTED = 12  # entries of a folder that an error lists
_LAYOUTS = """one of
    MontgomerySet/ with CXR_png/, ManualMask/leftMask/, ManualMask/rightMask/, ClinicalReadings/: the official archive
    ChinaSet_AllFiles/ with CXR_png/, ClinicalReadings/: the official archive; mask/ beside it: Kaggle's lung masks
    images/images/ with CHNCXR_0001_0.png, shenzhen_metadata.csv: each set on Kaggle; mask/ beside it: its lung masks
    CXR_png/ with masks/, and test/, ClinicalReadings/ if there: the merged layout"""
_HOW_TO_GET = (
    "set data.init_args.download to true for the two official archives (the Shenzhen lung masks need a Kaggle account: "
    "fetch yoctoman/shcxr-lung-mask and unpack it as mask/ into the root), or point data.init_args.root at a folder of "
    "such a layout"
)


@dataclass
class RadiographFiles:
    """Files of one X-ray.

    Attributes:
        image: The X-ray.
        source: Hospital: `montgomery`, `shenzhen`, or `phantom`.
        abnormal: True for an X-ray with a finding.
        masks: Lung masks, to be merged: none, one, or left and right.
        lesion: Lesion mask.
        reading: Clinical reading.
    """

    image: Path
    source: str
    abnormal: bool
    masks: tuple[Path, ...] = ()
    lesion: Path | None = None
    reading: Path | None = None


def _refuse_unreadable(error: OSError) -> None:
    """Refuse a folder without read permission, which `os.walk` would skip; a missing one is reported later."""
    if isinstance(error, PermissionError):
        raise DatasetError(
            f"{error.filename}: {error.strerror}",
            "a folder that may be read",
            "ask its owner for permission to read it",
        ) from error


def _scan(root: Path) -> tuple[_Files, list[Path]]:
    """Return the files of a folder, and the X-rays whose name has no hospital, number and label."""
    files: _Files = {role: defaultdict(list) for role in _SUFFIXES}
    unnamed = []
    for folder, subfolders, names in os.walk(root, onerror=_refuse_unreadable, followlinks=True):
        subfolders.sort()
        role = ROLES.get(Path(folder).name.lower())
        for path in (Path(folder, name) for name in sorted(names) if role and not name.startswith(".")):
            if role is None or path.suffix.lower() not in _SUFFIXES[role]:
                continue
            stem = path.stem.removesuffix("_mask") if role == "mask" else path.stem
            if _NAME.fullmatch(stem):
                files[role][stem].append(path)
            elif role == "image" and path.parent.name.lower() not in SHARED_FOLDERS:
                unnamed.append(path)
    return files, unnamed


def _may_share_name(role: str, paths: list[Path]) -> bool:
    """Return True for the masks of both lungs, and for the merged layout's copies in `test/`."""
    folders = sorted(path.parent.name.lower() for path in paths)
    if role == "mask":
        return folders == ["leftmask", "rightmask"]
    return role == "image" and folders == ["cxr_png", "test"] and filecmp.cmp(paths[0], paths[1], shallow=False)


def _refuse_offenders(root: Path, files: _Files, unnamed: list[Path]) -> None:
    groups = [(role, paths) for role, by_stem in files.items() for paths in by_stem.values()]
    single = [paths[0] for role, paths in groups if role == "mask" and len(paths) == 1]
    offenders = {
        "name without hospital, number and label": unnamed,
        "the same name twice": [
            path for role, paths in groups if len(paths) > 1 and not _may_share_name(role, paths) for path in paths
        ],
        "mask of one lung only": [path for path in single if path.parent.name.lower() in {"leftmask", "rightmask"}],
    }
    if any(offenders.values()):
        raise DatasetError(
            f"files in {root} that cannot be told apart or paired",
            "names such as CHNCXR_0001_0.png (hospital, number, 0 for normal or 1 for sick), each once, and both masks "
            "of a Montgomery image",
            "rename, remove or complete these files",
            offenders,
        )


def describe_folder(root: Path, lacking: str) -> str:
    """Describe a folder without the expected files, for an error message.

    Args:
        root: The folder; it need not exist.
        lacking: Description of the expected files.

    Returns:
        Such as ``data with scans, and no X-ray in a folder CXR_png``.

    Example:
        >>> describe_folder(Path("nowhere"), "X-ray")
        'no folder nowhere'
    """
    if not root.exists():
        return f"no folder {root}"
    if not root.is_dir():
        return f"{root}, which is no folder"
    entries = sorted(path.name for path in root.iterdir())
    if not entries:
        return f"{root}, which is empty"
    rest = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return f"{root} with {', '.join(entries[:_LISTED])}{rest}, and no {lacking}"


def find_radiographs(root: Path | str) -> list[RadiographFiles]:
    """Find the X-rays in a folder and the files that belong to each.

    Args:
        root: Folder in any of the known layouts.

    Returns:
        One entry per X-ray, sorted by name.

    Raises:
        DatasetError: If there is no X-ray, or if files are ambiguous or incomplete; names all of those.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("CXR_png/CHNCXR_0001_0.png", "mask/CHNCXR_0001_0_mask.png"):
        ...         Path(folder, name).parent.mkdir()
        ...         Path(folder, name).touch()
        ...     (files,) = find_radiographs(folder)
        >>> files.source, files.abnormal, [path.name for path in files.masks]
        ('shenzhen', False, ['CHNCXR_0001_0_mask.png'])
    """
    root = Path(root)
    files, unnamed = _scan(root)
    _refuse_offenders(root, files, unnamed)
    if not files["image"]:
        raise DatasetError(describe_folder(root, "X-ray in a folder CXR_png or images"), _LAYOUTS, _HOW_TO_GET)
    return [_group_files(files, stem) for stem in sorted(files["image"])]


def _group_files(files: _Files, stem: str) -> RadiographFiles:
    prefix, _, label = stem.split("_")
    lesions, readings = (files[role].get(stem, [None]) for role in ("lesion", "reading"))
    return RadiographFiles(
        image=files["image"][stem][0],
        source=SOURCES[prefix],
        abnormal=label == "1",
        masks=tuple(files["mask"].get(stem, ())),
        lesion=lesions[0],
        reading=readings[0],
    )
