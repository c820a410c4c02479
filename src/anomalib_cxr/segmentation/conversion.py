"""Conversion of a lung segmenter to OpenVINO: to store it beside a calibrated model, or to segment many X-rays."""

from __future__ import annotations

import warnings
from pathlib import Path

import openvino
import torch
from torch import nn

from anomalib_cxr.deploy.inference import ThreadedNetwork
from anomalib_cxr.utils.files import atomic_path

from .network import LungSegmenter


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
