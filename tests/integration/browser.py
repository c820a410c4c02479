"""Phantoms in a worklist whose results are known, its server, and a real browser."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from scipy.ndimage import gaussian_filter

from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.content import read_content
from anomalib_cxr.data.reading.radiograph import read_mask, read_radiograph
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.fingerprint import fingerprint_of
from anomalib_cxr.screening.pipeline.explanation import draw_heatmap, write_png
from anomalib_cxr.screening.worklist.store import Worklist

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Drawn:
    """Phantoms, screened by what is known of them."""

    def __init__(self, folder):
        self.root = write_phantoms(folder / "phantoms", n_normal=4, n_sick=4, size=256)
        self.worklist = Worklist(folder / "out", create=True)
        self.images = sorted((self.root / "CXR_png").iterdir())

    def screen(self, path, name=""):
        """Add a case whose heat is the painted lesion, blurred."""
        name = name or path.stem
        lesion = self.root / "lesions" / f"{name}.png"
        lungs = read_mask(self.root / "masks" / f"{name}.png").numpy().astype(float)
        heat = gaussian_filter(read_mask(lesion).numpy().astype(float), 9) if lesion.is_file() else np.zeros((256, 256))
        heat /= max(heat.max(), 1)
        write_png(heat, self.worklist.folder / f"layers/{path.stem}-heat.png")
        write_png(lungs, self.worklist.folder / f"layers/{path.stem}-lungs.png")
        picture = draw_heatmap(read_radiograph(path)[0].numpy(), heat, lungs)
        write_png(picture, self.worklist.folder / f"heatmaps/{path.stem}.png")
        content = read_content(path)
        index = int(name.split("_")[1])
        sick = lesion.is_file()
        score = 0.3 + 0.07 * index
        case = Case(
            str(path),
            **fingerprint_of(content)._asdict(),
            content=content.sha256,
            decision=Decision.TO_READ if sick else Decision.BELOW_THRESHOLD,
            score=score,
            raw_score=score,
            threshold=0.55,
            guarantee="At most 10 % of sick people are expected below the threshold, at 95 % confidence.",
            probability=0.1 * index + 0.02,
            p_value=0.01 if sick else 0.6,
            findings="More unusual than 99 % of healthy X-rays. Most of it in the left upper zone." if sick else "",
            source="picture",
            height=256,
            width=256,
            heatmap=f"heatmaps/{path.stem}.png",
            layers=f"layers/{path.stem}",
            model="0123456789abcdef" * 4,
            screened="2026-01-31T10:00:00+00:00",
        )
        self.worklist.add([case])


class Seen:
    """What a browser asked for, and what it complained of."""

    def __init__(self, page):
        self.hosts, self.complaints = set(), []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@contextmanager
def launched():
    """Start the system's Chromium."""
    with playwright.sync_playwright() as starter:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=root)
        yield browser
        browser.close()


@contextmanager
def serving(app):
    """Serve an application at a free port of this machine, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
