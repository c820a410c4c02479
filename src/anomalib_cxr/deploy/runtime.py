"""An exported model: its scores, its hash, and the threshold of its label.

Only what anomalib exports to OpenVINO is read here; no model's code is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import openvino
from openvino import opset13 as op

from anomalib_cxr.errors import ScreeningError

from .openvino_precision import is_marked_precise, mark_precise, types_unmarked

GRAPH = "model.xml"
_NEEDED = ("pred_score", "pred_label", "anomaly_map")
_THRESHOLD = "rule_out_threshold"


class Scores(NamedTuple):
    """What the exported model says of a batch."""

    score: np.ndarray
    """`(B,)`, float32 in [0, 1]."""
    label: np.ndarray
    """Whether it is to be read, `(B,)`, bool."""
    heat: np.ndarray
    """`(B, S, S)`, float32 in [0, 1]."""


class ExportedModel:
    """A model that `anomalib export --export_type openvino` wrote.

    Args:
        folder: The folder of `model.xml`, or this file.
        device: OpenVINO's name of the device.

    Raises:
        ScreeningError: If there is no such model, it cannot be loaded, or it lacks an output.
    """

    def __init__(self, folder: Path | str, device: str = "CPU") -> None:
        self.graph = graph_of(folder)
        try:
            network = openvino.Core().read_model(self.graph)
            # Scores are to be the same on each machine: see `anomalib_cxr.deploy.openvino_precision`. One batch at a
            # time is scored, so all cores are for it.
            settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            self._network = openvino.Core().compile_model(network, device, settings)
        except RuntimeError as error:
            raise ScreeningError(
                f"{self.graph} on {device}: {str(error).strip()[:500]}",
                f"a model that OpenVINO can load, on one of {', '.join(openvino.Core().available_devices)}",
                "export the model anew, or choose another --device",
            ) from error
        names = {name for output in self._network.outputs for name in output.get_names()}
        missing = [name for name in _NEEDED if name not in names]
        if missing:
            raise ScreeningError(
                f"{self.graph} without {', '.join(missing)}",
                f"an image model with the outputs {', '.join(_NEEDED)}, whose validation set a threshold on scores",
                "train it with thresholds and normalization on, as anomalib does by default, and export it anew",
            )

    def __call__(self, images: np.ndarray) -> Scores:
        """Score X-rays.

        Args:
            images: In [0, 1], `(B, 1, H, W)`, float32.
        """
        found = self._network(np.repeat(images, 3, axis=1))
        score, label, heat = (found[name] for name in _NEEDED)
        return Scores(score.reshape(-1), label.reshape(-1).astype(bool), heat.reshape(len(images), *heat.shape[-2:]))


def graph_of(folder: Path | str) -> Path:
    """Return the `model.xml` of an exported model.

    Args:
        folder: Its folder, or the file itself.

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
    """Return the SHA-256 of files, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def hash_of_model(graph: Path) -> str:
    """Return the SHA-256 of an exported model's graph and weights."""
    return hash_of((graph, graph.with_suffix(".bin")))


def write_threshold(graph: Path, threshold: float) -> None:
    """Rewrite an exported model, in place, such that its label is whether the score is at or over a threshold.

    Args:
        graph: Its `model.xml`.
        threshold: In [0, 1].
    """
    was_precise, left_open = is_marked_precise(graph), types_unmarked(graph)
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
    with TemporaryDirectory(dir=graph.parent) as folder:  # the weights are mapped while the network lives
        rewritten = Path(folder) / graph.name
        openvino.save_model(network, rewritten, compress_to_fp16=False)
        del network, limit, label, former, new
        if was_precise:
            mark_precise(rewritten, left_open)
        rewritten.with_suffix(".bin").replace(graph.with_suffix(".bin"))
        rewritten.replace(graph)


def read_threshold(graph: Path) -> float | None:
    """Return the threshold that :func:`write_threshold` wrote; None where there is none."""
    for node in openvino.Core().read_model(graph).get_ops():
        if node.get_friendly_name() == _THRESHOLD:
            return float(node.data.reshape(-1)[0])
    return None
