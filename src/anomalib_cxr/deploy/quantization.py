"""OpenVINO models whose networks compute in 8-bit integers, by NNCF.

What is quantized is what takes the time: convolutions. What surrounds them stays in float32: resizing, quantiles and
warps, which place pixels; differences of codes or of paintings and images, which are small beside what they are taken
of; logarithms, calibration and threshold. Great matrices, such as the principal components of an atlas, take the room:
they are stored in 8 bits, and multiplied in float32.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import nncf
import numpy as np
import openvino
import torch
from anomalib.data import AnomalibDataModule, ImageBatch
from anomalib.deploy.export import CompressionType
from anomalib.metrics import F1Score
from torch.utils.data import DataLoader, Subset
from torchmetrics import Metric

from anomalib_cxr.errors import SettingError

from .openvino_precision import CONVOLUTIONS, share_transposed

GREAT = 1 << 17
"""Values from which on a matrix is stored in 8 bits; the matrices of resizing and smoothing are smaller."""
MOST_IMAGES = 300
"""Images that a model is calibrated with at most, as many as NNCF asks for."""


def quantize(
    network: openvino.Model,
    compression: CompressionType,
    datamodule: AnomalibDataModule | None = None,
    metric: Metric | str | None = None,
    max_drop: float = 0.01,
) -> openvino.Model:
    """Make an OpenVINO model compute in 8-bit integers, or only store its weights so.

    Args:
        network: As it was converted, in float32.
        compression: `INT8` for the weights alone; `INT8_PTQ` for weights and activations, with ranges that the
            validation images show; `INT8_ACQ` for the same, except what costs more accuracy than allowed.
        datamodule: Whose validation images calibrate, and measure the accuracy; `INT8` needs none.
        metric: One of `anomalib.metrics`, for `INT8_ACQ`; None for the F1 of the labels, as in anomalib.
        max_drop: By how much it may fall.

    Raises:
        SettingError: If there are no images to calibrate with, or no labels or no metric to measure the accuracy by.
    """
    share_transposed(network)  # or NNCF would store twice what is multiplied from the left and from the right
    ignored = _ignored(network)
    # Activations symmetric: with a zero point OpenVINO would leave transposed convolutions in float32.
    settings: dict[str, Any] = {"preset": nncf.QuantizationPreset.PERFORMANCE, "ignored_scope": ignored}
    if compression == CompressionType.INT8_PTQ:
        images = nncf.Dataset(_calibrating(datamodule, compression), _image_of)
        network = nncf.quantize(network, images, subset_size=MOST_IMAGES, **settings)
    elif compression == CompressionType.INT8_ACQ:
        loader = _calibrating(datamodule, compression)
        accuracy = _Accuracy(_checked(metric))
        _check_labels(loader)
        network = nncf.quantize_with_accuracy_control(
            network,
            nncf.Dataset(loader, _image_of),
            nncf.Dataset(loader),
            accuracy,
            max_drop=max_drop,
            subset_size=MOST_IMAGES,
            **settings,
        )
    return _with_small_weights(network)


def _ignored(network: openvino.Model) -> nncf.IgnoredScope:
    """Return all operations but the convolutions that may be quantized."""
    names = [
        convolution.get_friendly_name()
        for convolution in _of_type(network, CONVOLUTIONS)
        if _ends_in_a_point(convolution)
    ]
    types = {operation.get_type_name() for operation in network.get_ordered_ops()} - CONVOLUTIONS
    return nncf.IgnoredScope(types=sorted(types), names=names, validate=False)


def _ends_in_a_point(convolution: openvino.Node) -> bool:
    """Tell whether a convolution takes the whole map into one pixel, as the last one before a code does.

    OpenVINO 2026.4 computes such a one wrongly in integers on a CPU, if the number of images is open.
    """
    sides = list(convolution.output(0).get_partial_shape())[2:]
    return all(side.is_static and side.get_length() == 1 for side in sides)


def _with_small_weights(network: openvino.Model) -> openvino.Model:
    """Store the weights of convolutions and great matrices in 8 bits, where they are not yet."""
    small = [
        product.get_friendly_name()
        for product in _of_type(network, {"MatMul"})
        if max(map(_constant_values, product.input_values())) < GREAT
    ]
    ignored = nncf.IgnoredScope(names=small, validate=False)
    return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)


def _constant_values(side: openvino.Output) -> int:
    """Return how many values a side of a product has that is constant, else 0."""
    return math.prod(side.get_shape()) if side.get_node().get_type_name() == "Constant" else 0


def _of_type(network: openvino.Model, types: Collection[str]) -> list[openvino.Node]:
    return [operation for operation in network.get_ordered_ops() if operation.get_type_name() in types]


def _calibrating(datamodule: AnomalibDataModule | None, compression: CompressionType) -> DataLoader[Any]:
    """Return validation images one by one, spread over all of them where they are many.

    Raises:
        SettingError: If there are none.
    """
    if datamodule is not None:
        datamodule.prepare_data()
        datamodule.setup("fit")
        dataset = datamodule.val_dataloader().dataset
        if count := len(dataset):
            chosen = np.linspace(0, count - 1, min(count, MOST_IMAGES)).round().astype(int).tolist()
            return DataLoader(Subset(dataset, chosen), collate_fn=dataset.collate_fn)
    raise SettingError(
        f"compression_type = {compression.value} and no {'data' if datamodule is None else 'validation images'}",
        "validation images, which show the ranges of activations",
        "give the configuration of the data that the model was trained with: --config configs/data/NAME.yaml",
    )


def _image_of(batch: Any) -> np.ndarray:
    image: np.ndarray = batch.image.numpy()
    return image


def _checked(metric: Metric | str | None) -> Metric:
    if metric is None:
        return F1Score(fields=["pred_label", "gt_label"])
    if isinstance(metric, Metric) and hasattr(metric, "fields"):
        return metric
    raise SettingError(
        f"metric = {metric!r}",
        "a metric of anomalib.metrics and the fields that it compares",
        'give --metric.class_path anomalib.metrics.AUROC --metric.init_args.fields "[pred_score, gt_label]"',
    )


def _check_labels(loader: Iterable[Any]) -> None:
    """Refuse validation images that are all alike.

    Raises:
        SettingError: If they are not of two kinds.
    """
    labels = [None if batch.gt_label is None else bool(batch.gt_label) for batch in loader]
    if {True, False} - set(labels):
        kinds = (f"{labels.count(kind)} {name}" for kind, name in ((False, "normal"), (True, "abnormal")))
        raise SettingError(
            f"compression_type = {CompressionType.INT8_ACQ.value} and {' and '.join(kinds)} validation images",
            "both kinds, labeled, by which accuracy can be measured",
            f"give data with both, or export with --compression_type {CompressionType.INT8_PTQ.name}",
        )


class _Scored(NamedTuple):
    """What the model says of an image, and what it is."""

    pred_score: torch.Tensor
    pred_label: torch.Tensor
    gt_label: torch.Tensor


class _Accuracy:
    """Measures the accuracy of a model, as NNCF asks for it.

    Args:
        metric: That it is measured by.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def __call__(self, model: openvino.CompiledModel, images: Iterable[Any]) -> tuple[float, list[list[np.ndarray]]]:
        """Return the metric, and each image's score, by whose change NNCF ranks what to leave in float32."""
        scored = list(_score(model, images))
        # Metrics of scores and labels do not look at the image.
        batch = ImageBatch(torch.zeros(len(scored), 3, 1, 1), **_joined(scored))
        self.metric.reset()
        self.metric.update(batch)
        return float(self.metric.compute()), [[each.pred_score.numpy()] for each in scored]


def _joined(scored: Sequence[_Scored]) -> dict[str, Any]:
    return {name: torch.cat([getattr(each, name) for each in scored]) for name in _Scored._fields}


def _score(model: openvino.CompiledModel, images: Iterable[Any]) -> Iterator[_Scored]:
    for batch in images:
        found = model(_image_of(batch))
        score, label = (torch.from_numpy(found[name]).reshape(-1) for name in ("pred_score", "pred_label"))
        yield _Scored(score, label.bool(), batch.gt_label.reshape(-1).bool())
