"""X-rays for `anomalib predict`: what counts as one in a folder, and that a file's depth does not change its image."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from torch.utils.data import DataLoader

from anomalib_cxr import RadiographFolder
from anomalib_cxr.data.datasets.dataclasses import RoiImageBatch
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import DatasetError

GRAY = np.arange(32 * 40, dtype=np.uint32).reshape(32, 40) * 255 // (32 * 40 - 1)


def save_png(path, dtype=np.uint8):
    scale = 257 if dtype is np.uint16 else 1  # 255 * 257 = 65535: the same share of white
    Image.fromarray((GRAY * scale).astype(dtype)).save(path)
    return path


def save_dicom(path, **tags):
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dataset.Modality = "DX"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    return path


class TestReading:
    def test_16_bit_and_its_8_bit_copy_give_the_same_image(self, tmp_path):
        save_png(tmp_path / "8.png")
        save_png(tmp_path / "16.png", np.uint16)
        deep, shallow = (RadiographFolder(tmp_path / name)[0].image for name in ("16.png", "8.png"))
        torch.testing.assert_close(deep, shallow, rtol=1e-6, atol=0)
        np.testing.assert_allclose(shallow.numpy(), np.stack([GRAY / 255] * 3), rtol=1e-6)

    def test_dicom(self, tmp_path):
        path = save_dicom(tmp_path / "1.2.840.113619.2")
        item = RadiographFolder(path)[0]
        assert item.image.shape == (3, 128, 128)
        torch.testing.assert_close(item.image[1:2].as_subclass(torch.Tensor), read_radiograph(path))

    def test_jpeg(self, tmp_path):
        Image.fromarray(GRAY.astype(np.uint8)).save(tmp_path / "a.JPG")
        assert RadiographFolder(tmp_path)[0].image.shape == (3, 32, 40)

    def test_items_have_no_label_and_no_masks(self, phantom_root):
        item = RadiographFolder(phantom_root / "CXR_png")[3]
        assert item.image_path == str(phantom_root / "CXR_png/PHANTOM_0003_0.png")
        assert (item.gt_label, item.gt_mask, item.roi_mask) == (None, None, None)

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches(self, phantom_root, num_workers):
        dataset = RadiographFolder(phantom_root / "CXR_png")
        loader = DataLoader(dataset, batch_size=8, num_workers=num_workers, collate_fn=dataset.collate_fn)
        batches = list(loader)
        assert [type(batch) for batch in batches] == [RoiImageBatch] * 2
        assert [batch.image.shape for batch in batches] == [(8, 3, 64, 64), (7, 3, 64, 64)]
        assert batches[1].image_path[-1].endswith("PHANTOM_0014_1.png")


class TestFolder:
    def test_searched_through_in_order(self, tmp_path):
        for name in ("b/2.png", "a/x/1.png", "c.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            save_png(tmp_path / name)
        dataset = RadiographFolder(str(tmp_path))
        assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == ["a/x/1.png", "b/2.png", "c.png"]
        assert len(dataset) == 3

    def test_texts_and_hidden_files_are_passed_over(self, tmp_path):
        for name in ("report.txt", "list.CSV", "result.json", "letter.pdf", ".DS_Store", "DICOMDIR", "Thumbs.db"):
            (tmp_path / name).write_bytes(b"\0")
        (tmp_path / ".cache").mkdir()
        save_png(tmp_path / ".cache/thumbnail.png")
        chest = save_png(tmp_path / "chest.png")
        assert RadiographFolder(tmp_path).paths == [chest]

    def test_every_other_file_is_tried_whatever_its_name(self, tmp_path):
        shutil.move(save_png(tmp_path / "chest.png"), tmp_path / "IM000001")
        assert len(RadiographFolder(tmp_path)) == 1

    def test_hidden_folders_above_do_not_hide_it(self, tmp_path):
        (tmp_path / ".data").mkdir()
        save_png(tmp_path / ".data/chest.png")
        assert len(RadiographFolder(tmp_path / ".data")) == 1


class TestRefused:
    def test_missing(self, tmp_path):
        with pytest.raises(
            DatasetError, match=r"no file or folder .*nowhere\n.*\n  next step: correct data.init_args.path"
        ):
            RadiographFolder(tmp_path / "nowhere")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DatasetError, match="no radiograph in"):
            RadiographFolder(tmp_path)

    def test_a_folder_of_texts(self, tmp_path):
        (tmp_path / "a.txt").touch()
        with pytest.raises(DatasetError, match="no radiograph in"):
            RadiographFolder(tmp_path)

    def test_all_offenders_at_once_before_anything_is_scored(self, tmp_path):
        save_png(tmp_path / "chest.png")
        (tmp_path / "empty.png").touch()
        (tmp_path / "archive.zip").write_bytes(b"PK\3\4")
        cut = save_png(tmp_path / "truncated.png")
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        save_dicom(tmp_path / "lateral.dcm", ViewPosition="LL")
        save_dicom(tmp_path / "scan.dcm", Modality="CT")
        with pytest.raises(DatasetError, match="5 of 6 files that are no frontal radiograph") as caught:
            RadiographFolder(tmp_path)
        named = {path.name: reason for reason, paths in caught.value.offenders.items() for path in paths}
        assert set(named) == {"empty.png", "archive.zip", "truncated.png", "lateral.dcm", "scan.dcm"}
        assert named["lateral.dcm"].startswith("ViewPosition (0018,5101)")

    def test_a_single_file(self, tmp_path):
        (tmp_path / "report.txt").write_text("no image")
        with pytest.raises(DatasetError, match="1 of 1 files that are no frontal radiograph"):
            RadiographFolder(tmp_path / "report.txt")
