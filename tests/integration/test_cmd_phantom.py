"""The command `anomalib-cxr`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from anomalib_cxr.data.reading.dicomdir import dicomdir_files
from anomalib_cxr.data.reading.radiograph import read_radiograph

SMALL = ["--n_normal", 3, "--n_sick", 2, "--size", 32]


@pytest.fixture(scope="module")
def drawn(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return folder / "phantoms", command(folder, "anomalib-cxr", "phantom", "phantoms", *SMALL)


def stamps(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_help_lists_the_verbs(command, tmp_path):
    code, output = command(tmp_path, "anomalib-cxr", "--help")
    assert code == 0
    assert "phantom" in output
    assert "not a medical device" in " ".join(output.split())


def test_package_is_imported_without_torch():
    words = [sys.executable, "-c", "import sys, anomalib_cxr; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(words, check=False).returncode == 0  # noqa: S603


class TestPhantom:
    def test_writes_the_merged_layout(self, drawn):
        root, (code, output) = drawn
        assert code == 0, output
        assert "5 phantoms in phantoms" in output
        for folder in ("CXR_png", "masks"):
            assert len(list((root / folder).glob("PHANTOM_*_0.png"))) == 3
            assert len(list((root / folder).glob("PHANTOM_*_1.png"))) == 2
        assert len(list((root / "lesions").iterdir())) == 2
        assert len(list((root / "ClinicalReadings").iterdir())) == 5

    def test_same_again_changes_nothing(self, drawn, command):
        root, _ = drawn
        before = stamps(root)
        code, output = command(root.parent, "anomalib-cxr", "phantom", "phantoms", *SMALL)
        assert code == 0, output
        assert stamps(root) == before

    def test_dicom_beside_a_set_that_is_there(self, command, tmp_path):
        first, second = (
            command(tmp_path, "anomalib-cxr", "phantom", "phantoms", *SMALL, *dicom) for dicom in ([], ["--dicom"])
        )
        assert (first.code, second.code) == (0, 0), second.output
        files = dicomdir_files(tmp_path / "phantoms" / "DICOM" / "DICOMDIR")
        assert [read_radiograph(file).shape for file in files] == [(1, 32, 32)] * 5

    def test_other_settings_are_refused(self, drawn, command):
        root, _ = drawn
        before = stamps(root)
        code, output = command(root.parent, "anomalib-cxr", "phantom", "phantoms", *SMALL, "--seed", 1)
        assert code == 1
        assert "seed = 0, not 1" in output
        assert "Traceback" not in output
        assert stamps(root) == before

    def test_killed_while_drawing(self, command, interrupted, tmp_path):
        words = ["phantom", "phantoms", "--n_normal", 50, "--n_sick", 0, "--size", 128]
        aside = tmp_path / ".phantoms.partial" / "CXR_png"
        code, _ = interrupted(tmp_path, "anomalib-cxr", *words, seen=lambda: len(list(aside.glob("*.png"))) > 2)
        assert code == -signal.SIGKILL
        assert not (tmp_path / "phantoms").exists()

        code, output = command(tmp_path, "anomalib-cxr", *words)
        assert code == 0, output
        assert len(list((tmp_path / "phantoms" / "CXR_png").iterdir())) == 50
        assert json.loads((tmp_path / "phantoms" / "phantoms.json").read_text())["n_normal"] == 50
        assert not aside.parent.exists()
