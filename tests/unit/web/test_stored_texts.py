"""Sentences that a screening stores: each that the code can make is found again, whatever its values."""

from __future__ import annotations

import ast
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import anomalib_cxr
from anomalib_cxr.screening.calibration.threshold import calibrate_threshold
from anomalib_cxr.screening.monitoring.comparison import refusal_kind
from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist
from anomalib_cxr.screening.monitoring.report import NAMES, describe_result
from anomalib_cxr.screening.pipeline.explanation import describe
from anomalib_cxr.screening.pipeline.frontal_graph import KINDS
from anomalib_cxr.screening.pipeline.input_check import NO_FRONTAL
from anomalib_cxr.web.stored_texts import STORED_TEXTS, translate_stored
from anomalib_cxr.web.translation import translated

PACKAGE = Path(anomalib_cxr.__file__).parent
REASONS = {
    "screening/pipeline/pipeline.py": 4,
    "screening/pipeline/input_check.py": 2,
    "screening/pipeline/image_quality.py": 3,
    "node/screening.py": 1,
}
"""Files with reasons of refusals, and the number of these."""


_REASON = re.compile(
    r"blank$|blurred:|noisy:|squeezed|no two lungs|too small:|never|age 8|not readable as a frontal|cannot be screened"
)


def left(text):
    """What of a text has no message."""
    rest = text
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", "", rest)) != rest:
        rest = shorter
    return re.findall(r"[A-Za-z]{3,}", rest)


def mark(message):
    return f"⟦{message}⟧"


def reasons_of(file):
    """Reasons of refusals in a file, with an 8 for each value."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.JoinedStr | ast.Constant):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "8" for part in parts)
            if _REASON.match(text) and not text.endswith(": "):  # the constant part of a text with values
                yield text


@pytest.mark.parametrize(("file", "number"), REASONS.items())
def test_reasons_of_refusals(file, number):
    found = list(reasons_of(file))
    assert len(found) == number
    assert [left(translate_stored(text, mark)) for text in found] == [[]] * number
    assert left(translate_stored("; ".join(found), mark)) == []


def test_kinds_of_images_that_are_refused():
    for kind in KINDS[1:]:
        assert left(translate_stored(f"{NO_FRONTAL}; most like {kind}", mark)) == []
        assert left(translate_stored(kind, mark)) == []


def test_reasons_as_monitoring_counts_them():
    kinds = {refusal_kind(reason) for file in REASONS for reason in reasons_of(file)}
    assert len(kinds) == 10
    assert [kind for kind in kinds if left(translate_stored(kind, mark))] == []


@pytest.mark.parametrize("p_value", [None, 0.001, 0.03, 1.0])
def test_findings(p_value):
    lungs = np.zeros((12, 12))
    lungs[1:11, [2, 3, 4, 7, 8, 9]] = 1
    for row, column in product((1, 5, 10), (3, 8)):
        heat = np.zeros((12, 12))
        heat[row, column] = 1
        assert left(translate_stored(describe(p_value, heat, lungs), mark)) == []
    assert left(translate_stored(describe(p_value, heat, np.zeros((12, 12))), mark)) == []


@pytest.mark.parametrize("patients", [None, np.arange(80)])
def test_guarantee(patients):
    is_sick, scores = np.arange(80) < 40, np.linspace(1, 0, 80)
    text = calibrate_threshold(is_sick, scores, 0.9, 0.9, "", patients).guarantee
    assert left(translate_stored(text, mark)) == []


@pytest.mark.parametrize("words", [{}, {"gray": -0.08}, {"n": 10}])
def test_sentences_and_names_of_monitoring(fill_worklist, words):
    sentences = describe_result(monitor_worklist(fill_worklist(**words), MonitorSettings(4)))[:-1]
    allowed = {"DICOM", "ACME", "PSI"}
    assert [word for text in sentences for word in left(translate_stored(text, mark)) if word not in allowed] == []
    assert [name for name in NAMES.values() if left(translate_stored(name, mark)) and name != "refused"] == []


def test_in_german():
    text = "12 % of healthy images score as high. Most unusual: right lung, upper zone (left in the image)."
    assert translated(text, "de") == (
        "12 % der gesunden Bilder haben einen so hohen Wert. Am ungewöhnlichsten: rechte Lunge, oberes Drittel "
        "(links im Bild)."
    )
    assert translated(text, "en") == text
    assert translated("too small: 9 x 8 pixels, validated from 64; odd {reason}", "de") == (
        "zu klein: 9 x 8 Pixel, validiert ab 64; odd {reason}"
    )


def test_what_a_file_states_stays():
    for text in ("never validated on this kind of source: {0} %(x)s <b>", "Dr. Ada; a {note}", ""):
        assert translate_stored(text, str) == text
    assert len(set(STORED_TEXTS)) == len(STORED_TEXTS)
