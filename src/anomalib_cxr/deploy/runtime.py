"""Inference with exported OpenVINO models, their hash, and the threshold of their label.

The code of the model's class is not needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openvino
from openvino import opset13 as op

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.data.reading.file_hashes import KnownImages
from anomalib_cxr.errors import ScreeningError

from .inference import ThreadedNetwork
from .model_bytes import ModelBytes
from .openvino_graph import (
    RAW_SCORE,
    TRAINING_IMAGES,
    WHITE,
    find_segmenter,
    map_side,
    name_raw_score,
    reduces_to,
    replace_graph,
    unmarked_types,
)

GRAPH = "model.xml"
"""Name of the graph in the folder of an exported model."""
_OUTPUTS = ("pred_score", "pred_label", "anomaly_map")
_THRESHOLD, _LUNGS = "rule_out_threshold", "probability_of_lung"


class Scores(NamedTuple):
    """Outputs of an exported model for a batch."""

    score: np.ndarray
    """Anomaly score, `(B,)`, float32 in [0, 1]; NaN where the raw score is."""
    raw_score: np.ndarray
    """The same before it is clamped to [0, 1], `(B,)`, float32: images of one score still differ in it."""
    label: np.ndarray
    """True at or above the threshold, `(B,)`, bool."""
    heat: np.ndarray
    """Anomaly map, `(B, S, S)`, float32 in [0, 1]."""
    lungs: np.ndarray | None = None
    """Probability of lung by the segmenter of the model, `(B, S, S)`, float32; None without one."""

    def of_image(self, number: int) -> Scores:
        """Return the outputs for one image of the batch."""
        return Scores._make(None if part is None else part[number] for part in self)


class ExportedModel:
    """Model exported by `anomalib export --export_type openvino`, computed in float32 on every processor.

    Args:
        folder: Folder of `model.xml`, or this file.
        device: OpenVINO device.

    Attributes:
        sha256: Hash of the bytes that were loaded, as of :func:`hash_of_model`.
        side: Longer side of the anomaly map in pixels, to which the model resizes X-rays; None where it follows them.
        reduces: Whether it begins by reducing X-rays as
            :func:`~anomalib_cxr.data.reading.downsampling.downsample` does, so that this can be done before.
        segmenter_weights: Hash of the weights of the lung segmenter in it, as of
            :func:`anomalib_cxr.deploy.openvino_graph.find_segmenter`; empty without one.

    Raises:
        ScreeningError: If there is no such model, it cannot be loaded, or it lacks an output.
    """

    def __init__(self, folder: Path | str, device: str = "CPU") -> None:
        self.graph = graph_of(folder)
        try:
            content = ModelBytes.read(self.graph)
            self.sha256 = content.sha256
            network = content.load()
            _refuse_missing_outputs(self.graph, network)
            self.side = map_side(network)
            name_raw_score(network)  # for models that anomalib alone exported, too
            network.add_outputs(RAW_SCORE)
            names = [*_OUTPUTS, RAW_SCORE]
            self.segmenter_weights = ""
            if self.side is not None and (found := find_segmenter(network, self.side)):
                lungs, self.segmenter_weights = found
                lungs.get_tensor().add_names({_LUNGS})
                network.add_outputs(_LUNGS)
                names.append(_LUNGS)
            self.reduces = self.side is not None and reduces_to(network, self.side)
            if self.reduces:
                network.reshape([-1, 3, self.side, self.side])
            numbers = {name: number for number, output in enumerate(network.outputs) for name in output.get_names()}
            numbers.setdefault(RAW_SCORE, numbers["pred_score"])  # one tensor, where nothing is clamped
            self._network = ThreadedNetwork(network, device, [numbers[name] for name in names])
        except (RuntimeError, OSError) as error:
            raise ScreeningError(
                f"{self.graph} on {device}: {str(error).strip()[:500]}",
                f"a model that OpenVINO can load, on one of {', '.join(openvino.Core().available_devices)}",
                "export the model anew, or choose another --device",
            ) from error

    def _reduce(self, images: np.ndarray) -> np.ndarray:
        """Reduce X-rays, `(B, 1, H, W)`, to the size at which the model looks at them, where that changes no score."""
        if not self.reduces or self.side is None or images.shape[-2:] == (self.side, self.side):
            return images
        size = (self.side, self.side)
        return np.stack([downsample(image, size) for image in images[:, 0]])[:, None]

    def __call__(self, images: np.ndarray) -> Scores:
        """Score X-rays; threads may do so at the same time.

        Args:
            images: X-rays in [0, 1], `(B, 1, H, W)`, float32, reduced or not.

        Returns:
            Scores, labels and maps.
        """
        score, label, heat, raw_score, *lungs = self._network(np.repeat(self._reduce(images), 3, axis=1))
        raw_score = raw_score.reshape(-1)
        return Scores(
            score=np.where(np.isnan(raw_score), raw_score, score.reshape(-1)),  # a clamp may make a number of NaN
            raw_score=raw_score,
            label=label.reshape(-1).astype(bool),
            heat=heat.reshape(len(images), *heat.shape[-2:]),
            lungs=lungs[0][:, 0] if lungs else None,
        )


def _refuse_missing_outputs(graph: Path, network: openvino.Model) -> None:
    names = {name for output in network.outputs for name in output.get_names()}
    missing = [name for name in _OUTPUTS if name not in names]
    if missing:
        raise ScreeningError(
            f"{graph} without {', '.join(missing)}",
            f"an image model with the outputs {', '.join(_OUTPUTS)}, whose validation set a threshold on scores",
            "train it with thresholds and normalization on, as anomalib does by default, and export it anew",
        )


def graph_of(folder: Path | str) -> Path:
    """Return the `model.xml` of an exported model.

    Args:
        folder: Folder of the model, or the file itself.

    Returns:
        Path of the graph.

    Raises:
        ScreeningError: If the file or its weights are missing.
    """
    graph = Path(folder) if Path(folder).suffix == ".xml" else Path(folder) / GRAPH
    missing = [file for file in (graph, graph.with_suffix(".bin")) if not file.is_file()]
    if missing:
        raise ScreeningError(
            f"no {' and no '.join(map(str, missing))}",
            "the two files of a model exported to OpenVINO",
            "run `anomalib export --export_type openvino`, and give the folder that it wrote",
        )
    return graph


def hash_of(files: Iterable[Path]) -> str:
    """Compute the SHA-256 of the concatenated files.

    Args:
        files: Files in order.

    Returns:
        Hexadecimal digest.
    """
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def hash_of_model(graph: Path) -> str:
    """Compute the SHA-256 of an exported model's graph and weights.

    Args:
        graph: Its `model.xml`.

    Returns:
        Hexadecimal digest.
    """
    return hash_of((graph, graph.with_suffix(".bin")))


def write_threshold(graph: Path, threshold: float) -> None:
    """Set the threshold of an exported model's label, in place: True at or above it.

    Args:
        graph: Its `model.xml`.
        threshold: Threshold of the score, in [0, 1].
    """
    network = openvino.Core().read_model(graph)
    limit = op.constant(np.float32(threshold))
    limit.set_friendly_name(_THRESHOLD)
    label = network.output("pred_label")
    former = label.get_node().input_value(0)
    new = op.greater_equal(network.output("pred_score").get_node().input_value(0), limit)
    new.set_friendly_name("pred_label_by_threshold")
    former.get_tensor().set_names(set())
    label.get_node().input(0).replace_source_output(new.output(0))
    new.output(0).get_tensor().set_names({"pred_label"})
    network.validate_nodes_and_infer_types()
    replace_graph(network, graph, unmarked_types(graph))


def read_threshold(graph: Path) -> float | None:
    """Return the threshold written by :func:`write_threshold`.

    Args:
        graph: The `model.xml`.

    Returns:
        The threshold; None if there is none.
    """
    for node in openvino.Core().read_model(graph).get_ops():
        if node.get_friendly_name() == _THRESHOLD:
            return float(node.data.reshape(-1)[0])
    return None


def read_white(graph: Path) -> int | None:
    """Return the white of 16-bit images in the training of an exported model.

    Args:
        graph: The `model.xml`.

    Returns:
        The white; None for the reader's default.
    """
    network = openvino.Core().read_model(graph)
    return int(network.get_rt_info(WHITE).value) if network.has_rt_info(WHITE) else None


def read_training_images(graph: Path) -> KnownImages:
    """Return the images that an exported model was trained on.

    Args:
        graph: The `model.xml`.

    Returns:
        The images by the content of their files; an empty set where they are not known.
    """
    network = openvino.Core().read_model(graph)
    known = network.has_rt_info(TRAINING_IMAGES)
    return KnownImages.parse(network.get_rt_info(TRAINING_IMAGES).value) if known else KnownImages()
