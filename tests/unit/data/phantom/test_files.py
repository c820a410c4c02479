"""Phantoms on disk: the layout, what is refused, and that a folder appears complete or not at all."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

import anomalib_cxr
from anomalib_cxr.data.phantom import files as phantom_files
from anomalib_cxr.data.phantom.drawing import NoiseModel, draw_phantom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.errors import DatasetError, SettingError

FINDINGS = ["consolidation", "nodules", "cavity", "effusion", "miliary"]
SMALL = {"n_normal": 2, "n_sick": 6, "size": 32}


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def gray(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "small", **SMALL)


class TestLayout:
    def test_names(self, small):
        stems = [f"PHANTOM_{i:04d}_{int(i >= 2)}" for i in range(8)]
        expected = {f"{folder}/{stem}.png" for folder in ("CXR_png", "masks") for stem in stems}
        expected |= {f"ClinicalReadings/{stem}.txt" for stem in stems}
        expected |= {f"lesions/{stem}.png" for stem in stems[2:]}
        assert set(contents(small)) == expected | {"phantoms.json"}

    def test_record(self, small):
        assert json.loads((small / "phantoms.json").read_text()) == {
            "n_normal": 2,
            "n_sick": 6,
            "size": 32,
            "seed": 0,
            "prefix": "PHANTOM",
            "bits": 8,
            "noise": {"gain": NoiseModel().gain, "sigma": NoiseModel().sigma},
            "version": anomalib_cxr.__version__,
        }

    def test_findings_take_turns_in_the_readings(self, small):
        readings = [path.read_text().splitlines() for path in sorted((small / "ClinicalReadings").iterdir())]
        assert [lines[2] for lines in readings] == ["normal", "normal", *FINDINGS, FINDINGS[0]]
        for sex, age, _ in readings:
            assert sex in {"Patient's Sex: M", "Patient's Sex: F"}
            assert age.startswith("Patient's Age: 0")
            assert age.endswith("Y")
            assert len(age) == len("Patient's Age: 032Y")

    def test_files_show_the_phantom_of_seed_and_index(self, small):
        phantom = draw_phantom(np.random.default_rng(np.random.SeedSequence((0, 3))), 32, "nodules")
        image = gray(small / "CXR_png/PHANTOM_0003_1.png")
        assert image.dtype == np.uint8
        assert np.abs(image / 255 - phantom.image).max() <= 0.5 / 255 + 1e-6
        np.testing.assert_array_equal(gray(small / "masks/PHANTOM_0003_1.png"), np.where(phantom.lungs, 255, 0))
        np.testing.assert_array_equal(gray(small / "lesions/PHANTOM_0003_1.png"), np.where(phantom.lesion, 255, 0))

    def test_sixteen_bits_keep_the_gray_levels(self, tmp_path, small):
        root = write_phantoms(tmp_path / "deep", n_normal=1, n_sick=0, size=32, bits=16)
        deep = gray(root / "CXR_png/PHANTOM_0000_0.png").astype(float)
        assert deep.max() > 40_000
        assert np.abs(deep / 65535 - gray(small / "CXR_png/PHANTOM_0000_0.png") / 255).max() <= 0.51 / 255

    def test_an_image_does_not_depend_on_the_others(self, tmp_path, small):
        root = write_phantoms(tmp_path / "one", n_normal=1, n_sick=0, size=32)
        name = "CXR_png/PHANTOM_0000_0.png"
        assert (root / name).read_bytes() == (small / name).read_bytes()

    def test_another_seed_is_another_set(self, tmp_path, small):
        root = write_phantoms(tmp_path / "other", n_normal=1, n_sick=0, size=32, seed=1)
        name = "CXR_png/PHANTOM_0000_0.png"
        assert (root / name).read_bytes() != (small / name).read_bytes()

    def test_masks_are_named_as_shenzhen_has_them(self, tmp_path):
        root = write_phantoms(tmp_path / "set", n_normal=1, n_sick=1, size=32, prefix="CHNCXR")
        assert {path.name for path in (root / "masks").iterdir()} == {
            "CHNCXR_0000_0_mask.png",
            "CHNCXR_0001_1_mask.png",
        }
        assert [path.name for path in (root / "lesions").iterdir()] == ["CHNCXR_0001_1.png"]


class TestSecondTime:
    @pytest.fixture
    def root(self, tmp_path):
        return write_phantoms(tmp_path / "set", n_normal=1, n_sick=1, size=32)

    def test_the_same_set_is_left_alone(self, root, monkeypatch):
        monkeypatch.setattr(phantom_files, "draw_phantom", None)  # drawing again would fail
        times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert write_phantoms(root, n_normal=1, n_sick=1, size=32) == root
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    def test_other_settings_are_refused_by_name(self, root):
        before = contents(root)
        with pytest.raises(DatasetError, match=r"size = 32, not 64; noise = .*'sigma': 0.01.*'sigma': 0.02") as caught:
            write_phantoms(root, n_normal=1, n_sick=1, size=64, noise=NoiseModel(sigma=0.02))
        assert "n_normal" not in str(caught.value)
        assert contents(root) == before

    def test_foreign_and_missing_files_are_refused_by_name(self, root):
        (root / "CXR_png" / "mine.png").write_bytes(b"mine")
        (root / "masks" / "PHANTOM_0000_0.png").unlink()
        with pytest.raises(
            DatasetError, match=r"foreign \(1\):\s+CXR_png/mine.png\s+missing \(1\):\s+masks/PHANTOM_0000"
        ):
            write_phantoms(root, n_normal=1, n_sick=1, size=32)
        assert (root / "CXR_png" / "mine.png").read_bytes() == b"mine"

    def test_hidden_files_do_not_count(self, root):
        (root / "CXR_png" / ".DS_Store").write_bytes(b"")
        assert write_phantoms(root, n_normal=1, n_sick=1, size=32) == root

    @pytest.mark.parametrize("record", ["", "{", "[1, 2]", "3"])
    def test_a_broken_record_is_refused(self, root, record):
        (root / "phantoms.json").write_text(record)
        with pytest.raises(DatasetError, match=r"phantoms.json: not a record of phantoms"):
            write_phantoms(root, n_normal=1, n_sick=1, size=32)


class TestPlace:
    def test_a_folder_with_other_files_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(DatasetError, match="something else than a set of phantoms"):
            write_phantoms(tmp_path, **SMALL)
        assert list(contents(tmp_path)) == ["notes.txt"]

    def test_a_file_in_its_place_is_refused(self, tmp_path):
        (tmp_path / "set").write_text("mine")
        with pytest.raises(DatasetError, match="something else than a set of phantoms"):
            write_phantoms(tmp_path / "set", **SMALL)

    def test_an_empty_folder_is_used(self, tmp_path):
        (tmp_path / "a" / "set").mkdir(parents=True)
        root = write_phantoms(tmp_path / "a" / "set", n_normal=1, n_sick=0, size=32)
        assert (root / "phantoms.json").is_file()

    def test_an_interrupted_attempt_is_removed(self, tmp_path, small):
        partial = tmp_path / ".set.partial"
        (partial / "CXR_png").mkdir(parents=True)
        (partial / "CXR_png" / "half.png").write_bytes(b"half")
        root = write_phantoms(tmp_path / "set", **SMALL)
        assert contents(root) == contents(small)
        assert not partial.exists()

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failure_leaves_nothing_behind(self, tmp_path, monkeypatch, error):
        write, calls = phantom_files._write, []

        def fail_on_third(root, case):
            calls.append(case)
            if len(calls) == 3:
                raise error
            write(root, case)

        monkeypatch.setattr(phantom_files, "_write", fail_on_third)
        expected = DatasetError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            write_phantoms(tmp_path / "set", **SMALL)
        assert [path.name for path in tmp_path.iterdir() if path.name != ".set.lock"] == []

    def test_a_parent_that_is_a_file_is_a_clear_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="cannot be written"):
            write_phantoms(tmp_path / "file" / "set", **SMALL)

    @pytest.mark.slow
    def test_two_processes_at_once(self, tmp_path, small):
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for done in [pool.submit(write_phantoms, tmp_path / "set", **SMALL) for _ in range(2)]:
                assert done.result(timeout=120) == tmp_path / "set"
        assert contents(tmp_path / "set") == contents(small)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_normal", -1), ("n_sick", -1), ("size", 8), ("seed", -1), ("prefix", "a/b"), ("prefix", ""), ("bits", 12)],
)
def test_bad_settings_are_refused(tmp_path, name, value):
    with pytest.raises(SettingError, match=f"found: {name} = {value!r}"):
        write_phantoms(tmp_path / "set", **{**SMALL, name: value})
    assert list(tmp_path.iterdir()) == []
