"""One tiny model, trained, exported and calibrated once for the tests of this room; who changes it takes a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from anomalib_cxr import ChestPhantom, RoiSureGanomaly
from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel
from anomalib_cxr.screening.calibrate import calibrate
from anomalib_cxr.screening.calibration.groups import CalibrationTarget
from anomalib_cxr.screening.calibration.record import ValidatedRange, read_calibration
from anomalib_cxr.screening.calibration_data import labeled_by_datamodule
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.pipeline.input_check import InputCheck
from anomalib_cxr.screening.pipeline.pipeline import ScreeningPipeline
from anomalib_cxr.screening.pipeline.screener import Screener, ScreenerSettings
from anomalib_cxr.segmentation.deployed import ExportedSegmenter

SET = {"n_normal": 60, "n_sick": 20, "size": 64}
TARGET = CalibrationTarget(sensitivity=0.7, confidence=0.8, prevalence=0.1)  # a few sick phantoms are enough for it


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Networks of this size only lose by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("screened") / "set", seed=5, **SET)


@pytest.fixture(scope="session")
def dicoms(tmp_path_factory):
    """DICOM files of two healthy phantoms."""
    root = write_phantoms(tmp_path_factory.mktemp("sent") / "set", n_normal=2, n_sick=0, size=64)
    return sorted(path for path in write_phantom_dicom(root).rglob("IM*"))


@pytest.fixture(scope="session")
def data(phantoms):
    """A data module as a configuration has it."""
    place = {"root": str(phantoms), "phantom_seed": 5, "train_batch_size": 8, "eval_batch_size": 8}
    return {"class_path": "anomalib_cxr.ChestPhantom", "init_args": {**place, **SET}}


@pytest.fixture(scope="session")
def labeled(data):
    """18 healthy and 20 sick phantoms; a model may be trained on the other 42."""
    return labeled_by_datamodule(data, ("val", "test"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory, data):
    """A model of one epoch, as anomalib exports it."""
    folder = tmp_path_factory.mktemp("exported")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RoiSureGanomaly(
            image_size=32,
            network={"n_features": 4, "latent_dim": 5},
            weights={"adversarial": 0.1},
            optimizer={"lr": 0.01},
            visualizer=False,
        )
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=1, enable_checkpointing=False, num_sanity_val_steps=0, **quiet
        )
        trainer.fit(model, datamodule=ChestPhantom(**data["init_args"]))
    model.eval().to_openvino(folder)
    return folder / "weights" / "openvino"


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory, exported, labeled, segmenter_path, data):
    """The folder of the model, ready to screen."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("calibrated") / "model")
    calibrate(folder, labeled, TARGET, segmenter=segmenter_path, data=data, force=True)  # one epoch detects little
    return folder


@pytest.fixture(scope="session")
def calibration(calibrated):
    return read_calibration(calibrated)


@pytest.fixture
def model(calibrated, tmp_path):
    """A copy of the calibrated model that a test may damage."""
    return Path(shutil.copytree(calibrated, tmp_path / "model"))


@pytest.fixture(scope="session")
def scorer(calibrated):
    return ExportedModel(calibrated)


@pytest.fixture(scope="session")
def lungs(calibrated):
    """The lung segmenter."""
    return ExportedSegmenter(calibrated / "lungs.xml")


@pytest.fixture(scope="session")
def input_check(calibrated):
    return InputCheck.load(calibrated / "input_check.safetensors")


@pytest.fixture
def pipeline_of(scorer, lungs, input_check):
    """Make a pipeline; without a validated range it accepts any source."""

    def make(**validated):
        facts = {"sources": ("picture",), "ages": None, "least_side": 16, **validated}
        return ScreeningPipeline(scorer, lungs, input_check, ValidatedRange(**facts) if validated else None)

    return make


@pytest.fixture(scope="session")
def images(phantoms):
    """Files of all phantoms: 60 healthy ones, then 20 sick ones."""
    return sorted((phantoms / "CXR_png").iterdir())


@pytest.fixture(scope="session")
def stack():
    """Read files of one size as a batch of NumPy, `(N, 1, H, W)`."""
    return lambda files: np.stack([read_radiograph(file).numpy() for file in files])


@pytest.fixture
def screener(calibrated, tmp_path):
    return Screener(ScreenerSettings(calibrated, tmp_path / "out"))


@pytest.fixture(scope="session")
def case_of():
    """Make a case without a file behind it."""

    def make(name, probability=None, **facts):
        known = {"model": "f" * 64, "screened": "2026-01-31T10:00:00+00:00", "path": f"/xrays/{name}.png"}
        if probability is None:
            known |= {"decision": Decision.REFUSED, "why": "blank"}
        else:
            decision = Decision.TO_READ if probability >= 0.3 else Decision.BELOW_THRESHOLD
            known |= {"decision": decision, "score": probability / 2, "probability": probability, "threshold": 0.15}
            known["raw_score"] = facts.get("score", known["score"])
        return Case(**{"size": 1, "modified": 1, **known, **facts})

    return make
