"""Tests of unpacking: complete or not at all, nothing outside, no bomb."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from anomalib_cxr.data.sources import unpack as module
from anomalib_cxr.data.sources.unpack import missing, unpack
from anomalib_cxr.errors import DownloadError

IMAGES = {f"Set/CXR_png/{number}.png": bytes([number]) * 20 for number in range(3)}
CONTENTS = {"CXR_png/*.png": 3}


def pack(path: Path, files: dict[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_unpacks_the_folder_without_clutter(tmp_path: Path, method: int) -> None:
    clutter = ["__MACOSX/Set/._1.png", "Set/CXR_png/Thumbs.db", "Set/.DS_Store", "beside.txt"]
    archive = pack(tmp_path / "set.zip", {**IMAGES, **dict.fromkeys(clutter, b"")}, method)
    reports: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "Set", CONTENTS, lambda done, total: reports.append((done, total)))
    assert names(tmp_path) == [*IMAGES, "set.zip"]
    assert {name: (tmp_path / name).read_bytes() for name in IMAGES} == IMAGES
    assert reports[-1] == (60, 60)


@pytest.mark.parametrize(
    "name", ["../evil.png", "Set/../../evil.png", "/evil.png", "C:/evil.png", "C:evil.png", "Set\\..\\evil.png", ""]
)
def test_refuses_paths_outside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    archive = pack(root / "set.zip", {**IMAGES, zipfile.ZipInfo(name): b"evil"})
    with pytest.raises(zipfile.BadZipFile, match="unsafe path"):
        unpack(archive, root / "Set", CONTENTS)
    assert names(tmp_path) == ["root/set.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_refuses_links_and_devices(tmp_path: Path, kind: int) -> None:
    link = zipfile.ZipInfo("Set/link")
    link.external_attr = (kind | 0o777) << 16
    archive = pack(tmp_path / "set.zip", {**IMAGES, link: b"/etc"})
    with pytest.raises(zipfile.BadZipFile, match="link or a device"):
        unpack(archive, tmp_path / "Set", CONTENTS)
    assert names(tmp_path) == ["set.zip"]


def test_refuses_an_unknown_method(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES), zipfile.ZIP_LZMA)
    with pytest.raises(zipfile.BadZipFile, match="encrypted or packed by an unknown method"):
        unpack(archive, tmp_path / "Set", CONTENTS)


def test_refuses_names_that_differ_only_in_case(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", {**IMAGES, "Set/cxr_PNG/1.png": b""})
    with pytest.raises(zipfile.BadZipFile, match="same name"):
        unpack(archive, tmp_path / "Set", CONTENTS)


def test_refuses_a_bomb(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", {"Set/CXR_png/1.png": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(zipfile.BadZipFile, match=r"would unpack to 1,048,576, as in a decompression bomb"):
        unpack(archive, tmp_path / "Set", CONTENTS)
    assert names(tmp_path) == ["set.zip"]


@pytest.mark.parametrize(("limit", "message"), [("MAX_BYTES", "would unpack to 60"), ("MAX_FILES", "3 entries")])
def test_refuses_more_than_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES))
    monkeypatch.setattr(module, limit, 2)
    with pytest.raises(zipfile.BadZipFile, match=message):
        unpack(archive, tmp_path / "Set", CONTENTS)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "page", "empty"])
def test_refuses_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES))
    data = archive.read_bytes()
    flipped = data.replace(IMAGES["Set/CXR_png/2.png"], b"#" * 20, 1)
    archive.write_bytes({"flipped": flipped, "truncated": data[:-30], "page": b"<html>", "empty": b""}[damage])
    with pytest.raises(zipfile.BadZipFile):
        unpack(archive, tmp_path / "Set", CONTENTS)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_refuses_an_archive_that_lacks_images(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES))
    with pytest.raises(zipfile.BadZipFile, match=r"Set in it has 3 of 4 CXR_png/\*\.png"):
        unpack(archive, tmp_path / "Set", {"CXR_png/*.png": 4})
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_refuses_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=59))
    with pytest.raises(DownloadError, match=r"59 free bytes in .*\n.*at least 60 for unpacking set\.zip"):
        unpack(archive, tmp_path / "Set", CONTENTS)


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip", dict(IMAGES))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "Set", CONTENTS, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_rest_of_a_killed_run_is_cleared(tmp_path: Path) -> None:
    rest = tmp_path / ".Set.unpacking" / "Set" / "CXR_png" / "0.png"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    unpack(pack(tmp_path / "set.zip", dict(IMAGES)), tmp_path / "Set", CONTENTS)
    assert names(tmp_path) == [*IMAGES, "set.zip"]


def test_missing_names_each_pattern(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert missing(tmp_path, {"*.png": 1}) == ""
    assert missing(tmp_path, {"*.png": 2, "*.txt": 1}) == "1 of 2 *.png, 0 of 1 *.txt"
