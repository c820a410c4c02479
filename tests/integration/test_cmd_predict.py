"""`anomalib predict` on the same radiograph as 8-bit PNG, 16-bit PNG and DICOM."""

from __future__ import annotations

import logging
import re
import shutil

import numpy as np
import pydicom
import pytest
from anomalib.engine import Engine
from PIL import Image
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from torch.utils.data import DataLoader

from anomalib_cxr import RadiographFolder, RoiSureGanomaly

KINDS = ["8bit/chest.png", "16bit/chest.png", "dicom/chest.dcm"]


def write_dicom(path, pixels):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality, dataset.ViewPosition, dataset.PhotometricInterpretation = "DX", "PA", "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def incoming(tmp_path_factory, telling_images):
    """One radiograph in three kinds of file; gray v of 255 is 257 v of 65535."""
    folder = tmp_path_factory.mktemp("incoming")
    for kind in KINDS:
        (folder / kind).parent.mkdir()
    gray = np.asarray(Image.open(telling_images[0]).convert("L"))
    Image.fromarray(gray).save(folder / KINDS[0])
    deep = gray.astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / KINDS[1])
    write_dicom(folder / KINDS[2], deep)
    return folder


def pictures(folder):
    return sorted(folder.glob("results/RoiSureGanomaly/latest/images/**/*.*"))


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("L"), dtype=float)


def assert_shows_something(picture):
    left = picture[: picture.shape[0], : picture.shape[1] // 4]
    assert left.mean() < 230
    assert left.std() > 10


@pytest.fixture(scope="module")
def predicted(command, trained, incoming, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    words = ["--data", "anomalib_cxr.RadiographFolder", "--data.init_args.path", incoming]
    code, output = command(folder, "anomalib", "predict", *trained.model, *words)
    assert code == 0, output
    return folder, output


def test_command_tells_one_probability_for_three_kinds_of_file(predicted, incoming):
    told = dict(re.findall(r"(/\S+): anomaly probability ([\d.]+)", predicted[1]))
    assert set(told) == {str(incoming / kind) for kind in KINDS}
    (probability,) = set(told.values())
    assert 0.05 < float(probability) < 0.95


def test_three_kinds_of_file_give_one_picture(predicted):
    drawn = pictures(predicted[0])
    assert [path.relative_to(path.parents[1]).as_posix() for path in drawn] == [
        "16bit/chest.png", "8bit/chest.png", "dicom/chest.dcm.png",
    ]  # fmt: skip
    first, *others = map(pixels, drawn)
    assert_shows_something(first)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1)


def test_one_png_by_its_path_alone(in_process, trained, incoming, tmp_path):
    in_process(tmp_path, "predict", *trained.model, "--data", incoming / KINDS[0])
    (picture,) = pictures(tmp_path)
    assert_shows_something(pixels(picture))


def test_three_kinds_of_file_give_one_probability(trained, incoming, tmp_path):
    model = RoiSureGanomaly.load_from_checkpoint(trained.checkpoint, visualizer=False)
    images = RadiographFolder(incoming)
    engine = Engine(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    batches = engine.predict(
        model,
        dataloaders=DataLoader(images, collate_fn=images.collate_fn),
        ckpt_path=trained.checkpoint,
        return_predictions=True,
    )
    probabilities = [float(batch.pred_score) for batch in batches]
    assert len(probabilities) == 3
    assert 0.05 < probabilities[0] < 0.95
    assert probabilities == pytest.approx([probabilities[0]] * 3, rel=1e-4)
    by_path = engine.predict(
        model, data_path=incoming / KINDS[0], ckpt_path=trained.checkpoint, return_predictions=True
    )
    assert float(by_path[0].pred_score) == pytest.approx(probabilities[0], rel=1e-4)


def test_files_left_out_are_listed_after_the_scores(in_process, trained, incoming, tmp_path, caplog):
    study = shutil.copytree(incoming, tmp_path / "study")
    lateral = pydicom.dcmread(study / KINDS[2])
    lateral.ViewPosition = "LL"
    lateral.save_as(study / "lateral.dcm")
    words = ["--data", "anomalib_cxr.RadiographFolder", "--data.init_args.path", study]
    caplog.set_level(logging.INFO)
    in_process(tmp_path, "predict", *trained.model, *words, "--data.init_args.on_error", "skip")
    assert len(pictures(tmp_path)) == 3
    messages = [record.getMessage() for record in caplog.records]
    listed = next(number for number, text in enumerate(messages) if text.startswith("Left out"))
    assert str(study / "lateral.dcm") in messages[listed]
    assert max(number for number, text in enumerate(messages) if "anomaly probability" in text) < listed
