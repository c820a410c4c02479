"""OpenVINO's own mark against a change of precision, in a model's file; OpenVINO drops it when it writes one."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET  # reads only files that were written here

_MARK = {"name": "precise", "version": "0"}


def mark_precise(model: Path) -> None:
    """Mark each operation of an OpenVINO model, in place, to be computed in the precision that it is stored in.

    Args:
        model: Its `.xml` file.
    """
    tree = ET.parse(model)  # noqa: S314  # see the import
    for layer in tree.getroot().iter("layer"):
        marks = layer.find("rt_info")
        if marks is None:
            marks = ET.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, marks)
        if all(mark.get("name") != _MARK["name"] for mark in marks):
            ET.SubElement(marks, "attribute", _MARK)
    tree.write(model)


def is_marked_precise(model: Path) -> bool:
    """Tell whether an OpenVINO model has such marks."""
    return any(mark.get("name") == _MARK["name"] for mark in ET.parse(model).getroot().iter("attribute"))  # noqa: S314
