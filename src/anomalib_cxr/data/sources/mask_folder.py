"""Folder of predicted lung masks, with a record of the segmenter and a report of X-rays without lungs."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from anomalib_cxr._version import __version__
from anomalib_cxr.errors import SegmenterError
from anomalib_cxr.utils.files import atomic_path

DEFAULT_FOLDER = "predicted_masks"
"""Name of the folder in a data folder, unless another one is chosen."""
RECORD = "segmenter.json"
REPORT = "no_lungs.csv"
NO_LUNGS = "no plausible lungs found"


class MaskFolder:
    """Masks with the names of their X-rays, `segmenter.json`, and `no_lungs.csv` if there are X-rays without lungs.

    All masks of a folder are of one segmenter, which `segmenter.json` identifies by the SHA-256 of its file.

    Args:
        path: The folder; it need not exist.
        root: Folder of the X-rays, for those whose names are not unique: a mask is then named by the path in it. None
            for masks that have the name of the X-ray, without its suffix.

    Example:
        >>> MaskFolder("predicted_masks").mask_path("CXR_png/CHNCXR_0001_0.dcm").as_posix()
        'predicted_masks/CHNCXR_0001_0.png'
        >>> MaskFolder("predicted_masks", Path("data")).mask_path("data/healthy/1/IM1").as_posix()
        'predicted_masks/healthy/1/IM1.png'
    """

    def __init__(self, path: Path | str, root: Path | None = None) -> None:
        self.path = Path(path)
        self.root = root

    def name_of(self, image: Path | str) -> str:
        """Return the name of an X-ray's mask without suffix."""
        image = Path(image)
        if self.root is None:
            return image.stem
        return (image.relative_to(self.root) if image.is_relative_to(self.root) else image).as_posix().lstrip("/")

    def mask_path(self, image: Path | str) -> Path:
        """Return the path of an X-ray's mask, which need not exist."""
        return self.path / f"{self.name_of(image)}.png"

    def mask_names(self) -> set[str]:
        """Return the names of the masks without suffix; unfinished ones are hidden files."""
        paths = self.path.glob("*.png" if self.root is None else "**/*.png")
        files = {path.relative_to(self.path) for path in paths if not path.name.startswith(".")}
        return {file.as_posix().removesuffix(".png") for file in files}

    def missing(self, images: Sequence[Path | str]) -> list[Path]:
        """Return the X-rays that have neither a mask nor an entry in the report.

        Args:
            images: X-rays to look up.
        """
        known = self.mask_names() | self._reported().keys()
        return [Path(image) for image in images if self.name_of(image) not in known]

    def without_lungs(self, images: Sequence[Path | str]) -> list[Path]:
        """Return the X-rays that the report lists.

        Args:
            images: X-rays to look up.
        """
        reported = self._reported()
        return [Path(image) for image in images if self.name_of(image) in reported]

    def report_without_lungs(self, images: Sequence[Path]) -> None:
        """Add X-rays to the report.

        Args:
            images: X-rays in which no lungs were found.
        """
        own = {self.name_of(image): image.name if self.root is None else self.name_of(image) for image in images}
        names = self._reported() | own
        if names:
            rows = [("image", "reason"), *((name, NO_LUNGS) for name in sorted(names.values()))]
            with (
                atomic_path(self.path / REPORT) as unfinished,
                unfinished.open("w", encoding="utf-8", newline="") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows(rows)

    def _reported(self) -> dict[str, str]:
        """Return the X-rays in the report by the name of their mask."""
        path = self.path / REPORT
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", newline="") as file:
            images = [row["image"] for row in csv.DictReader(file)]
        return {image if self.root is not None else Path(image).stem: image for image in images}

    def record_segmenter(self, segmenter: Path) -> None:
        """Record the segmenter of a new folder, or check that of an existing one.

        Args:
            segmenter: File of the segmenter.

        Raises:
            SegmenterError: If the masks are of another segmenter.
        """
        self.check_segmenter(segmenter)
        if not (self.path / RECORD).exists():
            record = {"sha256": _sha256(segmenter), "anomalib_cxr": __version__}
            with atomic_path(self.path / RECORD) as unfinished:
                unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def check_segmenter(self, segmenter: Path) -> None:
        """Refuse masks that are of another segmenter, or without a record.

        Args:
            segmenter: File of the segmenter.

        Raises:
            SegmenterError: If there are such masks.
        """
        if not (self.mask_names() or (self.path / RECORD).exists()):
            return
        try:
            recorded = str(json.loads((self.path / RECORD).read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SegmenterError(
                f"{self.path}: masks without {RECORD}, which identifies their segmenter",
                "an empty folder, or one that this segmenter has begun",
                "move these files elsewhere, or choose another folder",
            ) from error
        if recorded != (digest := _sha256(segmenter)):
            raise SegmenterError(
                f"{self.path}: masks of the segmenter of SHA-256 {recorded[:12]}..., not of {digest[:12]}...",
                "one segmenter for all masks of a folder",
                "use that segmenter, or delete the folder to predict all anew, or choose another folder",
            )


def _sha256(segmenter: Path) -> str:
    return hashlib.sha256(segmenter.read_bytes()).hexdigest()
