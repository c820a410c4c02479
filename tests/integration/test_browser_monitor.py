"""Monitoring in a real browser: drift that is made, seen."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.web.app import create_app

from .browser import CHROMIUM, Seen, launched, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
SIZES = {"desk": (1280, 800), "upright": (768, 1024)}


@pytest.fixture
def shots(tmp_path):
    folder = Path(os.environ.get("ANOMALIB_CXR_SHOTS", tmp_path / "shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def give_verdicts(worklist):
    below = [pair for pair in worklist.find() if pair[1].decision is Decision.BELOW_THRESHOLD][:30]
    for place, (number, case) in enumerate(below):
        verdict = Verdict.ABNORMAL if place == 0 else Verdict.NORMAL
        worklist.give_verdict(number, verdict, "Ada", content=case.content)


def test_drift_is_seen(fill_worklist, shots):
    worklist = fill_worklist(n=400, gray=-0.06, blurred=0.06)
    give_verdicts(worklist)
    with serving(create_app(worklist)) as address, launched() as browser:
        page = browser.new_page()
        seen = Seen(page)
        page.goto(address)
        page.get_by_role("link", name="Monitoring").click()
        assert "the calibration no longer describes" in page.get_by_role("status").inner_text()
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=shots / f"monitor-{size}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
        # The line of what came in lies above the calibration's where lungs are darker: at the left.
        expected, found = (
            page.locator(f"figure:has-text('Gray value') polyline.{name}").evaluate(
                "line => { let area = 0;"
                "for (const point of line.points) area += point.y; return area / line.points.length }"
            )
            for name in ("expected", "found")
        )
        assert found < expected - 5
        page.get_by_label("Weeks up to the newest X-ray").fill("1")
        page.get_by_role("button", name="Show").click()
        page.wait_for_url("**/monitor?weeks=1")
        with page.expect_download() as download:
            page.get_by_role("link", name="All figures as CSV").click()
        assert "lung_gray" in Path(download.value.path()).read_text(encoding="utf-8")
        assert seen.hosts == {urlsplit(address).netloc}
        assert seen.complaints == []
