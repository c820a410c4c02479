"""Lung segmenter as an OpenVINO graph: stored beside a calibrated model, or compiled for many X-rays."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn

from anomalib_cxr.deploy.inference import ThreadedNetwork
from anomalib_cxr.deploy.model_bytes import ModelBytes
from anomalib_cxr.deploy.openvino_graph import find_segmenter
from anomalib_cxr.functional import downsample
from anomalib_cxr.utils.files import atomic_path

from .network import LungSegmenter

SEGMENTER_GRAPH = "lungs.xml"
"""Name of the graph in the folder of a model."""


def export_segmenter(segmenter: LungSegmenter, graph: Path) -> None:
    """Export a segmenter to OpenVINO, for images of its own size.

    Args:
        segmenter: Segmenter on the CPU, in evaluation mode.
        graph: The `.xml` file to write; the weights are written beside it.
    """
    network = _converted(nn.Sequential(segmenter.unet, nn.Sigmoid()), segmenter.image_size)
    with atomic_path(graph) as unfinished:
        written = unfinished.with_suffix(".xml")
        openvino.save_model(network, written, compress_to_fp16=False)
        written.with_suffix(".bin").replace(graph.with_suffix(".bin"))
        written.replace(unfinished)


def _converted(module: nn.Module, side: int) -> openvino.Model:
    """Convert a module of one input and one output, `(B, 1, side, side)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each branch on the size, which is fixed here
        network = openvino.convert_model(module, example_input=torch.zeros(1, 1, side, side), input=[1, 1, side, side])
    network.reshape([-1, 1, side, side])
    return network


class CompiledSegmenter(LungSegmenter):
    """Segmenter whose network OpenVINO computes, on the processor: in half of PyTorch's time, and in float32, too.

    Threads may call it at the same time.

    Args:
        segmenter: Trained segmenter, on the CPU.
    """

    def __init__(self, segmenter: LungSegmenter) -> None:
        super().__init__(**segmenter.settings)
        self.load_state_dict(segmenter.state_dict())
        self.eval()
        self._compiled = ThreadedNetwork(_converted(self.unet, self.image_size), "CPU", [0])

    def logits(self, gray: torch.Tensor) -> torch.Tensor:
        """Compute the logits of lung for images in [-1, 1] of the internal size, `(B, 1, S, S)`."""
        return torch.from_numpy(self._compiled(gray.numpy())[0])


class ExportedSegmenter:
    """Segmenter loaded from an OpenVINO graph.

    Args:
        graph: The `.xml` file written by :func:`export_segmenter`.
        device: OpenVINO device.

    Attributes:
        hashes: SHA-256 of the bytes that were loaded, by the name of the file.
        side: Side of its images in pixels.
        weights: Hash of its weights, as of :func:`anomalib_cxr.deploy.openvino_graph.find_segmenter`.
    """

    def __init__(self, graph: Path, device: str = "CPU") -> None:
        content = ModelBytes.read(graph)
        names = (graph.name, graph.with_suffix(".bin").name)
        self.hashes = {name: hashlib.sha256(part).hexdigest() for name, part in zip(names, content, strict=True)}
        network = content.load()
        self.side = int(network.input().get_partial_shape()[-1].get_length())
        found = find_segmenter(network, self.side)
        self.weights = found[1] if found else ""
        self._network = ThreadedNetwork(network, device, [0])

    def downsample(self, radiograph: torch.Tensor) -> torch.Tensor:
        """Resize one X-ray in [0, 1] to the segmenter's size, `(1, H, W)` to `(1, S, S)`."""
        return downsample(radiograph, (self.side, self.side))

    def __call__(self, radiographs: torch.Tensor) -> np.ndarray:
        """Compute the probability of lung; threads may do so at the same time.

        Args:
            radiographs: X-rays in [0, 1], `(B, 1, S, S)`.

        Returns:
            Probability, `(B, S, S)`, float32 in [0, 1].
        """
        return self._network((2 * radiographs - 1).numpy())[0][:, 0]
