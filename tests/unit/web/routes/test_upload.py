"""An image that is sent and screened at once."""

from __future__ import annotations

import errno
import io
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest
from PIL import Image

from anomalib_cxr.errors import LockedWorklistError, ScreeningError
from anomalib_cxr.screening.case import case_images
from anomalib_cxr.web import forms
from anomalib_cxr.web.app import create_app
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
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
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


def test_nothing_is_left_of_one_that_cannot_be_listed(browse, worklist, folder):
    """Its images are written before its row, which another program keeps from being written."""
    before = set(worklist.folder.rglob("*.png"))

    def screen(path):
        heatmap, layers = case_images(str(path), sha256(path.read_bytes()).hexdigest())
        for name in (heatmap, f"{layers}-heat.png", f"{layers}-lungs.png"):
            (worklist.folder / name).parent.mkdir(exist_ok=True)
            (worklist.folder / name).touch()
        raise LockedWorklistError("locked", "free", "wait")

    assert send(browse(worklist, screen), png()).status_code == 422
    assert set(worklist.folder.rglob("*.png")) == before


def test_file_is_removed_when_the_screener_fails(browse, worklist, folder):
    client = browse(worklist, lambda path: 1 / 0, raise_server_exceptions=False)
    assert send(client, png()).status_code == 500
    assert list(folder.iterdir()) == []


class TestBounds:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(forms, "MAX_UPLOAD", 1000)

    def test_small_enough(self, sender):
        assert send(sender, bytes(1000)).status_code == 303

    def test_too_large(self, sender, folder):
        answer = send(sender, bytes(1000 + forms.MAX_FORM))
        assert answer.status_code == 413
        assert "Too large" in answer.text
        assert not folder.exists()

    def test_too_large_without_saying_so(self, sender, folder):
        csrf = re.search(r'name="csrf" value="(\w+)"', sender.get("/").text)[1]

        def stream():
            yield b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + csrf.encode() + b"\r\n--x\r\n"
            yield b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
            for _ in range(20):
                yield bytes(forms.MAX_FORM)
            yield b"\r\n--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert sender.post("/upload", content=stream(), headers=headers).status_code == 413
        assert not folder.exists()


KILLED = """
import os, sys
from hashlib import sha256
from pathlib import Path
from starlette.testclient import TestClient
from anomalib_cxr.screening.case import case_images
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.files import unfinished_path
from anomalib_cxr.web.app import create_app

def die(path):
    heatmap, layers = case_images(str(path), sha256(path.read_bytes()).hexdigest())
    for name in (heatmap, f"{layers}-heat.png", unfinished_path(Path(f"{layers}-lungs.png"))):
        file = path.parents[1] / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"an image of a patient")
    os._exit(9)

app = create_app(Worklist(sys.argv[1]), die)
client = TestClient(app, base_url="http://localhost")
csrf = client.get("/").text.split('name="csrf" value="')[1].split('"')[0]
client.post("/upload", data={"csrf": csrf}, files={"image": ("chest.png", b"an image of a patient")})
"""


class TestKilledServer:
    @pytest.fixture
    def left(self, worklist, folder):
        """An upload whose server died while it was screened."""
        ended = subprocess.run([sys.executable, "-c", KILLED, worklist.folder], check=False)  # noqa: S603
        assert ended.returncode == 9
        assert len(self.images_in(worklist)) == 4

    def images_in(self, worklist):
        """Files of uploads, heatmaps and layers with what the killed server wrote."""
        files = [file for file in worklist.folder.rglob("*") if file.is_file() and "sqlite" not in file.name]
        return [file for file in files if file.read_bytes() == b"an image of a patient"]

    def test_the_next_one_removes_what_it_left(self, left, sender, worklist, folder):
        assert self.images_in(worklist) == []
        assert list(folder.iterdir()) == []
        assert send(sender, png()).status_code == 303

    def test_what_is_a_case_stays(self, browse, worklist, screen, folder):
        send(browse(worklist, screen), png())
        (file,) = folder.iterdir()
        (folder / f".{file.stem}.lock").touch()  # killed just after the case was written
        browse(worklist, screen)
        assert list(folder.iterdir()) == [file]

    def test_what_another_server_screens_stays(self, browse, worklist, screen, folder):
        def screen_slowly(path):
            browse(worklist, screen)  # another server starts meanwhile
            screen(path)

        assert send(browse(worklist, screen_slowly), png()).status_code == 303
        assert len(list(folder.iterdir())) == 1


def test_a_slow_screening_holds_no_other_page(worklist, screen, listening):
    """Uploads wait for each other, more of them than there are threads; pages and verdicts do not wait."""
    go_on, n_uploads = threading.Event(), 45

    def screen_slowly(path):
        go_on.wait(60)
        screen(path)

    with listening(create_app(worklist, screen_slowly)) as port, ThreadPoolExecutor(n_uploads) as threads:
        base = f"http://localhost:{port}"
        with httpx.Client(base_url=base, timeout=60) as client:
            csrf = {"csrf": re.search(r'name="csrf" value="(\w+)"', client.get("/case/1").text)[1]}

            def upload(_):
                return client.post("/upload", data=csrf, files={"image": ("chest.png", png())}).status_code

            answers = threads.map(upload, range(n_uploads))
            while not list((worklist.folder / "uploads").glob("*.png")):  # the first one is being screened
                time.sleep(0.05)
            try:
                assert client.get("/").status_code == client.get("/case/1/xray.png").status_code == 200
                form = {**csrf, "verdict": "normal", "reader": "Ada", "content": worklist.case(1).content}
                assert client.post("/case/1/verdict", data=form).status_code == 303
            finally:
                go_on.set()
            assert set(answers) == {303}
    assert worklist.count() == 4 + n_uploads


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
