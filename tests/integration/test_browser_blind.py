"""Two readers, signed in, read blind in a real browser; then the admin sees how they agree."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anomalib_cxr.screening.case import Decision
from anomalib_cxr.web.accounts import Accounts, Role
from anomalib_cxr.web.app import create_app
from anomalib_cxr.web.blind.reading import BlindReadings

from .browser import CHROMIUM, Drawn, Seen, launched, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PASSWORD = "a password that none guesses"  # noqa: S105


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    drawn = Drawn(tmp_path_factory.mktemp("blind"))
    for path in drawn.images[2:6]:
        drawn.screen(path)
    accounts = Accounts(drawn.worklist.folder)
    for name, role in {"Dr. Ada": Role.READER, "Dr. Bob": Role.READER, "Dr. Root": Role.ADMIN}.items():
        accounts.add(name, role, PASSWORD)
    BlindReadings(drawn.worklist).open(seed=1)
    return drawn


@pytest.fixture(scope="module")
def address(drawn):
    with serving(create_app(drawn.worklist, accounts=Accounts(drawn.worklist.folder))) as address:
        yield address


def sign_in(page, address, name):
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def test_two_readers_and_their_agreement(drawn, address, tmp_path):
    shots = Path(os.environ.get("PAGE_PICTURES") or tmp_path)
    reading = BlindReadings(drawn.worklist).load()
    sick = [drawn.worklist.case(case.number).decision is Decision.TO_READ for case in reading.cases]
    assert sorted(sick) == [False, False, True, True]
    with launched() as browser:
        for name, calls in {"Dr. Ada": sick, "Dr. Bob": [True, *sick[1:]]}.items():
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            seen, paths, sources = Seen(page), [], []
            page.on("request", lambda request, paths=paths: paths.append(urlsplit(request.url).path))
            sign_in(page, address, name)
            assert urlsplit(page.url).path == "/blind"
            page.screenshot(path=shots / "blind-list.png")
            page.get_by_role("link", name="Open the next unread X-ray").click()
            for position, is_sick in enumerate(calls, start=1):
                page.wait_for_url(f"**/blind/{position}")
                page.locator("#xray").evaluate("(image) => image.decode()")
                sources.append(page.content())
                if position == 1:
                    page.screenshot(path=shots / "blind.png")
                page.keyboard.press("2" if is_sick else "1")
            page.get_by_text("You have read all X-rays").wait_for()
            blind = [path for path in paths if not path.startswith(("/static", "/blind", "/login"))]
            assert blind in (["/"], ["/", "/"])  # which led to the reading
            words = [
                word
                for word in ("heat", "PHANTOM", "threshold", "Probability", "zone")
                for text in sources
                if word in text
            ]
            assert words == []
            page.get_by_role("main").get_by_role("link", name="Worklist").click()
            page.get_by_role("heading", name="Worklist").wait_for()
            assert seen.complaints == []
            page.context.close()
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        sign_in(page, address, "Dr. Root")
        page.get_by_role("link", name="Readers").click()
        row = page.get_by_role("row", name="kappa")
        expected = "1.00" if sick[0] else "0.50"  # of four X-rays, Bob called the first one abnormal, too
        assert expected in row.inner_text()
        page.screenshot(path=shots / "readers.png")
