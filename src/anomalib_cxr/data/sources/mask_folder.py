"""A folder of predicted lung masks: whose they are, which there are, and for which X-rays there can be none.

It belongs to one segmenter, which its record names by the SHA-256 of its file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomalib_cxr._version import __version__
from anomalib_cxr.errors import SegmenterError
from anomalib_cxr.utils.files import atomic_path

FOLDER = "predicted_masks"
"""Folder of the predicted masks in a root, unless another one is chosen."""
RECORD = "segmenter.json"
REPORT = "no_lungs.csv"
NO_LUNGS = "no plausible lungs found"

logger = logging.getLogger(__name__)


class MaskFolder:
    """Masks named as their X-rays, `segmenter.json`, and `no_lungs.csv` where there are X-rays without lungs.

    Args:
        path: The folder; it need not exist.

    Example:
        >>> MaskFolder("predicted_masks").place("CXR_png/CHNCXR_0001_0.dcm").as_posix()
        'predicted_masks/CHNCXR_0001_0.png'
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def place(self, image: Path | str) -> Path:
        """Return where the mask of an X-ray is, or is to be."""
        return self.path / f"{Path(image).stem}.png"

    def names(self) -> set[str]:
        """Return the names of the masks without suffix; those that are not finished are hidden."""
        return {path.stem for path in self.path.glob("*.png") if not path.name.startswith(".")}

    def missing(self, images: Sequence[Path | str]) -> list[Path]:
        """Return the X-rays that have neither a mask nor an entry in the report."""
        there = self.names() | self._listed().keys()
        return [Path(image) for image in images if Path(image).stem not in there]

    def without_lungs(self, images: Sequence[Path | str]) -> list[Path]:
        """Return those of the X-rays of which the report says that they have no lungs."""
        listed = self._listed()
        return [Path(image) for image in images if Path(image).stem in listed]

    def list_without_lungs(self, images: Sequence[Path]) -> None:
        """Add X-rays to the report."""
        names = self._listed() | {image.stem: image.name for image in images}
        if names:
            rows = [("image", "reason"), *((name, NO_LUNGS) for name in sorted(names.values()))]
            with (
                atomic_path(self.path / REPORT) as unfinished,
                unfinished.open("w", encoding="utf-8", newline="") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows(rows)

    def _listed(self) -> dict[str, str]:
        """Return the X-rays of the report: their files by the name without suffix."""
        path = self.path / REPORT
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", newline="") as file:
            return {Path(row["image"]).stem: row["image"] for row in csv.DictReader(file)}

    def claim(self, segmenter: Path) -> None:
        """Write down whose masks these are, or make sure that they are this segmenter's.

        Raises:
            SegmenterError: If they are another one's.
        """
        self.refuse_other(segmenter)
        if not (self.path / RECORD).exists():
            record = {"sha256": _digest(segmenter), "anomalib_cxr": __version__}
            with atomic_path(self.path / RECORD) as unfinished:
                unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def refuse_other(self, segmenter: Path) -> None:
        """Refuse masks that are another segmenter's, or nobody's.

        Raises:
            SegmenterError: If there are such.
        """
        if not (self.names() or (self.path / RECORD).exists()):
            return
        try:
            found = str(json.loads((self.path / RECORD).read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SegmenterError(
                f"{self.path}: masks without {RECORD}, which says whose they are",
                "an empty folder, or one that this segmenter has begun",
                "move these files elsewhere, or choose another folder",
            ) from error
        if found != (origin := _digest(segmenter)):
            raise SegmenterError(
                f"{self.path}: masks of the segmenter of SHA-256 {found[:12]}..., not of {origin[:12]}...",
                "one segmenter for all masks of a folder",
                "use that segmenter, or delete the folder to predict all anew, or choose another folder",
            )


def _digest(segmenter: Path) -> str:
    return hashlib.sha256(segmenter.read_bytes()).hexdigest()


def with_predicted_masks(samples: pd.DataFrame, folder: Path | str) -> pd.DataFrame:
    """Give X-rays without a lung mask the predicted one, where there is one; a true mask stays.

    Args:
        samples: A table with the columns `image_path` and `roi_mask_paths` of
            :func:`anomalib_cxr.data.sources.samples.make_samples`.
        folder: Folder of the predicted masks; it need not exist.

    Returns:
        A copy with `roi_mask_paths` completed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> samples = pd.DataFrame({"image_path": ["a.png", "b.png", "c.png"]})
        >>> samples["roi_mask_paths"] = [("true.png",), (), ()]
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.png"):
        ...         Path(folder, name).touch()
        ...     masks = with_predicted_masks(samples, folder).roi_mask_paths
        >>> [[Path(path).name for path in paths] for paths in masks]
        [['true.png'], ['b.png'], []]
    """
    predicted = MaskFolder(folder)
    there = predicted.names()
    masks = [
        (str(predicted.place(image)),) if not paths and Path(image).stem in there else paths
        for image, paths in zip(samples.image_path, samples.roi_mask_paths, strict=True)
    ]
    completed: pd.DataFrame = samples.assign(roi_mask_paths=pd.Series(masks, index=samples.index, dtype=object))
    changed = int((completed.roi_mask_paths.map(len) > samples.roi_mask_paths.map(len)).sum())
    if changed:
        logger.info("%d of %d lung masks are predicted ones, of %s", changed, len(samples), folder)
    return completed
