"""DICOMDIR: against pydicom's own reader of file sets, and whatever has been cut off or points elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet

from anomalib_cxr.data.reading.dicomdir import dicomdir_files
from anomalib_cxr.errors import DatasetError, RadiographError

CASES = Path(__file__).resolve().parents[5] / "shared" / "cases" / "11_dicomdir_lower_case_or_suffix"
DISC = Path(get_testdata_file("DICOMDIR")).parent


@pytest.fixture
def disc(tmp_path):
    return Path(shutil.copytree(DISC, tmp_path / "disc"))


def change_first_image(path, **tags):
    """Set tags in the record of the first image; all offsets are made right again, as its length may differ."""
    dataset = pydicom.dcmread(path)
    before = [record.seq_item_tell for record in dataset.DirectoryRecordSequence]
    image = next(record for record in dataset.DirectoryRecordSequence if record.DirectoryRecordType == "IMAGE")
    for keyword, value in tags.items():
        setattr(image, keyword, value)
    dataset.save_as(path)
    after = [record.seq_item_tell for record in pydicom.dcmread(path).DirectoryRecordSequence]
    moved = dict(zip(before, after, strict=True)) | {0: 0}
    for record in dataset.DirectoryRecordSequence:
        for keyword in ("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity"):
            setattr(record, keyword, moved.get(getattr(record, keyword), getattr(record, keyword)))
    dataset.save_as(path)


class TestList:
    def test_as_pydicom_has_it(self):
        expected = [Path(instance.path).resolve() for instance in FileSet(DISC / "DICOMDIR")]
        assert len(expected) == 31
        assert [file.resolve() for file in dicomdir_files(DISC / "DICOMDIR")] == expected

    def test_paths_are_absolute(self, disc, monkeypatch):
        monkeypatch.chdir(disc)
        assert all(file.is_absolute() and file.is_file() for file in dicomdir_files("DICOMDIR"))

    def test_records_that_are_no_images_are_passed_over(self, disc, caplog):
        expected = dicomdir_files(disc / "DICOMDIR")[1:]
        change_first_image(disc / "DICOMDIR", DirectoryRecordType="SR DOCUMENT")
        caplog.set_level("INFO")
        assert dicomdir_files(disc / "DICOMDIR") == expected
        assert "passed over 1 files that are no images" in caplog.text

    def test_records_that_are_not_in_use(self, disc):
        expected = dicomdir_files(disc / "DICOMDIR")[1:]
        change_first_image(disc / "DICOMDIR", RecordInUseFlag=0)
        assert dicomdir_files(disc / "DICOMDIR") == expected


class TestNames:
    """PS3.10 8.2 has names in capitals; mounted discs show them in lower case, and exports add `.dcm`."""

    @pytest.fixture
    def renamed(self, disc):
        """Rename all files of the disc, and return the expected ones."""

        def rename(spell):
            before = dicomdir_files(disc / "DICOMDIR")
            for folder, folders, files in os.walk(disc, topdown=False):
                for name in [*folders, *files]:
                    Path(folder, name).rename(Path(folder, spell(name, is_file=name in files)))
            return [
                Path(disc, *(spell(part, is_file=False) for part in file.relative_to(disc).parts[:-1]))
                / spell(file.name, is_file=True)
                for file in before
            ]

        return rename

    def test_in_lower_case(self, renamed, disc):
        expected = renamed(lambda name, **_: name.lower())
        assert dicomdir_files(disc / "dicomdir") == expected

    @pytest.mark.parametrize("suffix", [".dcm", ".DCM"])
    def test_with_a_suffix(self, renamed, disc, suffix):
        expected = renamed(lambda name, is_file: name + suffix * (is_file and name != "DICOMDIR"))
        assert dicomdir_files(disc / "DICOMDIR") == expected

    def test_of_two_spellings_the_exact_one_counts_and_without_it_none(self, disc):
        first, *others = dicomdir_files(disc / "DICOMDIR")
        change_first_image(disc / "DICOMDIR", ReferencedFileID="IM")
        for name in ("Im", "iM"):
            shutil.copy(first, disc / name)
        with pytest.raises(DatasetError, match=r"missing \(1\)"):
            dicomdir_files(disc / "DICOMDIR")
        shutil.copy(first, disc / "IM")
        assert dicomdir_files(disc / "DICOMDIR") == [disc / "IM", *others]

    @pytest.mark.parametrize("name", ["all_lower/dicomdir", "files_lower/DICOMDIR", "with_dcm/DICOMDIR"])
    def test_of_the_shared_cases(self, name):
        path = CASES / name
        if not path.is_file():
            pytest.skip("the cases are not there")
        assert len(dicomdir_files(path)) == 3


class TestOffenders:
    def test_all_that_are_missing_are_named(self, disc):
        first, second, *_ = dicomdir_files(disc / "DICOMDIR")
        first.unlink()
        second.unlink()
        with pytest.raises(DatasetError, match=r"missing \(2\)") as caught:
            dicomdir_files(disc / "DICOMDIR")
        assert caught.value.offenders == {"missing": [first, second]}

    @pytest.mark.parametrize("parts", [["..", "secret"], "../secret", "{}/secret", "LINK"])
    def test_outside_the_folder(self, disc, parts):
        secret = disc.parent / "secret"
        secret.write_bytes(b"secret")
        (disc / "LINK").symlink_to(secret)
        name = parts.format(disc.parent) if isinstance(parts, str) else parts
        change_first_image(disc / "DICOMDIR", ReferencedFileID=name)
        with pytest.raises(DatasetError, match=r"outside the folder \(1\)"):
            dicomdir_files(disc / "DICOMDIR")


class TestDamaged:
    def test_missing(self, tmp_path):
        with pytest.raises(RadiographError, match=r"cannot be opened: No such file"):
            dicomdir_files(tmp_path / "DICOMDIR")

    def test_no_dicom(self, tmp_path):
        (tmp_path / "DICOMDIR").write_text("a list of files")
        with pytest.raises(RadiographError, match="damaged DICOMDIR"):
            dicomdir_files(tmp_path / "DICOMDIR")

    def test_another_dicom_file(self):
        with pytest.raises(RadiographError, match=r"damaged DICOMDIR: .*DirectoryRecordSequence"):
            dicomdir_files(get_testdata_file("CT_small.dcm"))

    def test_a_circle(self, disc):
        first = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence[0].seq_item_tell
        change_first_image(disc / "DICOMDIR", OffsetOfTheNextDirectoryRecord=first)
        with pytest.raises(RadiographError, match=rf"damaged DICOMDIR: record at byte {first} is listed twice"):
            dicomdir_files(disc / "DICOMDIR")

    def test_an_image_without_a_file(self, disc):
        change_first_image(disc / "DICOMDIR", ReferencedFileID="")
        with pytest.raises(DatasetError, match=r"missing \(1\)"):
            dicomdir_files(disc / "DICOMDIR")

    def test_a_null_byte_in_a_name(self, disc):
        change_first_image(disc / "DICOMDIR", ReferencedFileID=["a\0b", "c"])
        with pytest.raises(RadiographError, match=r"damaged DICOMDIR: .*null"):
            dicomdir_files(disc / "DICOMDIR")

    def test_a_truncated_list_never_passes_for_a_whole_one(self, disc):
        path = disc / "DICOMDIR"
        content, expected = path.read_bytes(), dicomdir_files(path)
        for length in [*range(0, len(content) - 300, 997), *range(len(content) - 300, len(content), 17)]:
            path.write_bytes(content[:length])
            try:
                assert dicomdir_files(path) == expected
            except (RadiographError, DatasetError):
                continue
            assert length > len(content) - 180  # what is lost is behind the name of the last file
