"""Edits of exported OpenVINO graphs: precision marks, matrices that are stored once, and the unclamped score.

On processors with bfloat16 instructions OpenVINO computes in bfloat16 by default, which changes scores from one machine
to the next and moves positions in an image by whole pixels. The runtime of this package asks for float32
(:mod:`anomalib_cxr.deploy.runtime`). For loaders that do not, each operation is marked with OpenVINO's own attribute
against lower precision: scores are then off by a few hundredths of their range, since operations that OpenVINO fuses
on loading lose the mark. Without the marks `LungAtlas` hardly detects in such a loader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # reads only files that were written here

import numpy as np
import openvino
from openvino import opset13 as op

from anomalib_cxr.data.reading.downsampling import downsample

if TYPE_CHECKING:  # screening imports this module, and need not wait for anomalib
    from .export import TrainingFacts

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData"})
"""Operations that tolerate less than float32, in models that are to be small or fast."""
WHITE = ["anomalib_cxr", "sixteen_bit_white"]
"""Place of the white of 16-bit images in the model's own information (`rt_info`)."""
TRAINING_IMAGES = ["anomalib_cxr", "training_images"]
"""Place of the hashes of the training images there."""
SEGMENTER = ["anomalib_cxr", "segmenter"]
"""Place of the hash of the weights of its lung segmenter there, before they were compressed."""
RAW_SCORE = "raw_score"
"""Name of the tensor of a graph with the score before it is clamped to [0, 1]."""
_MARK = {"name": "precise", "version": "0"}


def mark_precise(model: Path, exempt: Collection[str] = ()) -> None:
    """Mark the operations of an OpenVINO model, in place, against computation in less than float32.

    Args:
        model: Its `.xml` file.
        exempt: Types of operations that get no mark.
    """
    tree = ET.parse(model)  # noqa: S314  # see the import
    for layer in tree.getroot().iter("layer"):
        if layer.get("type") in exempt or _is_marked(layer):
            continue
        attributes = layer.find("rt_info")
        if attributes is None:
            attributes = ET.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, attributes)
        ET.SubElement(attributes, "attribute", _MARK)
    tree.write(model)


def unmarked_types(model: Path) -> set[str]:
    """Return the types of operations that are not marked by :func:`mark_precise`.

    Args:
        model: The `.xml` file.
    """
    layers = ET.parse(model).getroot().iter("layer")  # noqa: S314  # see the import
    return {layer.get("type", "") for layer in layers if not _is_marked(layer)}


def _is_marked(layer: ET.Element) -> bool:
    return any(attribute.get("name") == _MARK["name"] for attribute in layer.iterfind("rt_info/attribute"))


def finalize_graph(model: Path, *, half_weights: bool = False, facts: TrainingFacts | None = None) -> None:
    """Share matrices, mark operations, name the raw score, note segmenter and facts of the training, in place.

    Args:
        model: Its `.xml` file; the weights lie beside it.
        half_weights: Whether to store weights in half precision, and to leave the precision of convolutions open.
        facts: Facts of the training; None for none.
    """
    network = openvino.Core().read_model(model)
    share_transposed(network)
    name_raw_score(network)
    note_segmenter(network)
    if facts and facts.sixteen_bit_white is not None:
        network.set_rt_info(str(facts.sixteen_bit_white), WHITE)
    if facts and facts.training_images:
        network.set_rt_info(facts.training_images, TRAINING_IMAGES)
    replace_graph(network, model, () if not half_weights else CONVOLUTIONS, half_weights=half_weights)


def replace_graph(
    network: openvino.Model, model: Path, exempt: Collection[str] = (), *, half_weights: bool = False
) -> None:
    """Replace the files of an OpenVINO model; they remain unchanged if this fails.

    Args:
        network: The new model.
        model: The `.xml` file; the weights lie beside it.
        exempt: Types of operations that get no mark, see :func:`mark_precise`.
        half_weights: Whether to store weights in half precision.
    """
    with TemporaryDirectory(dir=model.parent) as folder:
        written = Path(folder) / model.name
        openvino.save_model(network, written, compress_to_fp16=half_weights)
        mark_precise(written, exempt)
        # The graph comes last: a graph beside former weights would not be noticed.
        written.with_suffix(".bin").replace(model.with_suffix(".bin"))
        written.replace(model)


def name_raw_score(network: openvino.Model) -> None:
    """Name the tensor with the normalized score before it is clamped to [0, 1] :data:`RAW_SCORE`.

    anomalib normalizes scores by the lowest and the highest score of the validation images, and clamps the result: all
    images above the highest one score 1. It is a name and no output, because anomalib's `OpenVINOInferencer` takes no
    further outputs; :meth:`openvino.Model.add_outputs` makes it one.

    Args:
        network: A model, changed in place; one without the output `pred_score` stays as it is. Of a model without
            normalization the raw score is the score.
    """
    if not any("pred_score" in output.get_names() for output in network.outputs):
        return
    tensor = network.output("pred_score").get_node().input_value(0)
    while tensor.get_node().get_type_name() == "Select":  # by facts of the validation, such as whether there was one
        condition, *choices = tensor.get_node().input_values()
        if condition.get_node().get_type_name() != "Constant":
            break
        tensor = choices[0] if condition.get_node().data.all() else choices[1]
    if tensor.get_node().get_type_name() == "Clamp":
        tensor = tensor.get_node().input_value(0)
    tensor.get_tensor().add_names({RAW_SCORE})


