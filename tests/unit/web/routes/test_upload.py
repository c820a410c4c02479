"""An image that is sent and screened at once."""

from __future__ import annotations

import errno
import io
import re

import pytest
from PIL import Image

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.web import security
from anomalib_cxr.web.routes import upload


def png(gray=128):
    file = io.BytesIO()
    Image.new("L", (32, 32), gray).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def sender(browse, worklist, screen):
    return browse(worklist, screen)


@pytest.fixture
def folder(worklist):
    return worklist.folder / "uploads"


def send(client, content, name="chest.png", page="/"):
    return client.submit("/upload", page, files={"image": (name, content)})


def test_is_screened_and_its_viewer_opens(sender, worklist, folder):
    answer = send(sender, png(204))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/case/5?decision=all")
    (file,) = folder.iterdir()
    assert file.read_bytes() == png(204)
    assert worklist.case(5).path == str(file)
    assert "80 %" in sender.get("/case/5").text
    assert sender.get("/case/5/xray.png").status_code == 200


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("Jane Doe.PNG", ".png"),
        ("../../../../tmp/x.dcm", ".dcm"),
        ("x.php", ""),
        ("x.png.exe", ""),
        ("noname", ""),
        ("C:\\x\\y.jpeg", ".jpeg"),
    ],
)
def test_name_on_disk_is_our_own(sender, folder, name, suffix):
    assert send(sender, png(), name).status_code == 303
    (file,) = folder.iterdir()
    assert re.fullmatch(rf"[0-9a-f]{{32}}{re.escape(suffix)}", file.name)


def test_unreadable_one_becomes_a_refused_case(sender):
    answer = send(sender, b"no image")
    assert answer.status_code == 303
    assert "not readable" in sender.get(answer.headers["Location"]).text


@pytest.mark.parametrize("files", [None, {"image": ("chest.png", b"")}, {"other": ("chest.png", b"x")}])
def test_without_a_file(sender, folder, files):
    answer = sender.submit("/upload", files=files)
    assert answer.status_code == 400
    assert "Choose a file" in answer.text
    assert not folder.exists()


def test_one_that_the_screener_cannot_take(browse, worklist, folder):
    def screen(path):
        raise ScreeningError(path.name, "another", "try again")

    answer = send(browse(worklist, screen), png())
    assert answer.status_code == 422
    assert "was not saved" in answer.text
    assert list(folder.iterdir()) == []


def test_one_that_never_reached_the_list(browse, worklist, folder):
    assert send(browse(worklist, lambda path: None), png()).status_code == 422
    assert list(folder.iterdir()) == []


def test_file_is_removed_when_the_screener_fails(browse, worklist, folder):
    client = browse(worklist, lambda path: 1 / 0, raise_server_exceptions=False)
    assert send(client, png()).status_code == 500
    assert list(folder.iterdir()) == []


class TestBounds:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(security, "MAX_UPLOAD", 1000)

    def test_small_enough(self, sender):
        assert send(sender, bytes(1000)).status_code == 303

    def test_too_large(self, sender, folder):
        answer = send(sender, bytes(1000 + security.MAX_FORM))
        assert answer.status_code == 413
        assert "Too large" in answer.text
        assert not folder.exists()

    def test_too_large_without_saying_so(self, sender, folder):
        csrf = re.search(r'name="csrf" value="(\w+)"', sender.get("/").text)[1]

        def stream():
            yield b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + csrf.encode() + b"\r\n--x\r\n"
            yield b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
            for _ in range(20):
                yield bytes(security.MAX_FORM)
            yield b"\r\n--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert sender.post("/upload", content=stream(), headers=headers).status_code == 413
        assert not folder.exists()


def test_full_disk_is_told(sender, folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(upload.shutil, "copyfileobj", full)
    answer = send(sender, png())
    assert answer.status_code == 507
    assert "No space left on device" in answer.text
    assert list(folder.iterdir()) == []


def test_broken_form(sender):
    sender.get("/")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert sender.post("/upload", content=b"nothing of the kind", headers=headers).status_code in {400, 403}


def test_no_form_without_a_screener(client):
    assert 'id="upload"' not in client.get("/").text
    assert send(client, png(), page="/case/1").status_code == 404


def test_needs_the_token_of_the_page(sender, folder):
    sender.get("/")
    assert sender.post("/upload", files={"image": ("a.png", png())}).status_code == 403
    assert not folder.exists()
