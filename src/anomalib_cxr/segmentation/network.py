"""The lung segmenter: a U-Net that works at one size and answers at the size of what it is asked.

The U-Net is MONAI's: made for medical images, with widths of one's own choice and no pre-trained weights to fetch,
beside the losses and the metric of the same field, and with no more dependencies than torch and NumPy. Its
normalization by instance makes each image's answer independent of the batch, and less dependent on its exposure.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI
2015.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anomalib_cxr.errors import SegmenterError, refuse_settings
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.files import atomic_path

FORMAT = "anomalib_cxr.LungSegmenter 1"
"""First entry of a segmenter's file; the number counts up when an older version could not read it."""
WIDTHS = (8, 16, 32, 64, 128)
_LEVELS = len(WIDTHS)  # of MONAI's BasicUNet
_STEP = 2 ** (_LEVELS - 1)  # px of the image that are one at the bottom


class LungSegmenter(nn.Module):
    """Says of each pixel how probably it is lung.

    Args:
        image_size: Side in pixels at which the network works; a multiple of 16, at least 32.
        widths: Channels of the five levels, from the finest to the coarsest.

    Raises:
        SettingError: If a setting is outside its range.

    Example:
        >>> segmenter = LungSegmenter(image_size=32, widths=(4, 4, 8, 8, 16))
        >>> segmenter(torch.zeros(2, 1, 50, 40)).shape
        torch.Size([2, 1, 50, 40])
    """

    def __init__(self, image_size: int = 256, widths: Sequence[int] = WIDTHS) -> None:
        from monai.networks.nets.basic_unet import BasicUNet  # noqa: PLC0415  # a second that only segmenting is to cost

        super().__init__()
        widths = tuple(widths)
        wrong: dict[str, object] = {}
        if image_size % _STEP or image_size < 2 * _STEP:
            wrong["image_size"] = image_size
        if len(widths) != _LEVELS or min(widths) < 1:
            wrong["widths"] = widths
        expected = {
            "image_size": f"a multiple of {_STEP}, at least {2 * _STEP}",
            "widths": f"{_LEVELS} positive numbers of channels",
        }
        refuse_settings(wrong, expected, "the settings of the segmenter")
        self.image_size = image_size
        self.widths = widths
        self.unet = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(*widths, widths[0]))

    @property
    def settings(self) -> dict[str, Any]:
        """Return the arguments that make a segmenter of the same shape."""
        return {"image_size": self.image_size, "widths": self.widths}

    def to_own_size(self, images: torch.Tensor) -> torch.Tensor:
        """Resize images or masks to the side at which the network works: `(B, C, H, W)` to `(B, C, S, S)`."""
        return antialiased_resize(images, (self.image_size, self.image_size))

    def logits(self, gray: torch.Tensor) -> torch.Tensor:
        """Return the logits of lung, for images in [-1, 1] of the network's own size, `(B, 1, S, S)`."""
        logits: torch.Tensor = self.unet(gray)
        return logits

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Find the lungs.

        Args:
            gray: X-rays in [-1, 1], dense is bright, `(B, 1, H, W)`, of any size.

        Returns:
            Probability of lung, `(B, 1, H, W)`, in [0, 1] up to rounding.
        """
        small = torch.sigmoid(self.logits(self.to_own_size(gray)))  # (B, 1, S, S)
        return antialiased_resize(small, (gray.shape[-2], gray.shape[-1]))


def fastest_device() -> torch.device:
    """Return the graphics processor where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_segmenter(segmenter: LungSegmenter, path: Path | str, record: Mapping[str, Any] | None = None) -> None:
    """Write a segmenter into one file, whole or not at all.

    Args:
        segmenter: The segmenter, on any device.
        path: The file; its folder is made.
        record: Where it comes from: seed, data, versions; kept as JSON.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "segmenter.pt"
        >>> save_segmenter(LungSegmenter(32, widths=(4, 4, 8, 8, 16)), path, {"seed": 0})
        >>> load_segmenter(path).image_size
        32
    """
    content = {
        "format": FORMAT,
        "settings": segmenter.settings,
        "weights": {name: value.cpu() for name, value in segmenter.state_dict().items()},
        "record": json.dumps(record or {}, default=str),
    }
    with atomic_path(Path(path)) as unfinished:
        torch.save(content, unfinished)


def load_segmenter(path: Path | str) -> LungSegmenter:
    """Read a segmenter that :func:`save_segmenter` has written.

    Args:
        path: The file. Nothing in it is executed.

    Returns:
        The segmenter, on the CPU, for inference.

    Raises:
        SegmenterError: If the file is missing, damaged, or something else than a segmenter.

    Example:
        >>> load_segmenter("nowhere/segmenter.pt")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SegmenterError: found: nowhere/segmenter.pt: cannot be read: No such file or directory
          expected: ...
    """
    content = _content(Path(path))
    try:
        segmenter = LungSegmenter(**content["settings"])
        segmenter.load_state_dict(content["weights"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _no_segmenter(path, "its settings and weights do not belong together") from error
    if not all(value.isfinite().all() for value in segmenter.state_dict().values()):
        raise _no_segmenter(path, "weights that are not finite")
    return segmenter.eval()


def _content(path: Path) -> dict[str, Any]:
    """Return what a segmenter's file holds."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _no_segmenter(path, f"cannot be read: {error.strerror or error}") from error
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise _no_segmenter(path, "damaged, or no file of weights at all") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise _no_segmenter(path, "weights of something else" if found is None else f"format {found!r}")
    return dict(content)


def _no_segmenter(path: Path | str, reason: str) -> SegmenterError:
    return SegmenterError(
        f"{path}: {reason}",
        f"a segmenter.pt of `anomalib-cxr segment train` ({FORMAT})",
        "correct the path, or train one: anomalib-cxr segment train --root DATA --output FOLDER",
    )