def share_transposed(network: openvino.Model) -> None:
    """Let products by a matrix and by its transpose use one copy of it, where OpenVINO has stored two.

    Args:
        network: The model, changed in place.
    """
    known: dict[tuple[tuple[int, ...], bytes], openvino.Node] = {}
    for product in network.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        operands, transposed = product.input_values(), list(product.get_attributes().values())
        for number, operand in enumerate(operands):
            matrix = operand.get_node()
            if matrix.get_type_name() != "Constant" or matrix.data.ndim != 2:  # noqa: PLR2004  # rows and columns
                continue
            shared = known.get((matrix.data.T.shape, matrix.data.T.tobytes()))
            if shared is None:
                known[matrix.data.shape, matrix.data.tobytes()] = matrix
                continue
            operands[number], transposed[number] = shared.output(0), not transposed[number]
            replacement = op.matmul(*operands, *transposed)
            replacement.set_friendly_name(product.get_friendly_name())
            for reader in list(product.output(0).get_target_inputs()):
                reader.replace_source_output(replacement.output(0))
            break


def reduces_to(network: openvino.Model, side: int) -> bool:
    """Tell whether a graph begins by reducing X-rays to a square.

    Where it does so as :func:`~anomalib_cxr.data.reading.downsampling.downsample` does, it computes the same for X-rays
    that were reduced before.

    Args:
        network: A model with one input, X-rays in [0, 1] of any size and three equal channels.
        side: Side of the square in pixels.

    Returns:
        True where the input is read once, and first becomes the reduced X-ray in [-1, 1]: tried on a random image.
    """
    node, shape = network.input(0).get_node(), network.input(0).get_partial_shape()
    while not all(length.is_static and length.get_length() == side for length in list(shape)[-2:]):
        readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
        readers = [reader for reader in readers if reader.get_type_name() != "ShapeOf"]
        if len(readers) != 1:
            return False
        (node,) = readers
        shape = node.output(0).get_partial_shape()
    image = np.random.default_rng(0).random((side + 13, 2 * side + 7), np.float32)
    reduced = openvino.Tensor(np.empty((1, 1, side, side), np.float32))
    beginning = openvino.Model([node.output(0)], network.get_parameters())
    try:
        beginning.evaluate([reduced], [openvino.Tensor(np.repeat(image[None, None], 3, axis=1))])
    except RuntimeError:  # operations that OpenVINO computes on devices only: none of a reduction
        return False
    return bool(np.allclose(reduced.data[0, 0], 2 * downsample(image, (side, side)) - 1, atol=1e-4))


def map_side(network: openvino.Model) -> int | None:
    """Return the longer side of a model's anomaly map in pixels; None where it follows the X-rays."""
    height, width = list(network.output("anomaly_map").get_partial_shape())[-2:]
    return max(height.get_length(), width.get_length()) if height.is_static and width.is_static else None


def note_segmenter(network: openvino.Model) -> None:
    """Note the weights of the lung segmenter in a model, by which :func:`find_segmenter` knows them when compressed.

    Args:
        network: A model, changed in place where it has an anomaly map of a fixed size, and a segmenter.
    """
    has_map = any("anomaly_map" in output.get_names() for output in network.outputs)
    side = map_side(network) if has_map else None
    if side is not None and (found := find_segmenter(network, side)):
        network.set_rt_info(found[1], SEGMENTER)


def find_segmenter(network: openvino.Model, side: int) -> tuple[openvino.Output, str] | None:
    """Find the lung segmenter in a graph.

    Args:
        network: A model.
        side: Side in pixels of the segmenter's probability of lung, `(B, 1, side, side)`.

    Returns:
        The probability, and the SHA-256 of the weights of all convolutions that it depends on, or what
        :func:`note_segmenter` noted of them; None without one.
    """
    operations = network.get_ordered_ops()
    for found in operations:
        shape = list(found.output(0).get_partial_shape()) if found.get_type_name() == "Sigmoid" else []
        if [length.get_length() if length.is_static else -1 for length in shape[1:]] != [1, side, side]:
            continue
        if network.has_rt_info(SEGMENTER):
            return found.output(0), network.get_rt_info(SEGMENTER).value
        needed, waiting = set(), [found]
        while waiting:
            node = waiting.pop()
            if node.get_friendly_name() not in needed:
                needed.add(node.get_friendly_name())
                waiting += [value.get_node() for value in node.input_values()]
        digest = hashlib.sha256()
        for node in operations:
            if node.get_type_name() in CONVOLUTIONS and node.get_friendly_name() in needed:
                weights = node.input_value(1).get_node()
                digest.update(weights.data.tobytes() if weights.get_type_name() == "Constant" else b"computed")
        return found.output(0), digest.hexdigest()
    return None
