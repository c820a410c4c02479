"""Download of archives from a server on this machine that can misbehave, and unpacking of unsafe and damaged ones."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pooch
import pytest
from filelock import FileLock

from anomalib_cxr.data.sources import download
from anomalib_cxr.data.sources.download import OFFICIAL_ARCHIVES, Archive, download_archives
from anomalib_cxr.errors import DownloadError, SettingError

IMAGES = {f"Set/CXR_png/{index}.png": hashlib.shake_128(bytes([index])).digest(400) for index in range(3)}


def zipped(files: dict[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


DATA = zipped(dict(IMAGES))
CUT = 700


@dataclass
class Server:
    """Content and faults of the server, and the requests that it has received."""

    url: str
    data: bytes = DATA
    ignores_range: bool = False
    redirect: str | None = None
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # errors that the next answers are
    requests: list[Message] = field(default_factory=list)

    @property
    def ranges(self) -> list[str | None]:
        return [headers["Range"] for headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        state.requests.append(self.headers)
        if state.redirect:
            self.send_response(302)
            self.send_header("Location", state.redirect)
            self.send_header("Content-Length", "0")
            state.redirect = None
            self.end_headers()
        elif state.statuses:
            self.send_error(state.statuses.pop(0))
        else:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self._send(0 if state.ignores_range else start)

    def _send(self, start: int) -> None:
        state = self.server_state
        body = state.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
        pass


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(pooch.core.time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_CHUNK", 100)
    handler = type("StateHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        handler.server_state = Server(f"http://127.0.0.1:{http.server_port}/set.zip")
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield handler.server_state
        http.shutdown()


@pytest.fixture
def archive(server: Server) -> Archive:
    return Archive("Toy", server.url, "Set", {"CXR_png/*.png": 3})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def entries(root: Path) -> list[str]:
    """Return the names of all files and of empty folders, without the lock."""
    paths = (path for path in root.rglob("*") if path.is_file() or not any(path.iterdir()))
    return sorted(path.relative_to(root).as_posix() for path in paths if path.name != "lock")


def assert_unpacked(root: Path, *others: str) -> None:
    """Compare with the content that was packed; nothing else may be left."""
    assert entries(root) == sorted([*IMAGES, *others])
    assert {name: (root / name).read_bytes() for name in IMAGES} == IMAGES


def break_off(root: Path, archive: Archive, server: Server) -> None:
    """Leave the first CUT bytes of a transfer behind, as a killed run does."""
    server.cuts = [CUT, *[0] * download.RETRIES]
    with pytest.raises(DownloadError, match=r"set\.zip: .*\n.*\n.*start again later to continue"):
        download_archives(root, [archive])
    assert (root / ".download/set.zip.part").read_bytes() == DATA[:CUT]
    server.requests.clear()


class TestTransfer:
    def test_fetches_and_unpacks(self, root: Path, archive: Archive, server: Server) -> None:
        exact = replace(archive, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        download_archives(root, [exact])
        assert_unpacked(root)
        assert server.ranges == ["bytes=0-"]

    def test_continues_after_a_cut(self, root: Path, archive: Archive, server: Server, pauses: list[float]) -> None:
        server.cuts = [CUT, 0, 100]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={start}-" for start in (0, CUT, CUT, CUT + 100)]
        assert pauses == [1, 2, 3]

    def test_continues_in_a_later_run(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={CUT}-"]

    def test_starts_over_without_ranges(self, root: Path, archive: Archive, server: Server) -> None:
        server.cuts, server.ignores_range = [CUT], True
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_starts_over_after_416(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        server.statuses = [416]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={CUT}-", "bytes=0-"]

    def test_beginning_of_another_version_is_detected(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        (root / ".download/set.zip.part").write_bytes(b"x" * CUT)
        with pytest.raises(DownloadError, match="damaged file has been removed"):
            download_archives(root, [archive])
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_waits_for_a_busy_server(self, root: Path, archive: Archive, server: Server) -> None:
        server.statuses = [503, 429, 500]
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_reports_what_is_not_there(self, root: Path, archive: Archive, server: Server) -> None:
        server.statuses = [404] * (1 + download.RETRIES)
        with pytest.raises(DownloadError, match=r"404 .*\n.*\n.*in a browser and put the file into .*data"):
            download_archives(root, [archive])
        assert len(server.requests) == 1 + download.RETRIES

    def test_refuses_a_redirection_to_an_open_line(self, root: Path, archive: Archive, server: Server) -> None:
        server.redirect = server.url.replace("127.0.0.1", "127.1")  # this machine, by a name that is not known as such
        with pytest.raises(DownloadError, match=r"redirected to http://127\.1:"):
            download_archives(root, [archive])

    @pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///a.zip"])
    def test_refuses_addresses_without_https(self, url: str) -> None:
        with pytest.raises(SettingError, match="an address by https"):
            Archive("Toy", url, "Set", {})


class TestChecks:
    @pytest.mark.parametrize("limit", ["exact", "largest"])
    def test_refuses_another_size_before_fetching(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch, limit: str
    ) -> None:
        size = None
        if limit == "exact":
            size = len(DATA) + 1
        else:
            monkeypatch.setattr(download, "MAX_SIZE", len(DATA) - 1)
        with pytest.raises(DownloadError, match=f"{len(DATA):,} bytes instead of "):
            download_archives(root, [replace(archive, size=size)])
        assert (root / ".download/set.zip.part").stat().st_size == 0
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (DATA[:-50], "not a zip file"),
            (DATA.replace(DATA[100:110], b"#" * 10), "Bad CRC-32"),
            (b"<html>please log in</html>", "not a zip file"),
            (zipped(dict(list(IMAGES.items())[:2])), r"Set in it has 2 of 3 CXR_png/\*\.png"),
        ],
        ids=["truncated", "corrupted", "page", "incomplete"],
    )
    def test_removes_an_unusable_file(
        self, root: Path, archive: Archive, server: Server, data: bytes, message: str
    ) -> None:
        server.data = data
        with pytest.raises(DownloadError, match=message):
            download_archives(root, [archive])
        assert entries(root) == []
        server.data = DATA
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_refuses_another_checksum(self, root: Path, archive: Archive) -> None:
        with pytest.raises(DownloadError, match=f"sha256 {hashlib.sha256(DATA).hexdigest()} instead of 00"):
            download_archives(root, [replace(archive, sha256="00")])
        assert entries(root) == []

    def test_refuses_without_space(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_off(root, archive, server)
        needed = 2 * len(DATA) - CUT
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
        with pytest.raises(DownloadError, match=rf"{needed - 1:,} free bytes in .*, of {needed:,} that are needed"):
            download_archives(root, [archive])
        assert (root / ".download/set.zip.part").stat().st_size == CUT
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_names_a_root_that_cannot_be_written(self, tmp_path: Path, archive: Archive, server: Server) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DownloadError, match=r"room and permission to write in .*file"):
            download_archives(tmp_path / "file" / "data", [archive])
        assert server.requests == []

    def test_a_full_disk_is_not_tried_again(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill_up(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(download.os, "replace", fill_up)
        with pytest.raises(DownloadError, match="No space left on device"):
            download_archives(root, [archive])
        assert len(server.requests) == 1


class TestPresentFiles:
    def test_complete_folder_needs_no_request(self, root: Path, archive: Archive, server: Server) -> None:
        (root / "Set" / "CXR_png").mkdir(parents=True)
        for index in range(3):
            (root / "Set" / "CXR_png" / f"{index}.png").touch()
        download_archives(root, [archive])
        assert server.requests == []
        assert sorted(path.name for path in root.iterdir()) == ["Set"]  # nothing written: the root may be read-only

    def test_all_folders_are_checked_before_the_first_request(
        self, root: Path, archive: Archive, server: Server
    ) -> None:
        (root / "Other").mkdir(parents=True)
        with pytest.raises(DownloadError, match=r"Other with 0 of 3 CXR_png/\*\.png\n(.*\n)*.*move .*Other away"):
            download_archives(root, [archive, replace(archive, folder="Other")])
        assert server.requests == []

    def test_archive_put_by_hand_is_used_and_kept(self, root: Path, archive: Archive, server: Server) -> None:
        root.mkdir()
        (root / "set.zip").write_bytes(DATA)
        download_archives(root, [replace(archive, size=len(DATA))])
        assert server.requests == []
        (root / ".download/lock").unlink(missing_ok=True)
        (root / ".download").rmdir()
        assert_unpacked(root, "set.zip")

    @pytest.mark.parametrize(
        ("data", "message"),
        [(DATA[:-1], "1,[0-9]+ bytes instead of 1,"), (b"#" * len(DATA), "not a zip file")],
        ids=["cut off", "not an archive"],  # or the names hold the time at which the archive was packed
    )
    def test_archive_put_by_hand_is_verified(
        self, root: Path, archive: Archive, server: Server, data: bytes, message: str
    ) -> None:
        root.mkdir()
        (root / "set.zip").write_bytes(data)
        with pytest.raises(DownloadError, match=rf"set\.zip: .*{message}.*\n(.*\n)*.*remove that file"):
            download_archives(root, [replace(archive, size=len(DATA))])
        assert server.requests == []
        assert (root / "set.zip").read_bytes() == data

    def test_interrupted_unpacking_continues_without_a_request(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(zipfile.ZipFile, "extract", interrupt)
            with pytest.raises(KeyboardInterrupt):
                download_archives(root, [archive])
        assert entries(root) == [".download/set.zip"]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert len(server.requests) == 1

    def test_second_process_waits(self, root: Path, archive: Archive, server: Server) -> None:
        (root / ".download").mkdir(parents=True)
        threads = [threading.Thread(target=download_archives, args=(root, [archive])) for _ in range(2)]
        with FileLock(root / ".download/lock"):
            for thread in threads:
                thread.start()
            threads[0].join(0.1)
            assert server.requests == []
        for thread in threads:
            thread.join(10)
        assert_unpacked(root)
        assert len(server.requests) == 1


class TestUnpacking:
    """Archives put by hand: unpacked as a whole or not at all."""

    @pytest.fixture
    def unpack(self, root: Path, archive: Archive):
        def unpack(data: bytes) -> None:
            root.mkdir(exist_ok=True)
            (root / "set.zip").write_bytes(data)
            download_archives(root, [archive])

        return unpack

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_the_folder_alone(self, root: Path, unpack, method: int) -> None:
        unpack(zipped({**IMAGES, "__MACOSX/Set/._1.png": b"", "beside.txt": b""}, method))
        assert {path.name for path in root.iterdir()} == {"Set", "set.zip", ".download"}
        assert {name: (root / name).read_bytes() for name in IMAGES} == IMAGES

    @pytest.mark.parametrize(
        "name", ["../evil.png", "Set/../../evil.png", "/evil.png", "C:/evil.png", "C:evil.png", "Set\\..\\evil.png"]
    )
    def test_refuses_paths_outside(self, root: Path, unpack, name: str) -> None:
        with pytest.raises(DownloadError, match="unsafe path"):
            unpack(zipped({**IMAGES, zipfile.ZipInfo(name): b"evil"}))
        assert not list(root.parent.rglob("*evil*"))
        assert not (root / "Set").exists()

    def test_a_link_becomes_a_plain_file(self, root: Path, unpack) -> None:
        link = zipfile.ZipInfo("Set/link")
        link.external_attr = 0o120777 << 16
        unpack(zipped({**IMAGES, link: b"/etc"}))
        assert not (root / "Set/link").is_symlink()
        assert (root / "Set/link").read_bytes() == b"/etc"

    def test_refuses_a_bomb(self, root: Path, unpack) -> None:
        with pytest.raises(DownloadError, match="would unpack to 1,048,576, as in a decompression bomb"):
            unpack(zipped({"Set/CXR_png/1.png": bytes(1 << 20)}, zipfile.ZIP_DEFLATED))
        assert not (root / "Set").exists()

    def test_refuses_an_encrypted_file(self, root: Path, unpack) -> None:
        data = bytearray(DATA)
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(signature) + offset] |= 1
        with pytest.raises(DownloadError, match=r"damaged: .*encrypted"):
            unpack(bytes(data))
        assert not (root / "Set").exists()

    def test_refuses_without_space(self, unpack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1199))
        with pytest.raises(DownloadError, match=r"1,199 free bytes in .*, of 1,200 that are needed"):
            unpack(DATA)

    def test_remains_of_a_killed_run_are_removed(self, root: Path, unpack) -> None:
        remains = root / ".Set.unpacking" / "Set" / "CXR_png" / "5.png"
        remains.parent.mkdir(parents=True)
        remains.write_bytes(b"half")
        unpack(DATA)
        assert {path.name for path in root.iterdir()} == {"Set", "set.zip", ".download"}
        assert len(list(root.glob("Set/CXR_png/*"))) == 3


def test_official_archives() -> None:
    montgomery, shenzhen = OFFICIAL_ARCHIVES
    assert montgomery.url == "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip"
    assert shenzhen.url == "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"
    assert (montgomery.folder, shenzhen.folder) == ("MontgomerySet", "ChinaSet_AllFiles")
    assert (montgomery.contents["CXR_png/*.png"], shenzhen.contents["CXR_png/*.png"]) == (138, 662)
    assert (montgomery.size, shenzhen.size) == (616_853_875, None)
