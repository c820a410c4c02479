"""Which files of a folder belong together: X-ray, lung masks, lesion mask and clinical reading.

A file's role is told by the name of its folder and its partner by its own name. That covers every layout the sets come in, and
any mixture of them: the two official archives unpacked side by side, the Shenzhen masks in a folder `mask`, and the merged
layout, each under any number of top folders.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anomalib_cxr.errors import DatasetError

ROLES = {
    "cxr_png": "image",
    "test": "image",  # the merged layout's images without a mask
    "masks": "mask",
    "mask": "mask",
    "leftmask": "mask",
    "rightmask": "mask",
    "lesions": "lesion",  # phantoms only
    "clinicalreadings": "reading",
}
SOURCES = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen", "PHANTOM": "phantom"}
_NAME = re.compile(rf"(?P<prefix>{'|'.join(SOURCES)})_(?P<number>\d+)_(?P<label>[01])")
_SUFFIXES = {"image": {".png", ".jpg", ".jpeg", ".dcm"}, "mask": {".png", ".jpg"}, "lesion": {".png"}, "reading": {".txt"}}
_LAYOUTS = """one of
    MontgomerySet/ with CXR_png/, ManualMask/leftMask/, ManualMask/rightMask/, ClinicalReadings/   (official archive)
    ChinaSet_AllFiles/ with CXR_png/, ClinicalReadings/   (official archive), and mask/ beside it   (Kaggle yoctoman/shcxr-lung-mask)
    CXR_png/ with masks/, and test/, ClinicalReadings/ if there   (the merged layout)"""
_HOW_TO_GET = (
    "set data.init_args.download to true for the two official archives (the Shenzhen lung masks need a Kaggle account: fetch "
    "yoctoman/shcxr-lung-mask and unpack it as mask/ into the root), or point data.init_args.root at a folder of that layout"
)


@dataclass
class RadiographFiles:
    """The files of one X-ray."""

    image: Path
    source: str
    """Hospital: `montgomery`, `shenzhen`, or `phantom`."""
    abnormal: bool
    masks: tuple[Path, ...] = ()
    """Lung masks, to be merged: none, one, or left and right."""
    lesion: Path | None = None
    reading: Path | None = None


@dataclass
class _Scan:
    """What a folder holds: files by role and by the name that they share."""

    files: dict[str, dict[str, list[Path]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    unnamed: list[Path] = field(default_factory=list)


def _files_by_role(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        role = ROLES.get(Path(folder).name.lower())
        if role is not None:
            yield from ((role, Path(folder, name)) for name in sorted(names) if _is_picture_or_text(role, name))


def _is_picture_or_text(role: str, name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES[role]


def _scan(root: Path) -> _Scan:
    scan = _Scan()
    for role, path in _files_by_role(root):
        stem = path.stem.removesuffix("_mask") if role == "mask" else path.stem
        if _NAME.fullmatch(stem):
            scan.files[role][stem].append(path)
        elif role == "image":
            scan.unnamed.append(path)
    return scan


def _is_known_copy(paths: list[Path]) -> bool:
    """Tell the merged layout's copies in `test/` from two different files of one name."""
    in_test = [path for path in paths if path.parent.name.lower() == "test"]
    return len(paths) == 2 and len(in_test) == 1 and filecmp.cmp(*paths, shallow=False)


def _ambiguous(scan: _Scan) -> list[Path]:
    """Return files that share name and role with another one, left and right masks aside."""
    repeated = []
    for role, by_stem in scan.files.items():
        for paths in by_stem.values():
            folders = {path.parent.name.lower() for path in paths}
            sides = role == "mask" and folders == {"leftmask", "rightmask"} and len(paths) == 2
            if len(paths) > 1 and not sides and not (role == "image" and _is_known_copy(paths)):
                repeated += paths
    return repeated


def _one_sided(scan: _Scan) -> list[Path]:
    """Return masks of one lung whose other half is missing."""
    return [
        paths[0]
        for paths in scan.files["mask"].values()
        if len(paths) == 1 and paths[0].parent.name.lower() in {"leftmask", "rightmask"}
    ]


def _refuse_offenders(root: Path, scan: _Scan) -> None:
    offenders = {
        "name without hospital, number and label": scan.unnamed,
        "one name in two folders": _ambiguous(scan),
        "mask of one lung only": _one_sided(scan),
    }
    offenders = {reason: paths for reason, paths in offenders.items() if paths}
    if offenders:
        raise DatasetError(
            f"files in {root} that cannot be told apart or paired",
            "names such as CHNCXR_0001_0.png (hospital, number, 0 for normal or 1 for sick), each once, and both masks of a "
            "Montgomery image",
            "rename, remove or complete these files",
            offenders,
        )


def _describe(root: Path) -> str:
    if not root.exists():
        return f"no folder {root}"
    entries = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if not entries:
        return f"{root}, which is empty" if root.is_dir() else f"{root}, which is no folder"
    return f"{root} with {', '.join(entries[:12])}{', ...' if len(entries) > 12 else ''}, and no X-ray in it"


def find_radiographs(root: Path | str) -> list[RadiographFiles]:
    """Find the X-rays in a folder and the files that belong to each.

    Args:
        root: Folder in any of the known layouts.

    Returns:
        One entry per X-ray, sorted by name.

    Raises:
        DatasetError: If there is no X-ray, or if files cannot be told apart; all of those are named.
    """
    root = Path(root)
    scan = _scan(root)
    _refuse_offenders(root, scan)
    if not scan.files["image"]:
        raise DatasetError(_describe(root), _LAYOUTS, _HOW_TO_GET)
    found = []
    for stem, images in sorted(scan.files["image"].items()):
        prefix, _, label = stem.split("_")
        partners = {role: scan.files[role].get(stem, []) for role in ("mask", "lesion", "reading")}
        found.append(
            RadiographFiles(
                image=images[0],
                source=SOURCES[prefix],
                abnormal=label == "1",
                masks=tuple(partners["mask"]),
                lesion=next(iter(partners["lesion"]), None),
                reading=next(iter(partners["reading"]), None),
            )
        )
    return found
