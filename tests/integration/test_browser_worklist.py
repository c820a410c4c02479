"""The page in a real browser: from an image that is sent, by looks and keys, to its verdict and the export."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.web.app import create_app

from .browser import CHROMIUM, Drawn, Seen, launched, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
SIZES = {"desk": (1280, 800), "tablet": (1024, 768), "upright": (768, 1024)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    drawn = Drawn(tmp_path_factory.mktemp("browser"))
    for path in drawn.images:
        drawn.screen(path)
    refused = Case("/archive/knee.png", 1, 1, Decision.REFUSED, why="not a chest X-ray: no two lungs were found")
    drawn.worklist.add([refused])
    return drawn


@pytest.fixture(scope="module")
def address(drawn):
    """The real server, in a thread of its own."""
    app = create_app(drawn.worklist, lambda path: drawn.screen(path, drawn.images[6].stem))
    with serving(app) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(30_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Where pictures of the pages go; the environment can name a folder that stays."""
    return Path(os.environ.get("PAGE_PICTURES") or tmp_path_factory.mktemp("shots"))


def width_of(page, layer):
    """Wait for an image, and return its width."""
    return page.locator(f"#{layer}").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }")


def case_of(page):
    return int(re.search(r"/case/(\d+)", page.url)[1])


def look(page, file):
    """Return what is drawn in the view, (H, W, 3)."""
    page.mouse.move(0, 0)
    page.locator("#view").screenshot(path=file)
    return np.asarray(Image.open(file).convert("RGB")).astype(float)


def slide(page, name, value):
    page.evaluate(
        "([id, value]) => { const input = document.getElementById(id); input.value = value;"
        " input.dispatchEvent(new Event('input')); }",
        [name, value],
    )


def drag(page, dx, dy):
    box = page.locator("#view").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def color(picture):
    """How much red there is beyond blue."""
    return (picture[..., 0] - picture[..., 2]).max()


def test_whole_round(page, address, drawn, tmp_path):
    seen = Seen(page)
    file = tmp_path / "view.png"
    page.goto(address)
    page.get_by_label("Screen one image").set_input_files(drawn.images[6])
    page.get_by_role("button", name="Screen", exact=True).click()
    page.wait_for_url("**/case/*")
    number = case_of(page)
    assert Path(drawn.worklist.case(number).path).read_bytes() == drawn.images[6].read_bytes()
    assert [width_of(page, layer) for layer in ("xray", "heat", "lungs")] == [256] * 3

    # Heat by its slider, and without it the X-ray as it is.
    slide(page, "opacity", 90)
    assert color(look(page, file)) > 60
    slide(page, "opacity", 0)
    assert color(look(page, file)) == 0

    # From case to case by keys, within the list that was chosen.
    page.goto(address)
    order = [number for number, case in drawn.worklist.find() if case.decision is Decision.TO_READ]
    page.get_by_role("row").nth(1).get_by_role("link").click()
    page.wait_for_url(f"**/case/{order[0]}?*")
    for key, place in [("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowLeft", 0)]:
        page.keyboard.press(key)
        page.wait_for_url(f"**/case/{order[place]}?*")

    # A verdict by key: not without a name, and not while a note is written.
    page.keyboard.press("2")
    assert drawn.worklist.verdicts() == []
    page.get_by_label("Reader").fill("Dr 1 Ada")
    page.get_by_label("Note").fill("1 of 2 zones")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.wait_for_url(f"**/case/{order[1]}?*")
    assert f"Saved: abnormal for case {order[0]}" in page.get_by_role("status").inner_text()
    assert page.get_by_label("Reader").input_value() == "Dr 1 Ada"
    page.get_by_role("button", name="Unsure").click()
    page.wait_for_url(f"**/case/{order[2]}?*")
    page.goto(f"{address}/next-unread?decision=below_threshold")
    page.keyboard.press("1")
    page.wait_for_url("**saved=*")
    given = [(record.case_id, record.verdict, record.note, record.reader) for record in drawn.worklist.verdicts()]
    below = next(number for number, case in drawn.worklist.find() if case.decision is Decision.BELOW_THRESHOLD)
    assert given == [
        (order[0], Verdict.ABNORMAL, "1 of 2 zones", "Dr 1 Ada"),
        (order[1], Verdict.UNSURE, "", "Dr 1 Ada"),
        (below, Verdict.NORMAL, "", "Dr 1 Ada"),
    ]

    # What comes of it.
    page.get_by_role("link", name="Agreement").click()
    assert "readers called 1 of 2 abnormal" in page.locator("main").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Verdicts as CSV").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as table:
        assert [(int(row["case"]), row["verdict"]) for row in csv.DictReader(table)] == [
            (number, verdict.value) for number, verdict, *_ in given
        ]
    assert seen.hosts == {urlsplit(address).netloc}
    assert seen.complaints == []


