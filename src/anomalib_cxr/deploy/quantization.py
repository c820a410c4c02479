"""8-bit quantization of OpenVINO models by NNCF.

Convolutions, which take the time, are quantized. The rest stays in float32: resizing, quantiles and warps, which place
pixels; differences of codes or of reconstructions and images, which are small beside their operands; logarithms,
exposure adjustment and threshold. Large matrices, such as the principal components of an atlas, take the space: they
are stored in 8 bits and multiplied in float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import nncf
import numpy as np
import openvino
from anomalib.data import AnomalibDataModule
from anomalib.deploy.export import CompressionType
from torch.utils.data import DataLoader, Subset

from anomalib_cxr.errors import SettingError

from .openvino_graph import CONVOLUTIONS, note_segmenter, share_transposed

MIN_MATRIX_SIZE = 1 << 17
"""Number of values from which on a matrix is stored in 8 bits; the matrices of resizing and smoothing are smaller."""
MAX_CALIBRATION_IMAGES = 300
"""Upper bound of the calibration images, the number that NNCF recommends."""


def quantize(
    network: openvino.Model, compression: CompressionType, datamodule: AnomalibDataModule | None = None
) -> openvino.Model:
    """Quantize a converted OpenVINO model.

    Args:
        network: The model in float32.
        compression: `INT8` stores the weights in 8 bits and computes in float32; `INT8_PTQ` computes convolutions in
            integers, with activation ranges taken from validation images.
        datamodule: Source of the validation images; unused by `INT8`.

    Returns:
        The quantized model.

    Raises:
        SettingError: If there are no images to calibrate with, or the compression is accuracy-aware.
    """
    if compression == CompressionType.INT8_ACQ:
        raise SettingError(
            f"compression_type = {compression.value}",
            "INT8_PTQ or INT8: accuracy-aware quantization gave the same accuracy, size and speed as INT8_PTQ",
            "export with --compression_type INT8_PTQ",
        )
    share_transposed(network)  # NNCF would store both copies
    note_segmenter(network)  # NNCF keeps the note
    if compression == CompressionType.INT8_PTQ:
        network = nncf.quantize(
            network,
            nncf.Dataset(_calibration_loader(datamodule), lambda batch: batch.image.numpy()),
            # Symmetric activations: with a zero point OpenVINO would leave transposed convolutions in float32.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=MAX_CALIBRATION_IMAGES,
            ignored_scope=_ignored(network),
        )
    return _compress_weights(network)


def _ignored(network: openvino.Model) -> nncf.IgnoredScope:
    """Return all operations but the convolutions that may be quantized."""
    names = [
        convolution.get_friendly_name()
        for convolution in _of_type(network, CONVOLUTIONS)
        if _has_one_pixel_output(convolution)
    ]
    types = {operation.get_type_name() for operation in network.get_ordered_ops()} - CONVOLUTIONS
    return nncf.IgnoredScope(types=sorted(types), names=names, validate=False)


def _has_one_pixel_output(convolution: openvino.Node) -> bool:
    """Tell whether a convolution reduces the whole map to one pixel, as the last one before a code does.

    OpenVINO 2026.4 computes such a convolution wrongly in integers on a CPU if the batch size is dynamic.
    """
    sides = list(convolution.output(0).get_partial_shape())[2:]
    return all(side.is_static and side.get_length() == 1 for side in sides)


def _compress_weights(network: openvino.Model) -> openvino.Model:
    """Store the weights of convolutions and of large matrices in 8 bits, unless they are already."""
    small = [
        product.get_friendly_name()
        for product in _of_type(network, {"MatMul"})
        if max(map(_constant_size, product.input_values())) < MIN_MATRIX_SIZE
    ]
    ignored = nncf.IgnoredScope(names=small, validate=False)
    return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)


def _constant_size(operand: openvino.Output) -> int:
    """Return the number of values of an operand of a product if it is constant, else 0."""
    return math.prod(operand.get_shape()) if operand.get_node().get_type_name() == "Constant" else 0


def _of_type(network: openvino.Model, types: Collection[str]) -> list[openvino.Node]:
    return [operation for operation in network.get_ordered_ops() if operation.get_type_name() in types]


def _calibration_loader(datamodule: AnomalibDataModule | None) -> DataLoader[Any]:
    """Return validation images one by one, evenly spaced if there are more than needed.

    Raises:
        SettingError: If there are none.
    """
    if datamodule is not None:
        datamodule.prepare_data()
        datamodule.setup("fit")
        dataset = datamodule.val_dataloader().dataset
        if count := len(dataset):
            chosen = np.linspace(0, count - 1, min(count, MAX_CALIBRATION_IMAGES)).round().astype(int).tolist()
            return DataLoader(Subset(dataset, chosen), collate_fn=dataset.collate_fn)
    raise SettingError(
        f"compression_type = {CompressionType.INT8_PTQ.value} and no "
        f"{'data' if datamodule is None else 'validation images'}",
        "validation images, which show the ranges of activations",
        "give the configuration of the data that the model was trained with: --config configs/data/NAME.yaml",
    )
