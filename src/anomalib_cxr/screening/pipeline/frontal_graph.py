"""OpenVINO graph of the network that tells upright frontal chest X-rays from all else, on thumbnails.

It computes what `benchmarks/frontal_network.py` was trained to, without torch. Local contrast normalization removes
exposure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as op

SIDE = 64
"""Side of a thumbnail in pixels."""
KINDS = (
    "frontal",
    "turned by 90 degrees",  # to the left
    "upside down",  # turned by 180 degrees
    "turned by 90 degrees",  # to the right
    "upside down",  # as in a mirror
    "inverted, dense tissue dark",
    "a part of the chest, or one that is too small in the image",
    "a lateral chest X-ray",
    "no chest X-ray",
)
"""Classes of the network; only the first one is accepted."""
NEIGHBORHOOD = 9
"""Side of the square in which local mean and standard deviation are computed, in pixels of a thumbnail."""
CONTRAST = 0.02
"""Local standard deviation below which contrast is not enhanced."""
MAX_CONTRAST = 3.0
"""Bound of the normalized gray."""
_STAGES = 4
_LUNGS = 16  # side of the lungs in the network
_EPSILON = 1e-5  # of torch's batch normalization

Weights = Mapping[str, npt.NDArray[np.float32]]
"""Weights by the names that torch gives them."""


def build_graph(weights: Weights) -> openvino.Model:
    """Build the graph of the network.

    Args:
        weights: Its weights.

    Returns:
        Graph from thumbnails in [0, 1], `(B, 1, SIDE, SIDE)`, to the probabilities of the kinds, `(B, K)`.

    Raises:
        KeyError: If weights are missing.
        RuntimeError: If weights have other shapes.
    """
    thumbnails = op.parameter([-1, 1, SIDE, SIDE], np.float32)
    levels = [_normalized(thumbnails)]
    for number in range(_STAGES):
        levels.append(_stage(levels[-1], weights, f"stages.{number}"))
    lungs = _convolution(op.concat([_enlarged(level) for level in levels[2:]], 1), weights, "lungs.0", 1)
    lungs = _convolution(op.relu(lungs), weights, "lungs.2", 0)
    flat = op.concat([_flat(levels[-1]), _flat(op.sigmoid(lungs))], 1)
    hidden = op.relu(_linear(flat, weights, "head.1"))
    return openvino.Model([op.softmax(_linear(hidden, weights, "head.3"), 1)], [thumbnails], "frontal")


def _normalized(thumbnails: openvino.Node) -> openvino.Node:
    """Normalize contrast locally, and as a whole, to `(B, 2, SIDE, SIDE)`."""
    mean = _local_mean(thumbnails)
    variance = op.subtract(_local_mean(op.multiply(thumbnails, thumbnails)), op.multiply(mean, mean))
    deviation = op.sqrt(op.relu(variance))
    local = op.clamp(_over(op.subtract(thumbnails, mean), deviation), -MAX_CONTRAST, MAX_CONTRAST)
    centered = op.subtract(thumbnails, op.reduce_mean(thumbnails, [2, 3], keep_dims=True))
    unbiased = np.float32(SIDE**2 / (SIDE**2 - 1))
    spread = op.sqrt(op.multiply(op.reduce_mean(op.multiply(centered, centered), [2, 3], keep_dims=True), unbiased))
    return op.concat([local, _over(centered, spread)], 1)


def _over(values: openvino.Node, deviation: openvino.Node) -> openvino.Node:
    return op.divide(values, op.add(deviation, np.float32(CONTRAST)))


def _local_mean(images: openvino.Node) -> openvino.Node:
    padding = [0, 0, NEIGHBORHOOD // 2, NEIGHBORHOOD // 2]
    mean = op.pad(images, padding, padding, "reflect")
    for kernel in ([NEIGHBORHOOD, 1], [1, NEIGHBORHOOD]):
        mean = op.avg_pool(mean, [1, 1], [0, 0], [0, 0], kernel, exclude_pad=True)
    return mean


def _stage(images: openvino.Node, weights: Weights, name: str) -> openvino.Node:
    """Convolve in steps of two pixels, normalize by the statistics of the training, and rectify."""
    scale, offset, mean, variance = (
        weights[f"{name}.1.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + np.float32(_EPSILON))
    kernel = weights[f"{name}.0.weight"] * factor[:, None, None, None]
    convolved = op.convolution(images, kernel, [2, 2], [1, 1], [1, 1], [1, 1])
    return op.relu(op.add(convolved, (offset - mean * factor).reshape(1, -1, 1, 1)))


def _convolution(images: openvino.Node, weights: Weights, name: str, padding: int) -> openvino.Node:
    convolved = op.convolution(images, weights[f"{name}.weight"], [1, 1], [padding] * 2, [padding] * 2, [1, 1])
    return op.add(convolved, weights[f"{name}.bias"].reshape(1, -1, 1, 1))


def _enlarged(images: openvino.Node) -> openvino.Node:
    """Repeat pixels, to the size of the lungs in the network."""
    places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.interpolate(images, [_LUNGS, _LUNGS], "nearest", "sizes", axes=[2, 3], **places)


def _linear(features: openvino.Node, weights: Weights, name: str) -> openvino.Node:
    return op.add(op.matmul(features, weights[f"{name}.weight"], False, True), weights[f"{name}.bias"])


def _flat(images: openvino.Node) -> openvino.Node:
    return op.reshape(images, [0, -1], True)
