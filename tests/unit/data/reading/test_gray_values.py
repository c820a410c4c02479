"""True gray values: with the window of the file they are what is scored; oracle: pydicom's own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from tests.unit.screening.worklist.test_deidentified_dicom import saved, xray

from anomalib_cxr.data.reading.gray_values import read_gray_values
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError


def windowed(values, window):
    """Gray by the equations of PS3.3 C.11.2."""
    real = values * window.slope + window.intercept
    if window.function == "SIGMOID":
        gray = 1 / (1 + np.exp(-4 * (real - window.center) / window.width))
    else:
        middle, span = (
            (window.center, window.width)
            if window.function == "LINEAR_EXACT"
            else (window.center - 0.5, window.width - 1)
        )
        gray = np.clip((real - middle) / span + 0.5, 0, 1)
    return 1 - gray if window.inverted else gray


def table(entries, keyword, dataset):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), 0, 12])
    item.add_new("LUTData", "US", entries)
    setattr(dataset, keyword, [item])


def drop(dataset, *keywords):
    for keyword in keywords:
        delattr(dataset, keyword)


def without_window(dataset):
    drop(dataset, "WindowCenter", "WindowWidth")


def negative_slope(dataset):
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PhotometricInterpretation = -1, 4095, "MONOCHROME2"
    dataset.VOILUTFunction = "LINEAR"


def voi_table(dataset):
    drop(dataset, "RescaleSlope", "RescaleIntercept")
    without_window(dataset)
    table((np.arange(4096)[::-1] // 2).tolist(), "VOILUTSequence", dataset)


def modality_table(dataset):
    drop(dataset, "RescaleSlope", "RescaleIntercept")
    dataset.VOILUTFunction = "LINEAR_EXACT"
    table((np.arange(4096) ** 2 // 4096).tolist(), "ModalityLUTSequence", dataset)


CHANGES = {
    "sigmoid": (lambda dataset: None, False),
    "sigmoid, signed": (lambda dataset: None, True),
    "whole": (without_window, False),
    "whole, signed": (without_window, True),
    "negative slope": (negative_slope, False),
    "negative slope, signed": (negative_slope, True),
    "VOI table": (voi_table, False),
    "modality table": (modality_table, False),
}


@pytest.mark.parametrize(("change", "signed"), CHANGES.values(), ids=CHANGES)
def test_with_the_window_of_the_file_they_are_what_is_scored(tmp_path, change, signed):
    dataset = xray(signed)
    change(dataset)
    path = saved(dataset, tmp_path)
    values, window = read_gray_values(path)
    assert values.dtype == np.uint16
    np.testing.assert_allclose(windowed(values, window), read_radiograph(path)[0].numpy(), atol=2e-6)


def test_values_and_window_are_those_of_pydicom(tmp_path):
    dataset = xray()
    path = saved(dataset, tmp_path)
    values, window = read_gray_values(path)
    real = apply_modality_lut(dataset.pixel_array, dataset)
    assert np.array_equal(values * window.slope + window.intercept, real)
    assert (window.center, window.width, window.function, window.inverted) == (3000, 2500, "SIGMOID", True)
    voi = apply_voi_lut(real, dataset)  # in the output range that pydicom takes: that of the rescaled bits
    low, high = -100, 4095 * 2 - 100
    np.testing.assert_allclose(1 - windowed(values, window), (voi - low) / (high - low), atol=1e-6)


def test_what_the_window_cuts_off_is_still_there(tmp_path):
    dataset = xray()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 1000, 10, "LINEAR"
    path = saved(dataset, tmp_path)
    assert len(np.unique(read_radiograph(path))) < 8
    assert len(np.unique(read_gray_values(path).values)) > 1000


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_darkest(tmp_path, photometric):
    dataset = xray()
    dataset.PhotometricInterpretation = photometric
    dataset.PixelPaddingValue = 1700
    stored = dataset.pixel_array.copy()
    stored[:, :5] = 1700
    dataset.PixelData = stored.tobytes()
    values, window = read_gray_values(saved(dataset, tmp_path))
    gray = windowed(values, window)
    assert np.allclose(gray[:, :5], windowed(np.arange(4096), window).min())


@pytest.mark.parametrize(
    ("array", "white", "slope"),
    [
        (np.arange(1024, dtype=np.uint8).reshape(32, 32), 255, 1),
        (np.arange(1024, dtype=np.uint16).reshape(32, 32) * 4, 4095, 1),
        (np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32), 1, 1 / 65535),
    ],
)
def test_pictures(tmp_path, array, white, slope):
    path = tmp_path / f"chest.{'tif' if array.dtype == np.float32 else 'png'}"
    Image.fromarray(array).save(path)
    values, window = read_gray_values(path, 4095 if array.dtype == np.uint16 else None)
    assert window == (pytest.approx(slope), 0, "LINEAR_EXACT", white / 2, white, False)
    np.testing.assert_allclose(values * window.slope, array, atol=1e-5)


@pytest.mark.parametrize(
    ("keyword", "value"), [("ViewPosition", "LL"), ("BodyPartExamined", "HAND"), ("Modality", "CT")]
)
def test_what_is_refused_for_its_header_is_not_shown_either(tmp_path, keyword, value):
    dataset = xray()
    setattr(dataset, keyword, value)
    path = saved(dataset, tmp_path)
    with pytest.raises(RadiographError, match=keyword) as shown:
        read_gray_values(path)
    with pytest.raises(RadiographError) as read:
        read_radiograph(path)
    assert str(shown.value) == str(read.value)
