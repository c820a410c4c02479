"""Which files belong together, in every layout of the real sets; and which folders are refused, with all offenders."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import pytest

from anomalib_cxr.data.sources.layouts import find_radiographs
from anomalib_cxr.errors import DatasetError

MONTGOMERY = {("montgomery", False): 10, ("montgomery", True): 5}
SHENZHEN = {("shenzhen", False): 10, ("shenzhen", True): 5}
UNMASKED = {"CHNCXR_0000_0", "CHNCXR_0014_1"}


def counted(root):
    return dict(Counter((files.source, files.abnormal) for files in find_radiographs(root)))


def without_mask(root):
    return {files.image.stem for files in find_radiographs(root) if not files.masks}


class TestRecognized:
    @pytest.mark.parametrize(
        ("layout", "counts", "unmasked"),
        [
            ("montgomery_files", MONTGOMERY, set()),
            ("montgomery_root", MONTGOMERY, set()),
            ("shenzhen_root", SHENZHEN, UNMASKED),
            ("side_by_side_root", MONTGOMERY | SHENZHEN, UNMASKED),
            ("merged_root", MONTGOMERY | SHENZHEN, UNMASKED),
            ("phantom_root", {("phantom", False): 10, ("phantom", True): 5}, set()),
        ],
    )
    def test_layout(self, request, layout, counts, unmasked):
        root = request.getfixturevalue(layout)
        assert counted(root) == counts
        assert without_mask(root) == unmasked

    def test_without_kaggle_masks(self, unmasked_root):
        assert counted(unmasked_root) == SHENZHEN
        assert len(without_mask(unmasked_root)) == 15

    @pytest.mark.parametrize("layout", ["side_by_side_root", "merged_root"])
    def test_under_further_folders(self, request, tmp_path, layout):
        shutil.copytree(request.getfixturevalue(layout), tmp_path / "a" / "b")
        assert counted(tmp_path) == MONTGOMERY | SHENZHEN
        assert without_mask(tmp_path) == UNMASKED

    def test_kaggle_without_other_files_of_a_shared_name(self, tmp_path, shenzhen_files, shenzhen_root):
        shutil.copytree(shenzhen_files / "CXR_png", tmp_path / "images" / "images")
        shutil.copytree(shenzhen_root / "mask", tmp_path / "mask" / "mask")
        (tmp_path / "images" / "logo.png").touch()
        assert counted(tmp_path) == SHENZHEN
        assert without_mask(tmp_path) == UNMASKED

    def test_a_mixture_of_layouts(self, tmp_path, montgomery_files, shenzhen_root):
        shutil.copytree(montgomery_files, tmp_path / "merged")
        shutil.copytree(shenzhen_root, tmp_path / "official")
        assert counted(tmp_path) == MONTGOMERY | SHENZHEN

    def test_the_archive_s_folder_as_root(self, montgomery_root):
        assert counted(montgomery_root / "MontgomerySet") == MONTGOMERY

    def test_through_a_link(self, tmp_path, merged_root):
        (tmp_path / "linked").symlink_to(merged_root, target_is_directory=True)
        assert counted(tmp_path) == MONTGOMERY | SHENZHEN

    def test_text_as_root(self, phantom_root):
        assert find_radiographs(str(phantom_root)) == find_radiographs(phantom_root)

    @pytest.mark.real_data
    def test_the_real_images(self, real_root):
        assert counted(real_root) == {
            ("montgomery", False): 65,
            ("montgomery", True): 43,
            ("shenzhen", False): 279,
            ("shenzhen", True): 287,
        }
        assert without_mask(real_root) == set()


class TestPartners:
    def test_all_files_of_a_montgomery_image(self, montgomery_root):
        top = montgomery_root / "MontgomerySet"
        files = find_radiographs(montgomery_root)[0]
        assert files.image == top / "CXR_png/MCUCXR_0000_0.png"
        assert files.masks == (
            top / "ManualMask/leftMask/MCUCXR_0000_0.png",
            top / "ManualMask/rightMask/MCUCXR_0000_0.png",
        )
        assert files.reading == top / "ClinicalReadings/MCUCXR_0000_0.txt"
        assert files.lesion is None

    def test_all_files_of_a_shenzhen_image(self, shenzhen_root):
        top = shenzhen_root / "ChinaSet_AllFiles"
        files = find_radiographs(shenzhen_root)[1]
        assert files.image == top / "CXR_png/CHNCXR_0001_0.png"
        assert files.masks == (shenzhen_root / "mask/CHNCXR_0001_0_mask.png",)
        assert files.reading == top / "ClinicalReadings/CHNCXR_0001_0.txt"

    def test_only_sick_phantoms_have_a_lesion_mask(self, phantom_root):
        lesions = {files.image.stem: files.lesion for files in find_radiographs(phantom_root)}
        assert lesions["PHANTOM_0009_0"] is None
        assert lesions["PHANTOM_0010_1"] == phantom_root / "lesions/PHANTOM_0010_1.png"

    def test_sorted_by_name(self, merged_root):
        names = [files.image.name for files in find_radiographs(merged_root)]
        assert names == sorted(names)

    def test_a_copy_in_the_test_folder_counts_once(self, merged_root):
        copied = [files.image for files in find_radiographs(merged_root) if files.image.stem in UNMASKED]
        assert [path.parent.name for path in copied] == ["CXR_png", "CXR_png"]

    def test_an_image_of_the_test_folder_only(self, editable, merged_root):
        root = editable(merged_root)
        (root / "Lung Segmentation/CXR_png/CHNCXR_0000_0.png").unlink()
        assert counted(root) == MONTGOMERY | SHENZHEN
        assert without_mask(root) == UNMASKED

    def test_files_of_the_system_and_of_publishers_do_not_matter(self, editable, merged_root):
        root = editable(merged_root)
        for name in ("CXR_png/.DS_Store", "CXR_png/._CHNCXR_0001_0.png", "CXR_png/Thumbs.db", "masks/README.txt"):
            (root / "Lung Segmentation" / name).write_bytes(b"\0")
        assert counted(root) == MONTGOMERY | SHENZHEN


class TestNothingToUse:
    def refusal(self, root):
        with pytest.raises(DatasetError) as caught:
            find_radiographs(root)
        return caught.value

    def assert_helps(self, error):
        for part in ("MontgomerySet/", "ManualMask/leftMask/", "ChinaSet_AllFiles/", "CXR_png/ with masks/"):
            assert part in error.expected
        for part in ("data.init_args.download", "Kaggle", "yoctoman/shcxr-lung-mask", "data.init_args.root"):
            assert part in error.next_step

    def test_missing(self, tmp_path):
        error = self.refusal(tmp_path / "nowhere")
        assert error.found == f"no folder {tmp_path / 'nowhere'}"
        self.assert_helps(error)

    def test_empty(self, tmp_path):
        error = self.refusal(tmp_path)
        assert error.found == f"{tmp_path}, which is empty"
        self.assert_helps(error)

    def test_a_file(self, tmp_path):
        (tmp_path / "set.zip").touch()
        error = self.refusal(tmp_path / "set.zip")
        assert error.found.endswith("set.zip, which is no folder")
        self.assert_helps(error)

    def test_unknown_layout(self, tmp_path):
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans" / "CHNCXR_0001_0.png").touch()
        (tmp_path / "labels.csv").touch()
        error = self.refusal(tmp_path)
        assert error.found == f"{tmp_path} with labels.csv, scans, and no X-ray in a folder CXR_png or images"
        self.assert_helps(error)

    def test_a_long_listing_is_cut(self, tmp_path):
        for index in range(15):
            (tmp_path / f"{index:02d}.txt").touch()
        assert "11.txt and 3 more, and no X-ray" in self.refusal(tmp_path).found

    def test_a_locked_folder(self, monkeypatch, phantom_root):
        scandir = os.scandir

        def locked(path):
            if str(path).endswith("CXR_png"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", locked)
        with pytest.raises(DatasetError, match=r"CXR_png: Permission denied\n.*expected: a folder that may be read"):
            find_radiographs(phantom_root)


class TestOffenders:
    def offenders(self, root):
        with pytest.raises(DatasetError, match="cannot be told apart or paired") as caught:
            find_radiographs(root)
        return {
            reason: {path.relative_to(root).as_posix() for path in paths}
            for reason, paths in caught.value.offenders.items()
        }

    def test_names_without_a_label(self, editable, phantom_root):
        root = editable(phantom_root)
        names = {f"CXR_png/{name}.png" for name in ("CHNCXR_0001", "CHNCXR_0001_2", "chest", "NIH_0001_0")}
        for name in names:
            (root / name).touch()
        assert self.offenders(root) == {"name without hospital, number and label": names}

    def test_one_name_in_two_folders(self, editable, merged_root):
        root = editable(merged_root)
        twins = {"Lung Segmentation/CXR_png/MCUCXR_0001_0.png", "other/CXR_png/MCUCXR_0001_0.png"}
        (root / "other/CXR_png").mkdir(parents=True)
        for twin in twins:
            shutil.copy(root / "Lung Segmentation/CXR_png/MCUCXR_0001_0.png", root / "other/CXR_png")
            assert (root / twin).exists()
        assert self.offenders(root) == {"the same name twice": twins}

    def test_one_name_with_two_suffixes(self, editable, phantom_root):
        root = editable(phantom_root)
        shutil.copy(root / "CXR_png/PHANTOM_0000_0.png", root / "CXR_png/PHANTOM_0000_0.jpg")
        twins = {"CXR_png/PHANTOM_0000_0.png", "CXR_png/PHANTOM_0000_0.jpg"}
        assert self.offenders(root) == {"the same name twice": twins}

    def test_another_image_in_the_test_folder(self, editable, merged_root):
        root = editable(merged_root)
        (root / "Lung Segmentation/test/CHNCXR_0000_0.png").write_bytes(b"another image")
        twins = {f"Lung Segmentation/{folder}/CHNCXR_0000_0.png" for folder in ("CXR_png", "test")}
        assert self.offenders(root) == {"the same name twice": twins}

    def test_two_masks_of_one_image(self, editable, merged_root):
        root = editable(merged_root)
        masks = root / "Lung Segmentation/masks"
        shutil.copy(masks / "CHNCXR_0001_0_mask.png", masks / "CHNCXR_0001_0.png")
        twins = {f"Lung Segmentation/masks/CHNCXR_0001_0{suffix}.png" for suffix in ("", "_mask")}
        assert self.offenders(root) == {"the same name twice": twins}

    def test_masks_of_one_lung(self, editable, montgomery_root):
        root = editable(montgomery_root)
        masks = root / "MontgomerySet/ManualMask"
        (masks / "leftMask/MCUCXR_0001_0.png").unlink()
        (masks / "rightMask/MCUCXR_0012_1.png").unlink()
        halves = {"rightMask/MCUCXR_0001_0.png", "leftMask/MCUCXR_0012_1.png"}
        expected = {f"MontgomerySet/ManualMask/{half}" for half in halves}
        assert self.offenders(root) == {"mask of one lung only": expected}

    def test_all_kinds_in_one_error(self, editable, side_by_side_root):
        root = editable(side_by_side_root)
        (root / "MontgomerySet/CXR_png/scan.png").touch()
        (root / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png").unlink()
        (root / "test").mkdir()
        (root / "test/CHNCXR_0001_0.png").touch()
        assert {reason: len(paths) for reason, paths in self.offenders(root).items()} == {
            "name without hospital, number and label": 1,
            "the same name twice": 2,
            "mask of one lung only": 1,
        }