def test_picture_is_handled_by_mouse_and_keys(page, address, drawn, tmp_path):
    file = tmp_path / "view.png"
    page.goto(f"{address}/case/1?decision=all", wait_until="networkidle")
    plain = look(page, file)

    # Window and level by dragging: a wider window is flatter, a lower level is brighter; then all as before.
    drag(page, 150, 0)
    assert look(page, file).std() < 0.9 * plain.std()
    page.keyboard.press("r")
    drag(page, 0, -60)
    assert look(page, file).mean() > plain.mean() + 5
    page.keyboard.press("r")
    assert np.array_equal(look(page, file), plain)
    page.keyboard.press("i")
    inside = plain.mean(-1) > 60
    assert np.corrcoef(look(page, file)[inside].ravel(), plain[inside].ravel())[0, 1] < -0.9
    page.keyboard.press("r")

    # Zoom by the wheel and by key, lungs by key.
    page.mouse.move(400, 400)
    page.mouse.wheel(0, -400)
    page.locator("#stage[style*='scale(2.7']").wait_for(state="attached")
    page.keyboard.press("r")
    page.keyboard.press("+")
    assert "scale(1.25)" in page.locator("#stage").get_attribute("style")
    page.keyboard.press("r")
    page.keyboard.press("l")
    assert (np.abs(look(page, file) - plain).max(-1) > 30).sum() > 200


def test_a_verdict_on_an_xray_that_was_replaced_is_refused(page, address, drawn, shots):
    file = drawn.root / "replaced.png"
    shutil.copy(drawn.images[0], file)
    drawn.screen(file, drawn.images[0].stem)
    former = drawn.worklist.number_of(file)
    page.goto(f"{address}/case/{former}?decision=all")
    page.get_by_label("Reader").fill("Dr Ada")
    page.get_by_role("button", name="Normal 1").click()
    page.wait_for_url("**saved=*")
    page.goto(f"{address}/case/{former}?decision=all")
    page.get_by_label("Note").fill("clear on both sides")

    shutil.copy(drawn.images[5], file)  # of another patient
    drawn.screen(file, drawn.images[5].stem)
    now = drawn.worklist.number_of(file)
    page.get_by_role("button", name="Normal 1").click()
    page.get_by_role("heading", name="Not saved").wait_for()
    assert page.get_by_text("clear on both sides").is_visible()
    page.screenshot(path=shots / "changed.png")
    assert [record.note for record in drawn.worklist.verdicts(former)] == [""]
    assert drawn.worklist.verdicts(now) == []

    page.get_by_role("link", name=f"Open case {now}").click()
    assert width_of(page, "xray") == 256
    assert page.get_by_text("Another X-ray was in this file until").is_visible()
    assert page.get_by_text("Dr Ada").is_visible()
    page.screenshot(path=shots / "history.png")
    page.get_by_role("link", name=f"case {former}", exact=True).click()
    page.get_by_text("Replaced: no verdict").wait_for()
    page.get_by_text("has another X-ray now").wait_for()
    assert page.get_by_role("button", name="Normal 1").count() == 0
    page.screenshot(path=shots / "superseded.png")


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_can_be_read_aloud(page, address, drawn, shots, size):
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    seen = Seen(page)
    sick, refused = (drawn.worklist.number_of(path) for path in (drawn.images[6], "/archive/knee.png"))
    paths = {
        "table": "/?decision=all",
        "case": f"/case/{sick}?decision=all",
        "refused": f"/case/{refused}?decision=all",
        "agreement": "/agreement",
    }
    for name, path in paths.items():
        page.goto(address + path, wait_until="networkidle")
        page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")
        page.screenshot(path=shots / f"{name}-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_by_text("For research. Not a medical device.").is_visible()
        unnamed = (
            "[...document.querySelectorAll('input:not([type=hidden]), textarea')].filter((each) => !each.labels[0])"
        )
        assert page.evaluate(f"{unnamed}.length") == 0
        assert page.evaluate("document.querySelectorAll('th:not([scope]), img:not([alt])').length") == 0
        assert page.evaluate("[...document.querySelectorAll('h1, main, html[lang]')].length") == 3
        if name == "case":
            view = page.locator("#view").bounding_box()
            assert min(view["width"], view["height"]) >= 0.5 * min(width, height)
            assert view["y"] + view["height"] <= height
    assert seen.complaints == []


def test_picture_that_is_gone_says_why(page, address, drawn):
    path = drawn.root / "gone.png"
    shutil.copy(drawn.images[0], path)
    drawn.screen(path, drawn.images[0].stem)
    path.unlink()
    page.goto(f"{address}/case/{drawn.worklist.number_of(path)}?decision=all")
    page.get_by_text("The X-ray cannot be opened any more").wait_for()
