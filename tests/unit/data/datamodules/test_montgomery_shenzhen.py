"""The two real sets: choice of the hospital, and what is fetched. Nothing is fetched here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from anomalib.data import AnomalibDataModule
from PIL import Image

from anomalib_cxr import MontgomeryShenzhen
from anomalib_cxr.data.datamodules import montgomery_shenzhen
from anomalib_cxr.data.datasets.verification import verify_samples
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import SettingError

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


@pytest.fixture
def fetched(monkeypatch):
    """Record what would be fetched."""
    asked = []

    def record(root, archives):
        asked.append((root, [archive.name for archive in archives]))

    monkeypatch.setattr(montgomery_shenzhen, "download_archives", record)
    return asked


class TestSource:
    @pytest.mark.parametrize(
        ("source", "prefixes"),
        [("both", {"MCUCXR", "CHNCXR"}), ("montgomery", {"MCUCXR"}), ("shenzhen", {"CHNCXR"})],
    )
    @pytest.mark.parametrize("layout", ["side_by_side_root", "merged_root"])
    def test_hospitals(self, request, layout, source, prefixes):
        samples = MontgomeryShenzhen(request.getfixturevalue(layout), source=source).make_samples()
        assert {path.rpartition("/")[2].partition("_")[0] for path in samples.image_path} == prefixes

    def test_both_takes_the_one_that_is_there(self, montgomery_root):
        assert len(MontgomeryShenzhen(montgomery_root).make_samples()) == 15

    def test_unknown(self):
        with pytest.raises(SettingError, match="source = 'nih'\n  expected: source one of both, montgomery, shenzhen"):
            MontgomeryShenzhen(source="nih")

    def test_from_a_configuration(self, tmp_path, merged_root):
        (tmp_path / "data.yaml").write_text(f"""
class_path: anomalib_cxr.MontgomeryShenzhen
init_args:
  root: {merged_root}
  source: shenzhen
  protocol: dissertation
  train_batch_size: 3
""")
        datamodule = AnomalibDataModule.from_config(tmp_path / "data.yaml")
        assert isinstance(datamodule, MontgomeryShenzhen)
        assert (datamodule.sources, datamodule.protocol, datamodule.train_batch_size) == (
            ("shenzhen",),
            "dissertation",
            3,
        )


class TestDownload:
    def test_only_when_asked_for(self, tmp_path, fetched):
        MontgomeryShenzhen(tmp_path).prepare_data()
        assert fetched == []

    @pytest.mark.parametrize(
        ("source", "archives"),
        [("both", ["Montgomery", "Shenzhen"]), ("montgomery", ["Montgomery"]), ("shenzhen", ["Shenzhen"])],
    )
    def test_the_chosen_hospitals(self, tmp_path, fetched, source, archives):
        MontgomeryShenzhen(tmp_path / "new", source=source, download=True).prepare_data()
        assert fetched == [(tmp_path / "new", archives)]

    def test_nothing_beside_the_merged_layout(self, merged_root, fetched):
        MontgomeryShenzhen(merged_root, download=True).prepare_data()
        assert fetched == [(merged_root, [])]

    def test_what_is_missing_beside_one_hospital(self, montgomery_files, fetched):
        MontgomeryShenzhen(montgomery_files, download=True).prepare_data()
        assert fetched == [(montgomery_files, ["Shenzhen"])]

    def test_an_archive_s_own_folder_is_left_for_the_downloader_to_check(self, side_by_side_root, fetched):
        MontgomeryShenzhen(side_by_side_root, download=True).prepare_data()
        assert fetched == [(side_by_side_root, ["Montgomery", "Shenzhen"])]

    def test_kaggle_masks_that_came_first_are_no_images(self, tmp_path, shenzhen_root, fetched):
        shutil.copytree(shenzhen_root / "mask", tmp_path / "mask")
        MontgomeryShenzhen(tmp_path, source="shenzhen", download=True).prepare_data()
        assert fetched == [(tmp_path, ["Shenzhen"])]

    def test_kaggle_images_are_not_fetched_again(self, tmp_path, shenzhen_files, fetched):
        shutil.copytree(shenzhen_files / "CXR_png", tmp_path / "images" / "images")
        MontgomeryShenzhen(tmp_path, source="shenzhen", download=True).prepare_data()
        assert fetched == [(tmp_path, [])]


@pytest.mark.parametrize("file", ["roi_sure", "data/montgomery_shenzhen", "data/montgomery_shenzhen_detection"])
def test_configurations_read_the_twelve_bits_of_the_digitizer(file, editable, montgomery_files):
    root = editable(montgomery_files)
    eight, twelve = sorted((root / "CXR_png").glob("*_0.png"))[:2]
    values = np.asarray(Image.open(twelve)).astype(np.uint16) * 16
    Image.fromarray(values).save(twelve)
    settings = yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())["data"]["init_args"]
    samples = verify_samples(make_samples(root), "raise", sixteen_bit_white=settings["sixteen_bit_white"])
    assert len(samples) == len(make_samples(root))
    read = {path: read_radiograph(path, settings["sixteen_bit_white"]).numpy()[0] for path in (eight, twelve)}
    np.testing.assert_allclose(read[eight], np.asarray(Image.open(eight)) / 255, rtol=1e-6)
    np.testing.assert_allclose(read[twelve], values / 4095, rtol=1e-6)


@pytest.mark.real_data
@pytest.mark.parametrize(("source", "expected"), [("both", 674), ("montgomery", 108), ("shenzhen", 566)])
def test_the_real_images(real_root, source, expected):
    datamodule = MontgomeryShenzhen(real_root, source=source)
    datamodule.prepare_data()
    datamodule.setup("fit")
    sizes = [len(getattr(datamodule, f"{split}_data")) for split in ("train", "val", "test")]
    assert sum(sizes) == expected
