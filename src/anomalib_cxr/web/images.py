"""The pictures of a case, made when they are asked for, and kept in memory within bounds."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageChops, ImageFilter

from anomalib_cxr.screening.case import Case

LONGEST = 2048
"""Pixels of the longer side of an X-ray on the page, and"""
LONGEST_LAYER = 1024
"""of what is laid over it, which the browser stretches to the same size."""
THUMBNAIL = 64
"""Pixels of the longer side of a picture in the table."""
CAPACITY = 256 * 1024**2
"""Bytes that are kept."""
AT_ONCE = 2
"""Pictures that are made at a time; decoding one takes up to a gigabyte."""
OUTLINE = (89, 217, 242)
_WIDTH = 5  # pixels of the window that finds the edge of the lungs: a line of 2 px within each


class PictureError(Exception):
    """There is no picture, for a reason that the message gives."""


class _Key(NamedTuple):
    kind: str
    path: str
    modified: int
    screened: str


class Pictures:
    """Makes the pictures of cases.

    Args:
        folder: Of the worklist; what is laid over an X-ray is read from nowhere else.
        capacity: Bytes that are kept; the one not asked for for the longest time goes first.
    """

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.folder = folder.resolve()
        self.capacity = capacity
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def make(self, kind: str, case: Case) -> bytes:
        """Return a picture as PNG.

        Args:
            kind: `xray`, `heat` (colored, and clear where there is none), `lungs`
                (their outline), or `thumbnail`.
            case: The case.

        Raises:
            PictureError: There is none, or the file is not the one that was screened.
            RadiographError: The X-ray cannot be read.
        """
        key = _Key(kind, case.path, case.modified, case.screened)
        if kind == "xray":
            _refuse_changed(case)  # what is kept, too, must not stand for another file
        if (picture := self._find(key)) is None:
            with self._turns:
                if (picture := self._find(key)) is None:  # another request may have made it meanwhile
                    picture = self._draw(kind, case)
                    self._keep(key, picture)
        return picture

    def _draw(self, kind: str, case: Case) -> bytes:
        if kind == "xray":
            from anomalib_cxr.data.reading.radiograph import read_radiograph  # noqa: PLC0415  # torch: the page is not to wait

            gray = (read_radiograph(case.path)[0].numpy() * 255).round().astype(np.uint8)  # (H, W)
            return _png(_reduced(Image.fromarray(gray), LONGEST))
        if kind == "thumbnail":
            return _png(_reduced(self._layer(case.heatmap, "RGB"), THUMBNAIL))
        layer = self._layer(case.layers and f"{case.layers}-{kind}.png", "L")
        shape = case.width or layer.width, case.height or layer.height
        layer = layer.resize(_within(shape, LONGEST_LAYER), Image.Resampling.BILINEAR)
        return _png(_heat(layer) if kind == "heat" else _outline(layer))

    def _layer(self, name: str, mode: str) -> Image.Image:
        """Read a picture in the folder of the worklist, and nowhere else."""
        from anomalib_cxr.data.reading.radiograph import image_size  # noqa: PLC0415

        path = (self.folder / name).resolve()
        if not name or not path.is_relative_to(self.folder) or not path.is_file():
            raise PictureError("There is no such picture of this X-ray.")
        image_size(path)  # refuses what is no image, or too large
        with Image.open(path) as image:
            decoded: Image.Image = image.convert(mode)
        return decoded

    def _find(self, key: _Key) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: _Key, picture: bytes) -> None:
        with self._lock:
            self._kept[key] = picture
            while sum(map(len, self._kept.values())) > self.capacity:
                self._kept.popitem(last=False)


def _refuse_changed(case: Case) -> None:
    try:
        found = Path(case.path).stat()
    except OSError as error:
        raise PictureError(f"The X-ray cannot be opened any more: {error.strerror}.") from error
    if (found.st_size, found.st_mtime_ns) != (case.size, case.modified):
        raise PictureError("The file was changed after it was screened. Screen it again to see it.")


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same shape whose longer side is at most `longest`.

    Example:
        >>> _within((4000, 3000), 1000), _within((30, 20), 1000)
        ((1000, 750), (30, 20))
    """
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    return image.resize(_within(image.size, longest), Image.Resampling.LANCZOS)


def _heat(layer: Image.Image) -> Image.Image:
    """Color the heat as the heatmaps on disk do; the lower, the clearer, so that none hides nothing."""
    levels = np.arange(256)
    colors = mpl.colormaps["inferno"](levels, bytes=True)  # (256, 4)
    colors[:, 3] = levels
    return Image.fromarray(colors[np.asarray(layer)])


def _outline(layer: Image.Image) -> Image.Image:
    lungs = layer.point([255 * (value > 127) for value in range(256)])  # noqa: PLR2004  # half of white
    edge = ImageChops.subtract(lungs, lungs.filter(ImageFilter.MinFilter(_WIDTH)))
    picture = Image.new("RGBA", layer.size, (*OUTLINE, 0))
    picture.putalpha(edge)
    return picture


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
