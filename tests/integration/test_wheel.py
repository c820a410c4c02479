"""The package as it is installed from a wheel, away from any checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import TINY_MODEL

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def build(source, target, kind):
    """Build a wheel or a source distribution; return its file."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target]
    subprocess.run(words, cwd=source, check=True, capture_output=True)  # noqa: S603
    (built,) = target.iterdir()
    return built


def files_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(REPOSITORY, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture
def installed(wheel, tmp_path, monkeypatch):
    """The unpacked wheel, which Python finds before any other installation, and an empty folder to work in."""
    shutil.unpack_archive(wheel, tmp_path / "site-packages", format="zip")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site-packages"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_wheel_has_the_package_and_its_configurations(wheel):
    sources = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for root in (REPOSITORY / "src", REPOSITORY)
        for path in (root / ("anomalib_cxr" if root.name == "src" else "configs")).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = {name if name.startswith("anomalib_cxr/") else f"anomalib_cxr/{name}": sources[name] for name in sources}
    assert files_of(wheel) == expected
    weights = {"anomalib_cxr/segmentation/lungs.safetensors", "anomalib_cxr/screening/pipeline/frontal.safetensors"}
    assert weights <= expected.keys()


def test_source_distribution_is_complete(wheel, tmp_path):
    (tmp_path / "sdist").mkdir()
    with tarfile.open(build(REPOSITORY, tmp_path / "sdist", "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    tracked = subprocess.run(
        ["git", "ls-files", "src", "tests", "docs", "configs", "benchmarks", ".ci", "*.md", "LICENSE"],  # noqa: S607
        cwd=REPOSITORY, check=False, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert {name for name in tracked if not name.startswith(".github")} <= names
    (tmp_path / "again").mkdir()
    (source,) = (tmp_path / "unpacked").iterdir()
    assert files_of(build(source, tmp_path / "again", "wheel")) == files_of(wheel)


def test_init_and_training_without_a_checkout(installed, command, results):
    code, output = command(installed, "python", "-c", "import anomalib_cxr; print(anomalib_cxr.__file__)")
    assert Path(output.strip()) == installed.parent / "site-packages" / "anomalib_cxr" / "__init__.py"
    code, output = command(installed, "anomalib-cxr", "init", "mine")
    assert code == 0, output
    mine = installed / "mine"
    data = ["--data.init_args.n_normal", 40, "--data.init_args.n_sick", 10, "--data.init_args.size", 32]
    words = ["train", "--config", "configs/quickstart_roi_sure.yaml", *TINY_MODEL, *data, "--trainer.max_epochs", 1]
    code, output = command(mine, "anomalib", *words)
    assert code == 0, output
    assert results._replace(started_in=mine).checkpoint.is_file()
    assert (mine / "datasets" / "chest_phantom_128").is_dir()
