"""OpenVINO models that compute in float32 on every processor.

On processors with bfloat16 instructions OpenVINO computes in bfloat16 unless told otherwise, which moves scores from
one machine to the next, and positions in an image by whole pixels. OpenVINO's own runtime attribute on an operation
forbids that, and anomalib's inferencer passes no setting; but operations that OpenVINO rewrites when it loads a model
lose the attribute. So differences, quotients and changes of the number of axes are written here as what it leaves
alone; layers that it rewrites otherwise have twins in :mod:`anomalib_cxr.deploy.openvino_layers`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET  # reads only files that were written here

import numpy as np
import openvino
from openvino import opset13 as op

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData"})
"""Operations that may be computed in less than float32, where a model is to be small or fast."""
_MARK = {"name": "precise", "version": "0"}


def mark_precise(model: Path, but: Collection[str] = ()) -> None:
    """Mark each operation of an OpenVINO model, in place, not to be computed in less than float32.

    Args:
        model: Its `.xml` file.
        but: Types of operations that are left to the machine.
    """
    tree = ET.parse(model)  # noqa: S314  # see the import
    for layer in tree.getroot().iter("layer"):
        if layer.get("type") in but:
            continue
        marks = layer.find("rt_info")
        if marks is None:
            marks = ET.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, marks)
        if all(mark.get("name") != _MARK["name"] for mark in marks):
            ET.SubElement(marks, "attribute", _MARK)
    tree.write(model)


def is_marked_precise(model: Path) -> bool:
    """Tell whether an OpenVINO model has such marks."""
    return any(map(_is_marked, ET.parse(model).getroot().iter("layer")))  # noqa: S314  # see the import


def types_unmarked(model: Path) -> set[str]:
    """Return the types of operations that have no such mark."""
    layers = ET.parse(model).getroot().iter("layer")  # noqa: S314  # see the import
    return {layer.get("type", "") for layer in layers if not _is_marked(layer)}


def _is_marked(layer: ET.Element) -> bool:
    return any(mark.get("name") == _MARK["name"] for mark in layer.iter("attribute"))


def keep_float32(model: Path, *, halved: bool = False) -> None:
    """Rewrite an OpenVINO model of two files, in place, such that each operation is computed in float32.

    Args:
        model: Its `.xml` file.
        halved: Whether to store the weights in half precision, and to leave the convolutions to the machine.
    """
    network = openvino.Core().read_model(model)
    for operation in network.get_ordered_ops():
        form = _FORMS.get(operation.get_type_name())
        if form is not None and operation.output(0).get_element_type() == openvino.Type.f32:
            _replace(operation, form(operation))
    share_transposed(network)
    with TemporaryDirectory(dir=model.parent) as folder:  # the weights are mapped while the network lives
        rewritten = Path(folder) / model.name
        openvino.save_model(network, rewritten, compress_to_fp16=halved)
        del network, operation
        mark_precise(rewritten, CONVOLUTIONS if halved else ())
        for file in sorted(Path(folder).iterdir()):
            file.replace(model.parent / file.name)


def _difference(operation: openvino.Node) -> openvino.Node:
    """Take off half of the right side twice: a product with -1 would be made a difference again."""
    left, right = operation.input_values()
    half = op.multiply(right, _constant(-0.5))
    return op.add(op.add(left, half), half)


def _quotient(operation: openvino.Node) -> openvino.Node:
    """Multiply by the sign and the reciprocal of the magnitude, by way of its logarithm."""
    left, right = operation.input_values()
    reciprocal = op.exp(op.multiply(op.log(op.abs(right)), _constant(-1.0)))
    return op.multiply(left, op.multiply(op.sign(right), reciprocal))


def _reshaped(operation: openvino.Node) -> openvino.Node:
    """Give the shape as a whole, where no more than one side is open, instead of the axes that come or go."""
    shape = [side.get_length() if side.is_static else -1 for side in operation.output(0).get_partial_shape()]
    if shape.count(-1) > 1:
        return operation
    return op.reshape(operation.input_value(0), np.array(shape, dtype=np.int64), special_zero=False)


_FORMS = {"Subtract": _difference, "Divide": _quotient, "Unsqueeze": _reshaped, "Squeeze": _reshaped}


def share_transposed(network: openvino.Model) -> None:
    """Let products by a matrix and by its transpose read one copy of it, where OpenVINO has written two."""
    known: dict[tuple[tuple[int, ...], bytes], openvino.Node] = {}
    for product in network.get_ordered_ops():
        if product.get_type_name() != "MatMul":
            continue
        sides, turned = product.input_values(), list(product.get_attributes().values())
        for number, side in enumerate(sides):
            matrix = side.get_node()
            if matrix.get_type_name() != "Constant" or matrix.data.ndim != 2:  # noqa: PLR2004  # rows and columns
                continue
            twin = known.get((matrix.data.T.shape, matrix.data.T.tobytes()))
            if twin is None:
                known[matrix.data.shape, matrix.data.tobytes()] = matrix
            else:
                sides[number], turned[number] = twin.output(0), not turned[number]
                _replace(product, op.matmul(*sides, *turned))
                break


def _constant(value: float) -> openvino.Node:
    return op.constant(np.float32(value))


def _replace(old: openvino.Node, new: openvino.Node) -> None:
    """Let what read an operation's result read another's."""
    if new is old:
        return
    for reader in list(old.output(0).get_target_inputs()):
        reader.replace_source_output(new.output(0))
    new.set_friendly_name(old.get_friendly_name())
