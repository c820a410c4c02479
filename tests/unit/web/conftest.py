"""Worklists whose rows and pictures are known, and clients of their pages."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.accounts import Accounts, Role
from anomalib_cxr.web.app import create_app
from anomalib_cxr.web.server import server_config

PASSWORD = "a password that none guesses"  # noqa: S105
EVERYWHERE = "http://192.168.0.7:8765"
HEIGHT, WIDTH = 60, 40


def csrf_of(text):
    return re.search(r'name="csrf" value="([0-9a-f]+)"', text)[1]


def content_of(text):
    return re.search(r'name="content" value="(\w*)"', text)[1]


def draw_case(folder, name, probability, **facts):
    """Draw an X-ray with its layers: a bright right half, heat above, lungs in the middle."""
    gray = np.full((HEIGHT, WIDTH), 50, np.uint8)
    gray[:, WIDTH // 2 :] = 200
    path = folder / "images" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(gray).save(path)
    heat, lungs = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    heat[:8], lungs[4:12, 4:12] = 255, 255
    (folder / "layers").mkdir(exist_ok=True)
    for kind, layer in {"heat": heat, "lungs": lungs}.items():
        Image.fromarray(layer).save(folder / "layers" / f"{name}-{kind}.png")
    Image.fromarray(np.stack([gray] * 3, -1)).save(folder / "layers" / f"{name}.png")
    known = {
        "decision": Decision.TO_READ if probability >= 0.3 else Decision.BELOW_THRESHOLD,
        "score": probability / 2,
        "raw_score": probability / 2,
        "threshold": 0.15,
        "guarantee": "At most 5 % of sick people are expected below the threshold, at 95 % confidence.",
        "p_value": 1 - probability / 1.01,
        "findings": "Unusual in the left upper zone.",
        "study_uid": f"1.2.{name}",
        "sop_uid": f"1.3.{name}",
        "height": HEIGHT,
        "width": WIDTH,
        "heatmap": f"layers/{name}.png",
        "layers": f"layers/{name}",
        "model": "f" * 64,
        "screened": "2026-01-31T10:00:00+00:00",
    }
    return rescreened(Case(str(path), 0, 0, **{**known, "probability": probability, **facts}))


def rescreened(case):
    """A case with the content that its file has now."""
    content = read_content(case.file)
    return replace(case, **fingerprint_of(content)._asdict(), content=content.sha256)


@pytest.fixture
def worklist(tmp_path):
    """Cases 1 to 3 with falling probability, and 4, which was refused."""
    worklist = Worklist(tmp_path / "out", create=True)
    cases = [draw_case(worklist.folder, f"c{index}", share) for index, share in enumerate((0.9, 0.5, 0.02), start=1)]
    worklist.add([*cases, Case("/far/away.png", 1, 1, Decision.REFUSED, why="not a chest <X-ray>")])
    return worklist


class Client(TestClient):
    """A browser that does as the forms on the page say."""

    def submit(self, address, page="/", **fields):
        """Send a form with what the page before it holds."""
        csrf = csrf_of(self.get(page).text)
        files = fields.pop("files", None)
        return self.post(address, data={"csrf": csrf, **fields}, files=files, follow_redirects=False)

    def sign_in(self, name="Root", password=PASSWORD):
        return self.submit("/login", "/login", name=name, password=password)

    def give(self, number, verdict="abnormal", note="", reader="Ada", query="decision=all"):
        page = f"/case/{number}?{query}"
        form = {"verdict": verdict, "note": note, "reader": reader, "content": content_of(self.get(page).text)}
        return self.submit(f"/case/{number}/verdict?{query}", page, **form)


@pytest.fixture
def browse():
    """Open a worklist as a browser on the same machine does."""

    def browse(worklist, screen=None, accounts=None, base_url="http://localhost:8765", **settings):
        return Client(create_app(worklist, screen, accounts), base_url=base_url, **settings)

    return browse


@pytest.fixture(scope="session")
def hashed_accounts(tmp_path_factory):
    """Accounts of the reader Ada and of the admin Root, hashed once."""
    accounts = Accounts(tmp_path_factory.mktemp("accounts"))
    for name, role in {"Ada": Role.READER, "Bob": Role.READER, "Root": Role.ADMIN}.items():
        accounts.add(name, role, PASSWORD)
    return accounts


@pytest.fixture
def accounts(hashed_accounts, worklist):
    """The same accounts in the worklist of a test."""
    shutil.copy(hashed_accounts.file, worklist.folder)
    return Accounts(worklist.folder)


@pytest.fixture
def outside(browse, worklist, accounts):
    """A client that reaches the server from another machine."""
    return browse(worklist, accounts=accounts, base_url=EVERYWHERE)


@pytest.fixture
def client(browse, worklist):
    return browse(worklist)


@pytest.fixture
def screen(worklist):
    """Screens by the file's mean brightness, and refuses what is no image."""

    def screen(path):
        try:
            bright = float(np.asarray(Image.open(path).convert("L")).mean()) / 255
            facts = {
                "decision": Decision.TO_READ,
                "score": bright,
                "raw_score": bright,
                "probability": bright,
                "height": 32,
                "width": 32,
            }
        except OSError:
            facts = {"decision": Decision.REFUSED, "why": "not readable"}
        worklist.add([rescreened(Case(str(path), 0, 0, **facts))])

    return screen


@pytest.fixture
def listening():
    """Serve an application as `serve` does, at a port of this machine, and lend the port."""

    @contextmanager
    def run(app, tls=None):
        server = uvicorn.Server(server_config(app, tls))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield listener.getsockname()[1]  # connections wait in its queue until the server has started
            finally:
                server.should_exit = True
                thread.join(30)

    return run
