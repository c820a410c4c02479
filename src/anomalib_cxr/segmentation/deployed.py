"""Lung segmenter as an OpenVINO graph, stored beside a calibrated model; it needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anomalib_cxr.deploy.inference import ThreadedNetwork
from anomalib_cxr.deploy.model_bytes import ModelBytes
from anomalib_cxr.deploy.openvino_graph import find_segmenter

SEGMENTER_GRAPH = "lungs.xml"
"""Name of the graph in the folder of a model."""


class ExportedSegmenter:
    """Segmenter loaded from an OpenVINO graph.

    Args:
        graph: The `.xml` file written by :func:`~anomalib_cxr.segmentation.conversion.export_segmenter`.
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

    def __call__(self, radiographs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute the probability of lung; threads may do so at the same time.

        Args:
            radiographs: X-rays in [0, 1], `(B, S, S)`.

        Returns:
            Probability, `(B, S, S)`, float32 in [0, 1].
        """
        probability: npt.NDArray[np.float32] = self._network(2 * radiographs[:, None] - 1)[0][:, 0]
        return probability
