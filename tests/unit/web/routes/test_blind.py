"""Pages of a blind reading: a reader sees X-rays and their own verdicts, and nothing of the model or of others."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from tests.unit.web.conftest import EVERYWHERE, PASSWORD, content_of, csrf_of, draw_case, rescreened

from anomalib_cxr.screening.case import Verdict
from anomalib_cxr.web.blind.reading import BlindReadings

# What cases 1 to 3 have of the model, of their names and of others, in any format of the pages.
SECRETS = (
    *("heat", "lungs", "thumbnail", "c1.png", "c2.png", "c3.png", "1.2.c", "1.3.c", "ffffffffffff", "2026-01-31"),
    *("0.45", "0.25", "0.15", "90 %", "50 %", "2.0 %", "Unusual", "zone", "sick people", "threshold", "To be read"),
    *("refused", "Probability", "p-value", "Score", "Bob", "Carl", "/case/"),
)


@pytest.fixture
def reading(worklist, accounts):
    worklist.add([draw_case(worklist.folder, "c3b", 0.7)])
    worklist.give_verdict(1, Verdict.ABNORMAL, "Carl", "seen by Carl", content=worklist.case(1).content)
    readings = BlindReadings(worklist)
    readings.open(0)
    return readings


@pytest.fixture
def ada(outside, reading):
    outside.sign_in("Ada")
    return outside


@pytest.fixture
def bob(outside, reading):
    other = outside.__class__(outside.app, base_url=EVERYWHERE)
    other.sign_in("Bob")
    return other


def give(client, position, verdict, note=""):
    page = f"/blind/{position}"
    form = {"verdict": verdict, "note": note, "content": content_of(client.get(page).text)}
    return client.submit(f"{page}/verdict", page, **form)


def routes_of(app):
    """All addresses of the application, with numbers of cases that exist."""
    schema = app.openapi()
    return [re.sub(r"\{(number|position)\}", "1", path).replace("{kind}", "heat") for path in schema["paths"]]


class TestNothingLeaks:
    def test_pages_of_the_reading(self, ada, bob):
        give(bob, 2, "abnormal", "seen by Bob")
        for path in ("/blind", "/blind/1", "/blind/2", "/blind/4", "/blind/9"):
            answer = ada.get(path)
            words = answer.text + str(answer.headers)
            assert [secret for secret in SECRETS if secret.lower() in words.lower()] == [], path

    def test_every_other_page_is_closed_new_ones_too(self, ada, worklist):
        app = ada.app
        app.state.uploads = None
        app.add_api_route("/a-new-page", lambda: "Unusual")
        paths = [path for path in routes_of(app) if not path.startswith("/blind")]
        assert {"/case/1", "/case/1/heat.png", "/agreement", "/verdicts.csv", "/readers", "/next-unread"} <= set(paths)
        for path in [*paths, "/a-new-page", "/case/1/xray.png", "/?decision=refused", "/next-unread?decision=all"]:
            if path.split("?")[0] in ("/health", "/login", "/logout"):
                continue
            auth = ("Ada", PASSWORD) if path in ("/api/score", "/metrics") else None
            answers = [send(path, auth=auth, follow_redirects=False) for send in (ada.get, ada.post)]
            for answer in answers:
                assert answer.status_code in (303, 403, 405), path
                assert answer.headers.get("Location", "/blind") == "/blind"
                assert not [secret for secret in SECRETS if secret in answer.text], path
        assert [record.reader for record in worklist.verdicts()] == ["Carl"]

    def test_a_verdict_by_the_ordinary_form_is_not_taken(self, ada, worklist):
        form = {"csrf": csrf_of(ada.get("/blind/1").text), "verdict": "normal", "content": worklist.case(1).content}
        assert ada.post("/case/1/verdict", data=form).status_code == 403
        assert len(worklist.verdicts()) == 1

    def test_pictures_are_the_xray_alone(self, ada, reading, worklist):
        for position, blind in enumerate(reading.load().cases, start=1):
            picture = Image.open(io.BytesIO(ada.get(f"/blind/{position}/xray.png").content))
            assert picture.mode == "L"
            assert picture.info == {}
            expected = np.asarray(Image.open(worklist.case(blind.number).file))
            assert np.array_equal(np.asarray(picture), expected)
            values = Image.open(io.BytesIO(ada.get(f"/blind/{position}/values.png").content))
            assert np.array_equal(np.asarray(values), expected)
            assert json.loads(values.info.pop("values"))["function"] == "LINEAR_EXACT"
            assert values.info == {}
        for kind in ("heat", "lungs", "thumbnail"):
            assert ada.get(f"/blind/1/{kind}.png").status_code == 404

    def test_a_picture_that_is_gone_does_not_name_its_file(self, ada, reading, worklist):
        case = worklist.case(reading.load().cases[0].number)
        case.file.unlink()
        answer = ada.get("/blind/1/xray.png")
        assert answer.status_code == 404
        assert answer.text == "This X-ray cannot be shown at the moment. Tell an admin."

    def test_without_accounts_nothing_is_shown(self, browse, worklist, reading):
        client = browse(worklist)
        assert client.get("/").status_code == 403
        assert client.get("/case/1").status_code == 403
        assert client.get("/health").status_code == 200


def test_from_the_first_to_the_last(ada, worklist, reading):
    assert ada.get("/", follow_redirects=False).headers["Location"] == "/blind"
    assert "4 of 4 X-rays are unread" in ada.get("/blind").text
    assert give(ada, 2, "abnormal", "left").headers["Location"] == "/blind/3"
    assert give(ada, 4, "normal").headers["Location"] == "/blind/1"
    assert give(ada, 2, "unsure").headers["Location"] == "/blind/3"
    assert "Your last one: <span" in ada.get("/blind/2").text
    assert give(ada, 1, "normal").headers["Location"] == "/blind/3"
    assert ada.get("/case/1").status_code == 403
    assert give(ada, 3, "abnormal").headers["Location"] == "/blind"
    assert "You have read all X-rays" in ada.get("/blind").text
    assert ada.get("/case/1?decision=all").status_code == 200
    records = [record for record in worklist.verdicts() if record.reader == "Ada"]
    numbers = [blind.number for blind in reading.load().cases]
    assert [(numbers.index(record.case_id) + 1, record.verdict.value) for record in records] == [
        (2, "abnormal"), (4, "normal"), (2, "unsure"), (1, "normal"), (3, "abnormal"),
    ]  # fmt: skip


def test_who_does_not_read_blind_sees_all_but_the_reading(outside, reading):
    outside.sign_in("Root")
    assert outside.get("/case/1").status_code == 200
    assert outside.get("/blind").status_code == 404
    assert 'href="/readers"' in outside.get("/").text


def test_an_xray_that_was_replaced_is_told(ada, reading, worklist):
    case = worklist.case(reading.load().cases[0].number)
    Image.new("L", (40, 60), 9).save(case.file)
    content = content_of(ada.get("/blind/1").text)
    worklist.add([rescreened(case)])
    assert ada.get("/blind/1").status_code == 409
    assert "3 of 4 X-rays are unread" in ada.get("/blind").text
    form = {"csrf": csrf_of(ada.get("/blind/2").text), "verdict": "normal", "content": content}
    assert ada.post("/blind/1/verdict", data=form).status_code == 409


class TestReaders:
    @pytest.fixture
    def root(self, outside, ada, bob):
        for position, (first, second) in enumerate(
            [("normal", "normal"), ("abnormal", "abnormal"), ("abnormal", "normal"), ("normal", "normal")], start=1
        ):
            give(ada, position, first, "=1+1" if position == 1 else "")
            give(bob, position, second)
        root = outside.__class__(outside.app, base_url=EVERYWHERE)
        root.sign_in("Root")
        return root

    def test_is_for_admins(self, root, ada):
        for path in ("/readers", "/readers/agreement.csv", "/readers/verdicts.csv"):
            assert ada.get(path).status_code == 403  # who is not blind any more
            assert root.get(path).status_code == 200

    def test_agreement(self, root):
        rows = list(csv.DictReader(io.StringIO(root.get("/readers/agreement.csv").text)))
        found = {(row["measure"], row["reader"]): row for row in rows}
        kappa = found["kappa", "Ada"]
        assert (kappa["other"], float(kappa["value"]), kappa["n"]) == ("Bob", 0.5, "4")  # (3/4 - 1/2) / (1 - 1/2)
        assert -1 <= float(kappa["low"]) <= 0.5 <= float(kappa["high"]) <= 1
        figures = {key: (row["count"], row["n"]) for key, row in found.items() if key[0] != "kappa"}
        assert figures["sensitivity", "Ada"] == ("1", "1")
        assert figures["specificity", "Ada"] == ("2", "3")
        assert figures["sensitivity", "Bob"] == ("1", "2")
        assert figures["specificity", "Bob"] == ("2", "2")
        assert found["sensitivity", "screening"]["undecided"] == "1"
        page = root.get("/readers").text
        assert "0.50" in page
        assert "67 %" in page

    def test_verdicts(self, root, reading, worklist):
        rows = list(csv.DictReader(io.StringIO(root.get("/readers/verdicts.csv").text)))
        assert len(rows) == 8
        assert (rows[0]["reader"], rows[0]["verdict"], rows[0]["note"], rows[0]["consensus"]) == (
            "Ada",
            "normal",
            "'=1+1",
            "normal",
        )
        assert [row["consensus"] for row in rows[4:6]] == ["", ""]
        assert [int(row["case"]) for row in rows[::2]] == [blind.number for blind in reading.load().cases]
        assert "Carl" not in {row["reader"] for row in rows}

    def test_without_a_reading(self, client):
        assert client.get("/readers").status_code == 404
        assert "/readers" not in client.get("/").text
