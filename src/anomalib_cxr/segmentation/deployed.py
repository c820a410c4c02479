"""The lung segmenter as it is deployed: an OpenVINO graph beside the model."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn
from torch.nn import functional

from anomalib_cxr.utils.files import atomic_path

from .network import LungSegmenter

SEGMENTER_GRAPH = "lungs.xml"


def export_segmenter(segmenter: LungSegmenter, graph: Path) -> None:
    """Write a segmenter as an OpenVINO model that works at its own size.

    Args:
        segmenter: On the CPU, for inference.
        graph: The `.xml` file; its weights land beside it.
    """
    side = segmenter.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each branch, and all images have this one size
        network = openvino.convert_model(
            nn.Sequential(segmenter.unet, nn.Sigmoid()),
            example_input=torch.zeros(1, 1, side, side),
            input=[1, 1, side, side],
        )
    network.reshape([-1, 1, side, side])
    with atomic_path(graph) as unfinished:
        written = unfinished.with_suffix(".xml")
        openvino.save_model(network, written, compress_to_fp16=False)
        written.with_suffix(".bin").replace(graph.with_suffix(".bin"))
        written.replace(unfinished)


def downsample(radiograph: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize one X-ray as :func:`anomalib_cxr.functional.antialiased_resize` does, in less time for large ones.

    Args:
        radiograph: In [0, 1], `(1, H, W)`.
        size: Height and width of the result.
    """
    resized = functional.interpolate(radiograph[None], size, mode="bilinear", antialias=True)[0]
    return resized.clamp(0, 1)


class ExportedSegmenter:
    """Finds lungs by an exported segmenter.

    Args:
        graph: The `.xml` file that :func:`export_segmenter` wrote.
        device: OpenVINO's name of the device.
    """

    def __init__(self, graph: Path, device: str = "CPU") -> None:
        network = openvino.Core().read_model(graph)
        self.side = int(network.input().get_partial_shape()[-1].get_length())
        self._network = openvino.Core().compile_model(network, device, {"INFERENCE_PRECISION_HINT": "f32"})

    def downsample(self, radiograph: torch.Tensor) -> torch.Tensor:
        """Reduce one X-ray to the segmenter's size: `(1, H, W)` to `(1, S, S)`, in [0, 1]."""
        return downsample(radiograph, (self.side, self.side))

    def __call__(self, reduced: torch.Tensor) -> np.ndarray:
        """Return the probability of lung.

        Args:
            reduced: X-rays in [0, 1], `(B, 1, S, S)`.

        Returns:
            `(B, S, S)`, float32 in [0, 1].
        """
        return np.asarray(self._network((2 * reduced - 1).numpy())[0])[:, 0]
