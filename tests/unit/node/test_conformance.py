"""The conformance statement names what the node does."""

from __future__ import annotations

import re
from pathlib import Path

from anomalib_cxr.data.reading.dicom_codecs import decodable_syntaxes
from anomalib_cxr.data.reading.subject import STORAGE_CLASSES
from anomalib_cxr.node.result_objects import STORAGE_CLASSES as RESULT_CLASSES
from anomalib_cxr.screening.worklist import dicom_content

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "conformance.md").read_text(encoding="utf-8")


def uids_of(section):
    """Return the UIDs of a part of the page; one that begins with a point goes on from the last whole one."""
    uids, parent = set(), ""
    for uid in re.findall(r"`(\.?[\d.]+)`", section):
        if uid.startswith("."):
            uids.add(parent + uid)
        else:
            uids.add(uid)
            parent = uid.rpartition(".")[0]
    return uids


def part(begin, end):
    return PAGE.split(begin, 1)[1].split(end, 1)[0]


def test_storage_classes_and_transfer_syntaxes():
    found = uids_of(part("### Storage SCP", "Of the syntaxes"))
    wanted = {str(uid) for uid in (*STORAGE_CLASSES, *decodable_syntaxes())}
    assert wanted - found == {"1.2.840.10008.5.1.4.1.1.7.2", "1.2.840.10008.5.1.4.1.1.7.3"}  # "`.1` to `.4`"
    assert found - wanted == set()


def test_classes_of_results():
    assert uids_of(part("### Storage SCU", "proposed in")) == {str(uid) for uid in RESULT_CLASSES}


def test_private_codes():
    named = set(re.findall(r"`(\w+)`", part("Private ones", "There are no private attributes")))
    used = {
        code.value for code in (*dicom_content._DECISIONS.values(), dicom_content._DECISION, dicom_content._FINDING)
    }
    used |= {code.value for code in dicom_content._MEASUREMENTS.values()}
    assert used == named - {"99ANOMALIBCXR"}
