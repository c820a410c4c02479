"""Folders of one's own X-rays: a folder of healthy ones, a folder of sick ones, and masks named as their X-rays."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from anomalib_cxr.data.reading.discovery import LOCKED, FoundFiles, find_radiographs, list_radiographs, log_left_out
from anomalib_cxr.errors import DatasetError

from .layouts import describe_folder

logger = logging.getLogger(__name__)

SETTING_LABELS = {"normal_dir": 0, "abnormal_dir": 1, "normal_test_dir": 0}
"""Label of the X-rays in the folders of each setting."""
_SUFFIX = "_mask"  # that the name of a mask may have in addition


def find_labeled(
    root: Path,
    folders: Mapping[str, Sequence[Path | str]],
    excluded: Sequence[Path] = (),
    on_locked: Literal["raise", "skip"] = "raise",
) -> pd.DataFrame:
    """List the X-rays in labeled folders and their subfolders, without opening them.

    Args:
        root: Folder that the others are relative to.
        folders: Folders of each setting of :data:`SETTING_LABELS`.
        excluded: Folders inside them that hold no X-rays, such as masks.
        on_locked: Action on folders that cannot be opened: `raise` an error that names all of them, or `skip` them
            with a warning.

    Returns:
        A row for each X-ray, sorted by path, with the columns `image_path`, `label_index`, `folder` (the one that it
        was found in) and `split` (`test` for X-rays of `normal_test_dir`, else empty).

    Raises:
        DatasetError: If a folder is missing, locked or has no X-ray, or if X-rays are in folders of two settings.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     for file in ("healthy/1/a.dcm", "sick/b.png"):
        ...         Path(name, file).parent.mkdir(parents=True)
        ...         Path(name, file).touch()
        ...     table = find_labeled(Path(name), {"normal_dir": ["healthy"], "abnormal_dir": ["sick"]})
        >>> [Path(path).name for path in table.image_path], table.label_index.tolist()
        (['a.dcm', 'b.png'], [0, 1])
    """
    missing, rows, settings = [], {}, defaultdict(set)
    named = {setting: [root / name for name in names] for setting, names in folders.items()}
    found = {folder: find_radiographs(folder) for each in named.values() for folder in each if folder.is_dir()}
    if on_locked == "raise":
        _refuse_locked(found.values())
    for folder, searched in found.items():
        log_left_out(folder, searched)
    for setting, searched_folders in named.items():
        for folder in searched_folders:
            paths = _outside(excluded, folder, found[folder].files) if folder in found else []
            if not paths:
                missing.append(f"{setting}: {describe_folder(folder, 'X-ray')}")
            for path in paths:
                settings[_identity(path)].add(setting)
                rows[str(path)] = (
                    str(path),
                    SETTING_LABELS[setting],
                    str(folder),
                    "test" * (setting == "normal_test_dir"),
                )
    if missing:
        raise DatasetError(
            "; ".join(missing),
            "folders with X-rays",
            "correct data.init_args.root, relative to the working directory, and the folders, relative to root",
        )
    _refuse_two_settings(list(rows), settings)
    table = pd.DataFrame(rows.values(), columns=["image_path", "label_index", "folder", "split"])
    in_order: pd.DataFrame = table.sort_values("image_path", ignore_index=True)
    return in_order


def match_masks(images: pd.DataFrame, root: Path, folders: Sequence[Path], setting: str) -> list[tuple[str, ...]]:
    """Find the masks of X-rays by their names.

    A mask has the name of its X-ray, without regard to the suffix, and with or without `_mask` at its end. It lies in
    the same subfolders, either of the labeled folder or of the root.

    Args:
        images: A table from :func:`find_labeled`.
        root: Folder that the names may be relative to, too.
        folders: Folders of masks; an X-ray may have a mask in each, such as one for each lung.
        setting: Setting that names the folders, for messages.

    Returns:
        Paths of the masks of each X-ray.

    Raises:
        DatasetError: If a folder has no file, or several masks of the same name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "a_mask.png").touch()
        ...     images = pd.DataFrame({"image_path": ["sick/a.dcm", "sick/b.dcm"], "folder": "sick"})
        ...     masks = match_masks(images, Path(), [Path(folder)], "mask_dir")
        >>> [[Path(path).name for path in paths] for paths in masks]
        [['a_mask.png'], []]
    """
    found: list[list[str]] = [[] for _ in range(len(images))]
    for folder in folders:
        masks = _masks_by_name(folder, setting)
        unused = set(masks)
        for place, (image, home) in enumerate(zip(images.image_path, images.folder, strict=True)):
            names = (_name(Path(image), Path(home)), _name(Path(image), root))
            for name in [name for name in names if name in masks][:1]:
                found[place].append(masks[name])
                unused.discard(name)
        if unused:
            logger.warning("%s: %d masks of no X-ray, such as %s", setting, len(unused), masks[min(unused)])
    return [tuple(paths) for paths in found]


def _outside(excluded: Sequence[Path], folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the files of a folder that are in none of the excluded folders."""
    inside = [other for other in excluded if other.is_relative_to(folder)]
    return [path for path in paths if not any(path.is_relative_to(other) for other in inside)]


def _refuse_locked(found: Iterable[FoundFiles]) -> None:
    offenders: dict[str, list[Path]] = defaultdict(list)
    for searched in found:
        for reason, paths in searched.left_out.items():
            if reason.startswith(LOCKED):
                offenders[reason] += paths
    if offenders:
        raise DatasetError(
            f"{sum(map(len, offenders.values()))} folders whose X-rays cannot be listed",
            "folders that may be read",
            "have them opened for this account, or set data.init_args.on_error to skip to leave them out",
            offenders,
        )


def _identity(path: Path) -> tuple[int, int]:
    """Return the device and number of a file, the same for all links to it."""
    state = path.stat()
    return state.st_dev, state.st_ino


def _refuse_two_settings(paths: Sequence[str], settings: Mapping[tuple[int, int], set[str]]) -> None:
    offenders: dict[str, list[Path | str]] = defaultdict(list)
    for path in paths:
        names = settings[_identity(Path(path))]
        if len(names) > 1:
            offenders[f"in {' and '.join(sorted(names))}"].append(path)
    if offenders:
        raise DatasetError(
            f"{sum(map(len, offenders.values()))} X-rays in folders of two settings",
            "each X-ray in one of them, and no folder inside another one",
            "move the folders beside each other, and remove links",
            offenders,
        )


def _name(path: Path, folder: Path) -> str:
    """Return the name of an X-ray in a folder without its suffix; the whole path for one outside."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).with_suffix("").as_posix()


def _masks_by_name(folder: Path, setting: str) -> dict[str, str]:
    files = list_radiographs(folder) if folder.is_dir() else []
    if not files:
        raise DatasetError(
            f"{setting}: {describe_folder(folder, 'mask')}",
            "masks named as their X-rays",
            f"correct data.init_args.{setting}, relative to root",
        )
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_name[_name(file, folder).removesuffix(_SUFFIX)].append(file)
    twice = [file for same in by_name.values() if len(same) > 1 for file in same]
    if twice:
        raise DatasetError(
            f"{folder} with several masks of the same name",
            "one mask for each X-ray",
            "remove or rename these files",
            {"the same name, but for the suffix": twice},
        )
    return {name: os.fspath(file) for name, (file,) in by_name.items()}
