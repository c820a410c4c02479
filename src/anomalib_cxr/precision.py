"""OpenVINO's own mark against a change of precision, in a model's file; OpenVINO drops it when it writes one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from xml.etree import ElementTree as ET  # reads only files that were written here

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
