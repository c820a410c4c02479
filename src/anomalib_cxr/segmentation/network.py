"""Lung segmenter: MONAI's U-Net at a fixed internal size, for images of any size.

Instance normalization makes the result of an image independent of the batch, and less dependent on its exposure.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI
2015.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from anomalib_cxr.errors import SegmenterError, refuse_settings
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.files import atomic_path

from .postprocessing import LungMask, find_lungs

FORMAT = "anomalib_cxr.LungSegmenter 1"
"""Format tag of a segmenter's file; the number increases with each incompatible change."""
WIDTHS = (8, 16, 32, 64, 128)
"""Default channels of the five levels."""
_LEVELS = len(WIDTHS)  # of MONAI's BasicUNet
_STEP = 2 ** (_LEVELS - 1)  # reduction of the coarsest level


class LungSegmenter(nn.Module):
    """U-Net that maps an X-ray to the probability of lung of each pixel.

    Args:
        image_size: Internal side in pixels; a multiple of 16, at least 32.
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
        """Constructor arguments."""
        return {"image_size": self.image_size, "widths": self.widths}

    def to_own_size(self, images: torch.Tensor) -> torch.Tensor:
        """Resize images or masks to the internal size, `(B, C, H, W)` to `(B, C, S, S)`."""
        return antialiased_resize(images, (self.image_size, self.image_size))

    def logits(self, gray: torch.Tensor) -> torch.Tensor:
        """Compute the logits of lung for images in [-1, 1] of the internal size, `(B, 1, S, S)`."""
        logits: torch.Tensor = self.unet(gray)
        return logits

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Compute the probability of lung.

        Args:
            gray: X-rays in [-1, 1], dense tissue bright, of any size, `(B, 1, H, W)`.

        Returns:
            Probability in [0, 1] up to rounding, `(B, 1, H, W)`.
        """
        small = torch.sigmoid(self.logits(self.to_own_size(gray)))  # (B, 1, S, S)
        return antialiased_resize(small, (gray.shape[-2], gray.shape[-1]))


def segment_lungs(segmenter: LungSegmenter, radiograph: torch.Tensor) -> LungMask:
    """Segment the lungs of one X-ray.

    Args:
        segmenter: Trained segmenter, on any device.
        radiograph: X-ray in [0, 1], `(1, H, W)`, on the CPU.

    Returns:
        Lung mask, `(H, W)`, cleaned by :func:`~anomalib_cxr.segmentation.postprocessing.clean_mask`; empty for a
        uniform image.

    Example:
        >>> segment_lungs(LungSegmenter(32, widths=(4, 4, 8, 8, 16)).eval(), torch.zeros(1, 40, 50)).shape
        (40, 50)
    """
    if radiograph.max() == radiograph.min():  # instance normalization would amplify the padding of a uniform image
        return np.zeros(radiograph.shape[-2:], dtype=bool)
    device = next(segmenter.parameters()).device
    with torch.inference_mode():
        probability = segmenter(2 * radiograph[None].to(device) - 1)[0, 0]  # (H, W)
    return find_lungs(probability.cpu().numpy())


def fastest_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_segmenter(segmenter: LungSegmenter, path: Path | str, record: Mapping[str, Any] | None = None) -> None:
    """Write a segmenter to a file, atomically.

    Args:
        segmenter: Segmenter, on any device.
        path: File to write; its folder is created.
        record: Provenance (seed, data, versions), stored as JSON.

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
    """Read a segmenter from a file of :func:`save_segmenter`.

    Args:
        path: The file; no code in it is executed.

    Returns:
        The segmenter, on the CPU, in evaluation mode.

    Raises:
        SegmenterError: If the file is missing, damaged, or not a segmenter.

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
        raise _segmenter_error(path, "its settings and weights do not match") from error
    if not all(value.isfinite().all() for value in segmenter.state_dict().values()):
        raise _segmenter_error(path, "weights that are not finite")
    return segmenter.eval()


def _content(path: Path) -> dict[str, Any]:
    """Return the content of a segmenter's file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _segmenter_error(path, f"cannot be read: {error.strerror or error}") from error
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise _segmenter_error(path, "damaged, or not a file of weights") from error
    tag = content.get("format") if isinstance(content, dict) else None
    if tag != FORMAT:
        raise _segmenter_error(path, "weights of another kind of network" if tag is None else f"format {tag!r}")
    return dict(content)


def _segmenter_error(path: Path | str, reason: str) -> SegmenterError:
    return SegmenterError(
        f"{path}: {reason}",
        f"a segmenter.pt of `anomalib-cxr segment train` ({FORMAT})",
        "correct the path, or train one: anomalib-cxr segment train --root DATA --output FOLDER",
    )
