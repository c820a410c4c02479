"""Window and level in a real browser, on the true values: pixels of the canvas against pydicom's and NumPy's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from tests.unit.screening.worklist.test_deidentified_dicom import saved, xray

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.app import create_app

from .browser import CHROMIUM, Seen, launched, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
SIDES = 48, 40


def dicom(folder, name, function, photometric, center=3000, width=2500):
    dataset = xray()
    dataset.PhotometricInterpretation, dataset.VOILUTFunction = photometric, function
    dataset.WindowCenter, dataset.WindowWidth = center, width
    return dataset, saved(dataset, folder, name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """DICOM files of 12 bits whose window shows a part of the values, and a PNG of 16 bits with steep filters."""
    folder = tmp_path_factory.mktemp("gray")
    found = {}
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            name = f"{function}-{photometric}.dcm"
            found[name] = dicom(folder, name, function, photometric)
    rows, columns = np.indices(SIDES)
    ramp = (rows * 1300 + columns * 97 + (rows * columns) % 7).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "ramp.png")
    found["ramp.png"] = ramp, folder / "ramp.png"
    return found


@pytest.fixture(scope="module")
def worklist(files, tmp_path_factory):
    worklist = Worklist(tmp_path_factory.mktemp("gray") / "out", create=True)
    for _, path in files.values():
        content = read_content(path)
        known = {"decision": Decision.TO_READ, "score": 0.5, "threshold": 0.1, "height": 48, "width": 40}
        case = Case(str(path), **fingerprint_of(content)._asdict(), content=content.sha256, **known)
        worklist.add([case])
    return worklist


@pytest.fixture(scope="module")
def page(worklist):
    with serving(create_app(worklist)) as address, launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(30_000)
        page.address, page.seen = address, Seen(page)
        yield page


def open_case(page, worklist, path):
    page.goto(f"{page.address}/case/{worklist.number_of(path)}?decision=all", wait_until="networkidle")


def canvas(page, level, width, inverted=False):
    """Set the sliders, and return the pixels of the canvas, (H, W), after it was drawn."""
    set_them = """([level, width, inverted]) => {
        document.getElementById("level").value = level;
        document.getElementById("window").value = width;
        document.getElementById("invert").checked = inverted;
        document.getElementById("level").dispatchEvent(new Event("input"));
    }"""
    page.evaluate(set_them, [level, width, inverted])
    page.locator("#values").wait_for(state="visible")
    read = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
        const canvas = document.getElementById("values");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        done([canvas.width, canvas.height, ...data.filter((_, i) => i % 4 === 0)]);
    })))"""
    columns, rows, *gray = page.evaluate(read)
    return np.array(gray, float).reshape(rows, columns)


def by_pydicom(dataset, level, width, inverted):
    """Gray in [0, 255] by pydicom's window on the rescaled values, with center and width that the sliders mean."""
    real = apply_modality_lut(dataset.pixel_array, dataset)
    window = Dataset()
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    window.WindowCenter = dataset.WindowCenter + (level / 100 - 0.5) * dataset.WindowWidth
    window.WindowWidth = dataset.WindowWidth * width / 100
    window.VOILUTFunction = dataset.VOILUTFunction
    gray = apply_windowing(real, window)
    is_white_least = (dataset.PhotometricInterpretation == "MONOCHROME1") != inverted
    return 255 - gray if is_white_least else gray


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_pixels_are_those_of_pydicom(page, worklist, files, function, photometric):
    dataset, path = files[f"{function}-{photometric}.dcm"]
    open_case(page, worklist, path)
    for level, width, inverted in [(50, 40, False), (-60, 20, False), (170, 30, True), (50, 400, False), (80, 5, True)]:
        drawn = canvas(page, level, width, inverted)
        assert drawn.shape == SIDES
        assert np.abs(drawn - by_pydicom(dataset, level, width, inverted)).max() <= 0.51  # rounded
        assert len(np.unique(drawn)) > 8


def test_a_picture_of_16_bits(page, worklist, files):
    ramp, path = files["ramp.png"]
    open_case(page, worklist, path)
    for level, width in [(30, 3), (50, 10), (80, 300)]:
        center, span = level / 100 * 65535, width / 100 * 65535
        expected = 255 * np.clip((ramp - center) / span + 0.5, 0, 1)
        assert np.abs(canvas(page, level, width) - expected).max() <= 0.51
    gray = canvas(page, 30, 1)
    inside = (gray > 0) & (gray < 255)
    assert len(np.unique(ramp[inside])) > len(np.unique(np.rint(ramp[inside] / 257)))  # 8 bits would show few steps
    assert len(np.unique(gray[inside])) > 3 * len(np.unique(np.rint(ramp[inside] / 257)))


def test_readout_reset_and_no_complaint(page, worklist, files, tmp_path):
    shots = Path(os.environ.get("PAGE_PICTURES") or tmp_path)
    _, path = files["LINEAR-MONOCHROME2.dcm"]
    open_case(page, worklist, path)
    assert page.locator("#window-values").inner_text() == "C 3000 W 2500"
    assert page.locator("#values").is_hidden()
    canvas(page, 100, 50)
    assert page.locator("#window-values").inner_text() == "C 4250 W 1250"
    page.screenshot(path=shots / "gray.png")
    page.keyboard.press("r")
    page.locator("#values").wait_for(state="hidden")
    assert page.locator("#window-values").inner_text() == "C 3000 W 2500"
    assert page.seen.complaints == []
