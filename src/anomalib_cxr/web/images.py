"""Images of a case for the browser, rendered on request and cached in memory."""

from __future__ import annotations

import io
import json
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageChops, ImageFilter
from PIL.PngImagePlugin import PngInfo

from anomalib_cxr.data.reading.content import FileContent, read_content
from anomalib_cxr.screening.case import Case
from anomalib_cxr.screening.heat_colors import color_heat

if TYPE_CHECKING:  # the readers of all formats delay the start
    from anomalib_cxr.data.reading.gray_values import Window

MAX_XRAY = 2048
"""Longer side of an X-ray on the page in pixels, at most."""
MAX_LAYER = {"heat": 512, "lungs": 1024}
"""Longer side of each layer over the X-ray in pixels, at most; the browser stretches it to the size of the X-ray.

Heat is smooth, and models compute at most 256 pixels of it; the outline is a thin line.
"""
MAX_THUMBNAIL = 64
"""Longer side of an image in the table in pixels, at most."""
CAPACITY = 256 * 1024**2
"""Capacity of the cache in bytes."""
MAX_CONCURRENT = 2
"""Number of images rendered at a time; decoding one takes up to a gigabyte."""
OUTLINE = (89, 217, 242)
_CHANGED = "The file has changed since it was screened. Screen it again to see it."
_REPLACED = "The file has another X-ray now. That of this case cannot be shown any more."
_EDGE_WINDOW = 5  # pixels; the edge of the lungs becomes a line of 2 px


class ImageUnavailableError(Exception):
    """An image cannot be shown; the message gives the reason."""


class _Key(NamedTuple):
    kind: str
    path: str
    content: str
    screened: str
    status: tuple[int, ...]
    """Size and times of the file as it is now; empty for images in the folder of the worklist."""


class CaseImages:
    """Renders images of cases, with a cache.

    Args:
        folder: Folder of the worklist; layers are read from nowhere else.
        capacity: Capacity of the cache in bytes; the image not requested for the longest time is dropped first.
    """

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.folder = folder.resolve()
        self.capacity = capacity
        self._cache: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = CapacityLimiter(MAX_CONCURRENT)

    async def render_in_turn(self, kind: str, case: Case) -> bytes:
        """Render an image in a thread that is kept for images, so that slow ones hold no other page.

        Args:
            kind: As for :meth:`render`, as the returned value and the errors.
            case: The case.
        """
        return await to_thread.run_sync(self.render, kind, case, limiter=self._turns)

    def render(self, kind: str, case: Case) -> bytes:
        """Return an image as PNG.

        Args:
            kind: `xray`, `values` (in 16 bits, with a text chunk of the same name for their window), `heat` (colored,
                transparent at zero), `lungs` (their outline), `picture` (the heatmap over the X-ray), or `thumbnail`
                (the same, small).
            case: The case.

        Returns:
            Content of the PNG file.

        Raises:
            ImageUnavailableError: If there is no such image, or the file has changed since it was screened.
            RadiographError: If the X-ray cannot be read.
        """
        status = (
            _status_of(case) if kind in {"xray", "values"} else ()
        )  # a cached image must not stand for another file
        key = _Key(kind, case.path, case.content, case.screened, status)
        if (png := self._cached(key)) is None:
            png = self._draw(kind, case)
            self._store(key, png)
        return png

    def _draw(self, kind: str, case: Case) -> bytes:
        if kind == "values":
            from anomalib_cxr.data.reading.gray_values import read_gray_values  # noqa: PLC0415

            return _values_png(*read_gray_values(_content(case), case.sixteen_bit_white))
        if kind == "xray":
            from anomalib_cxr.data.reading.intensities import read_intensities  # noqa: PLC0415

            gray = (read_intensities(_content(case), case.sixteen_bit_white) * 255).round().astype(np.uint8)
            return _png(_reduced(Image.fromarray(gray), MAX_XRAY), zlib.Z_RLE)
        if kind in {"picture", "thumbnail"}:
            longest = MAX_XRAY if kind == "picture" else MAX_THUMBNAIL
            return _png(_reduced(self._layer(case.heatmap, "RGB"), longest))
        layer = self._layer(case.layers and f"{case.layers}-{kind}.png", "L")
        shape = case.width or layer.width, case.height or layer.height
        layer = layer.resize(_fit(shape, MAX_LAYER[kind]), Image.Resampling.BILINEAR)
        return _png(_heat(layer) if kind == "heat" else _outline(layer))

    def _layer(self, name: str, mode: str) -> Image.Image:
        """Read an image in the folder of the worklist, and nowhere else."""
        from anomalib_cxr.data.reading.intensities import image_size  # noqa: PLC0415

        path = (self.folder / name).resolve()
        if not name or not path.is_relative_to(self.folder) or not path.is_file():
            raise ImageUnavailableError("There is no such image of this X-ray.")
        image_size(path)  # refuses what is no image, or too large
        with Image.open(path, formats=("PNG",)) as image:
            decoded: Image.Image = image.convert(mode)
        return decoded

    def _cached(self, key: _Key) -> bytes | None:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _store(self, key: _Key, png: bytes) -> None:
        with self._lock:
            self._cache[key] = png
            while sum(map(len, self._cache.values())) > self.capacity:
                self._cache.popitem(last=False)


def _status_of(case: Case) -> tuple[int, ...]:
    try:
        status = case.file.stat()
    except OSError as error:
        raise ImageUnavailableError(f"The X-ray cannot be opened any more: {error.strerror}.") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _content(case: Case) -> FileContent:
    """Return the content of the file of a case, if it is the one that was scored."""
    content = read_content(case.file)
    if content.sha256 != case.content:
        raise ImageUnavailableError(_REPLACED if case.superseded else _CHANGED)
    return content


def _values_png(values: npt.NDArray[np.uint16], window: Window) -> bytes:
    height, width = values.shape
    size = _fit((width, height), MAX_XRAY)
    if size != (width, height):  # between the least and the greatest value, which the filter would overshoot
        reduced = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
        values = np.rint(np.clip(reduced, values.min(), values.max())).astype(np.uint16)
    text = PngInfo()
    text.add_text("values", json.dumps(window._asdict()))
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png", pnginfo=text, compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def _fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same aspect ratio whose longer side is at most `longest`.

    Example:
        >>> _fit((4000, 3000), 1000), _fit((30, 20), 1000)
        ((1000, 750), (30, 20))
    """
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    return image.resize(_fit(image.size, longest), Image.Resampling.LANCZOS)


def _heat(layer: Image.Image) -> Image.Image:
    """Color the heat as in the heatmaps on disk; zero is transparent."""
    return Image.fromarray(np.rint(255 * color_heat(np.asarray(layer) / 255)).astype(np.uint8))


def _outline(layer: Image.Image) -> Image.Image:
    lungs = layer.point([255 * (value > 127) for value in range(256)])  # noqa: PLR2004  # half of white
    edge = ImageChops.subtract(lungs, lungs.filter(ImageFilter.MinFilter(_EDGE_WINDOW)))
    image = Image.new("RGBA", layer.size, (*OUTLINE, 0))
    image.putalpha(edge)
    return image


def _png(image: Image.Image, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """Encode an image; the strategy of run lengths is faster for X-rays, whose noise repeats nothing, and smaller."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, compress_type=strategy)
    return file.getvalue()
