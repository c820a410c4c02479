"""Tests of fetching archives, against a server on this machine that can misbehave."""

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

import pytest
from filelock import FileLock

from anomalib_cxr.data.sources import transfer
from anomalib_cxr.data.sources.download import OFFICIAL_ARCHIVES, Archive, download_archives
from anomalib_cxr.data.sources.transfer import PartialFile, fetch
from anomalib_cxr.errors import DownloadError, SettingError


def zipped(number: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for index in range(number):
            file.writestr(f"Set/CXR_png/{index}.png", hashlib.shake_128(bytes([index])).digest(400))
    return buffer.getvalue()


DATA = zipped(3)
CUT = 700


@dataclass
class Server:
    """What the server offers, how it misbehaves, and the requests it has seen."""

    url: str
    data: bytes = DATA
    etag: str | None = '"one"'
    modified: str | None = None
    ignores_range: bool = False
    ignores_condition: bool = False
    shift: int = 0
    has_length: bool = True
    redirect: str | None = None
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # errors that the next answers are
    seen: list[Message] = field(default_factory=list)

    @property
    def ranges(self) -> list[str | None]:
        return [headers["Range"] for headers in self.seen]


class Handler(BaseHTTPRequestHandler):
    offer: Server

    def do_GET(self) -> None:
        offer = self.offer
        offer.seen.append(self.headers)
        if offer.redirect:
            self.send_response(302)
            self.send_header("Location", offer.redirect)
            offer.redirect = None
            self.end_headers()
        elif offer.statuses:
            self.send_error(offer.statuses.pop(0))
        else:
            self._send(*self._part())

    def _part(self) -> tuple[int, int]:
        offer, wanted = self.offer, self.headers["Range"]
        same = self.headers["If-Range"] in {offer.etag, offer.modified} or offer.ignores_condition
        if wanted is None or offer.ignores_range or not same:
            return 200, 0
        return 206, int(wanted.removeprefix("bytes=").removesuffix("-")) + offer.shift

    def _send(self, status: int, start: int) -> None:
        offer = self.offer
        body = offer.data[start:]
        self.send_response(status)
        if offer.has_length:
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(offer.data) - 1}/{len(offer.data)}")
        for name, value in (("ETag", offer.etag), ("Last-Modified", offer.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: offer.cuts.pop(0)] if offer.cuts else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0.0)
    handler = type("OfferHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        handler.offer = Server(f"http://127.0.0.1:{http.server_port}/set.zip")
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield handler.offer
        http.shutdown()


@pytest.fixture
def archive(server: Server) -> Archive:
    return Archive("Toy", server.url, "Set", {"CXR_png/*.png": 3})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(root: Path) -> list[str]:
    hidden = {".download.lock"}
    return sorted(path.name for path in root.iterdir() if path.name not in hidden)


def assert_unpacked(root: Path) -> None:
    """Compare with the archive as the standard library reads it; nothing else may be left."""
    assert files(root) == ["Set"]
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        for name in file.namelist():
            assert (root / name).read_bytes() == file.read(name)


def break_off(root: Path, archive: Archive, server: Server) -> None:
    """Leave the first CUT bytes of a transfer behind, as a killed run does."""
    server.cuts = [CUT, *[0] * 5]
    with pytest.raises(DownloadError, match=f"{CUT} bytes are kept in .*set.zip.part"):
        download_archives(root, [archive])
    assert (root / "set.zip.part").read_bytes() == DATA[:CUT]
    server.seen.clear()


class TestTransfer:
    def test_fetches_and_unpacks(self, root: Path, archive: Archive, server: Server) -> None:
        exact = replace(archive, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
        download_archives(root, [exact])
        assert_unpacked(root)
        assert server.ranges == [None]

    def test_goes_on_after_a_cut(self, root: Path, archive: Archive, server: Server) -> None:
        server.cuts = [CUT, 0, 100]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [None, f"bytes={CUT}-", f"bytes={CUT}-", f"bytes={CUT + 100}-"]
        assert [headers["If-Range"] for headers in server.seen] == [None, '"one"', '"one"', '"one"']

    def test_goes_on_in_a_later_run(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={CUT}-"]

    def test_starts_over_without_ranges(self, root: Path, archive: Archive, server: Server) -> None:
        server.cuts, server.ignores_range = [CUT], True
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [None, f"bytes={CUT}-"]

    @pytest.mark.parametrize("ignores_condition", [False, True])
    def test_starts_over_after_a_change(
        self, root: Path, archive: Archive, server: Server, ignores_condition: bool
    ) -> None:
        break_off(root, archive, server)
        (root / "set.zip.part").write_bytes(b"x" * CUT)  # the beginning of the former version
        server.etag, server.ignores_condition = '"two"', ignores_condition
        download_archives(root, [archive])
        assert_unpacked(root)

    @pytest.mark.parametrize("etag", ['W/"weak"', None])
    def test_goes_on_by_date(self, root: Path, archive: Archive, server: Server, etag: str | None) -> None:
        server.cuts, server.etag, server.modified = [CUT], etag, "Wed, 01 Jan 2014 00:00:00 GMT"
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.seen[1]["If-Range"] == server.modified

    def test_starts_over_where_versions_are_unknown(self, root: Path, archive: Archive, server: Server) -> None:
        server.cuts, server.etag = [CUT], None
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [None, None]

    def test_starts_over_after_a_wrong_range(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        server.shift = 5
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={CUT}-", None]

    def test_starts_over_after_416(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        server.statuses = [416]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [f"bytes={CUT}-", None]

    @pytest.mark.parametrize("note", ["", "{", "[]", '{"url": "https://example.org/"}'])
    def test_starts_over_with_a_damaged_note(self, root: Path, archive: Archive, server: Server, note: str) -> None:
        break_off(root, archive, server)
        (root / "set.zip.part.json").write_text(note)
        download_archives(root, [archive])
        assert_unpacked(root)
        assert server.ranges == [None]

    def test_starts_over_from_another_address(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        download_archives(root, [replace(archive, url=server.url.replace("/set.zip", "/other/set.zip"))])
        assert_unpacked(root)
        assert server.ranges == [None]

    def test_waits_for_a_busy_server(self, root: Path, archive: Archive, server: Server) -> None:
        server.statuses = [503, 429, 500]
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_pauses_grow(self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 1.0)
        monkeypatch.setattr(transfer.time, "sleep", pauses.append)
        server.statuses = [503] * 6
        with pytest.raises(DownloadError, match=r"HTTP 503 .*, 6 times in a row"):
            download_archives(root, [archive])
        assert pauses == [1, 2, 4, 8, 16]

    def test_attempts_count_anew_after_a_block(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_BLOCK", 100)
        server.cuts = [100] * 12
        download_archives(root, [archive])
        assert_unpacked(root)
        assert len(server.seen) == 13

    def test_silence_counts_as_broken(self, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.05)
        monkeypatch.setattr(transfer, "ATTEMPTS", 2)
        release = threading.Event()
        monkeypatch.setattr(Handler, "do_GET", lambda handler: release.wait(5))
        try:
            with pytest.raises(DownloadError, match="timed out, 2 times in a row"):
                fetch(server.url, PartialFile(tmp_path / "part"), lambda *_: None, lambda *_: None)
        finally:
            release.set()

    def test_refuses_404_at_once(self, root: Path, archive: Archive, server: Server) -> None:
        server.statuses = [404, 404]
        with pytest.raises(DownloadError, match=r"HTTP 404 Not Found from http.*\n.*\n.*put the file into .*data"):
            download_archives(root, [archive])
        assert len(server.seen) == 1
        assert files(root) == []

    def test_refuses_an_answer_without_length(self, root: Path, archive: Archive, server: Server) -> None:
        server.has_length = False
        with pytest.raises(DownloadError, match="without the length"):
            download_archives(root, [archive])

    def test_refuses_a_redirection_to_an_open_line(self, root: Path, archive: Archive, server: Server) -> None:
        server.redirect = server.url.replace("127.0.0.1", "127.1")  # this machine, by a name that is not known as such
        with pytest.raises(DownloadError, match=r"a redirection to http://127\.1:"):
            download_archives(root, [archive])

    @pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///a.zip"])
    def test_refuses_addresses_without_https(self, url: str) -> None:
        with pytest.raises(SettingError, match="an address by https"):
            Archive("Toy", url, "Set", {})


class TestChecks:
    @pytest.mark.parametrize("known", [{"size": len(DATA) + 1}, {"max_size": len(DATA) - 1}])
    def test_refuses_another_size_before_fetching(
        self, root: Path, archive: Archive, server: Server, known: dict[str, int]
    ) -> None:
        message = rf"of {len(DATA):,} bytes\n  expected: (exactly|at most) {next(iter(known.values())):,} bytes"
        with pytest.raises(DownloadError, match=message):
            download_archives(root, [replace(archive, **known)])
        assert files(root) == []

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (DATA[:-50], "not a zip file"),
            (DATA.replace(DATA[100:110], b"#" * 10), "Bad CRC-32"),
            (b"<html>please log in</html>", "not a zip file"),
            (zipped(2), r"Set in it has 2 of 3 CXR_png/\*\.png"),
        ],
        ids=["truncated", "corrupted", "page", "incomplete"],
    )
    def test_removes_a_fetched_file_that_is_unusable(
        self, root: Path, archive: Archive, server: Server, data: bytes, message: str
    ) -> None:
        server.data = data
        with pytest.raises(DownloadError, match=message):
            download_archives(root, [archive])
        assert files(root) == []
        server.data = DATA
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_refuses_another_checksum(self, root: Path, archive: Archive) -> None:
        with pytest.raises(DownloadError, match=f"sha256 {hashlib.sha256(DATA).hexdigest()} instead of 00"):
            download_archives(root, [replace(archive, sha256="00")])
        assert files(root) == []

    def test_refuses_without_room(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_off(root, archive, server)
        needed = 2 * len(DATA) - CUT
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
        with pytest.raises(DownloadError, match=rf"{needed - 1:,} free bytes.*\n.*at least {needed:,} for fetching"):
            download_archives(root, [archive])
        assert (root / "set.zip.part").stat().st_size == CUT
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
        download_archives(root, [archive])
        assert_unpacked(root)

    def test_names_a_root_that_cannot_be_written(self, tmp_path: Path, archive: Archive, server: Server) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DownloadError, match=r"room and permission to write in .*file"):
            download_archives(tmp_path / "file" / "data", [archive])
        assert server.seen == []

    def test_disk_that_fills_up_is_not_tried_again(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill_up(part: PartialFile, origin: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(PartialFile, "begin", fill_up)
        with pytest.raises(DownloadError, match="No space left on device"):
            download_archives(root, [archive])
        assert len(server.seen) == 1


class TestWhatIsThere:
    def test_complete_folder_needs_no_request(self, root: Path, archive: Archive, server: Server) -> None:
        (root / "Set" / "CXR_png").mkdir(parents=True)
        for index in range(3):
            (root / "Set" / "CXR_png" / f"{index}.png").touch()
        download_archives(root, [archive])
        assert server.seen == []
        assert sorted(path.name for path in root.iterdir()) == ["Set"]  # nothing written: the root may be read-only

    def test_incomplete_folder_is_left_alone(self, root: Path, archive: Archive, server: Server) -> None:
        (root / "Set").mkdir(parents=True)
        with pytest.raises(DownloadError, match=r"Set with 0 of 3 CXR_png/\*\.png\n(.*\n)*.*move .*Set away"):
            download_archives(root, [archive])
        assert server.seen == []

    def test_all_folders_are_looked_at_before_the_first_request(
        self, root: Path, archive: Archive, server: Server
    ) -> None:
        (root / "Other").mkdir(parents=True)
        with pytest.raises(DownloadError, match="Other with 0 of 3"):
            download_archives(root, [archive, replace(archive, folder="Other")])
        assert server.seen == []

    def test_archive_put_by_hand_is_used_and_kept(self, root: Path, archive: Archive, server: Server) -> None:
        break_off(root, archive, server)
        (root / "set.zip").write_bytes(DATA)
        download_archives(root, [replace(archive, size=len(DATA))])
        assert server.seen == []
        assert files(root) == ["Set", "set.zip"]

    @pytest.mark.parametrize(
        ("data", "message"), [(DATA[:-1], "1,[0-9]+ bytes instead of exactly"), (b"#" * len(DATA), "not a zip file")]
    )
    def test_archive_put_by_hand_is_checked(
        self, root: Path, archive: Archive, server: Server, data: bytes, message: str
    ) -> None:
        root.mkdir()
        (root / "set.zip").write_bytes(data)
        with pytest.raises(DownloadError, match=rf"set\.zip: .*{message}.*\n(.*\n)*.*remove that file"):
            download_archives(root, [replace(archive, size=len(DATA))])
        assert server.seen == []
        assert files(root) == ["set.zip"]

    def test_interrupted_unpacking_goes_on_without_a_request(
        self, root: Path, archive: Archive, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copyfileobj", interrupt)
            with pytest.raises(KeyboardInterrupt):
                download_archives(root, [archive])
        assert files(root) == ["set.zip.part", "set.zip.part.json"]
        download_archives(root, [archive])
        assert_unpacked(root)
        assert len(server.seen) == 1

    def test_second_process_waits_and_then_finds_it(self, root: Path, archive: Archive, server: Server) -> None:
        root.mkdir()
        threads = [threading.Thread(target=download_archives, args=(root, [archive])) for _ in range(2)]
        with FileLock(root / ".download.lock"):
            for thread in threads:
                thread.start()
            threads[0].join(0.1)
            assert server.seen == []
        for thread in threads:
            thread.join(10)
        assert_unpacked(root)
        assert len(server.seen) == 1


def test_official_archives() -> None:
    montgomery, shenzhen = OFFICIAL_ARCHIVES
    assert montgomery.url == "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip"
    assert shenzhen.url == "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip"
    assert (montgomery.folder, shenzhen.folder) == ("MontgomerySet", "ChinaSet_AllFiles")
    assert (montgomery.contents["CXR_png/*.png"], shenzhen.contents["CXR_png/*.png"]) == (138, 662)
    assert montgomery.has_size(616_853_875)
    assert not montgomery.has_size(616_853_874)
    assert shenzhen.has_size(3_770_000_000)
    assert not shenzhen.has_size(5_000_000_001)
