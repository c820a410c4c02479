"""The table."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import pytest

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Case, Decision, Verdict
from anomalib_cxr.screening.worklist.store import Worklist


def numbers(text):
    return [int(each) for each in re.findall(r'<a href="/case/(\d+)[^"]*" title', text)]


@pytest.fixture
def many(tmp_path, browse):
    """120 cases: 70 to be read, 50 below the threshold; 7 of them today."""
    worklist = Worklist(tmp_path / "many", create=True)
    day = datetime.now(timezone.utc).date().isoformat()
    cases = []
    for index in range(120):
        decision = Decision.TO_READ if index < 70 else Decision.BELOW_THRESHOLD
        screened = f"{day}T00:00:01+00:00" if index < 7 else "2001-01-01T00:00:00+00:00"
        share = 1 - index / 120
        cases.append(Case(f"/x/{index}.png", 1, 1, decision, probability=share, score=share, screened=screened))
    worklist.add(cases)
    return browse(worklist)


def test_rows_are_ordered_by_probability_and_the_refused_come_last(client):
    assert numbers(client.get("/?decision=all").text) == [1, 2, 3, 4]


@pytest.mark.parametrize(("decision", "found"), [("to_read", [1, 2]), ("below_threshold", [3]), ("refused", [4])])
def test_filters(client, decision, found):
    assert numbers(client.get(f"/?decision={decision}").text) == found


def test_those_to_be_read_are_shown_first(client):
    assert numbers(client.get("/").text) == [1, 2]


def test_a_row_says_what_there_is_to_say(client, worklist):
    worklist.give_verdict(1, Verdict.UNSURE, "Ada <b>", content=worklist.case(1).content)
    row = re.search(r"<tr>\s*<td class=\"figure\">1</td>.*?</tr>", client.get("/").text, re.DOTALL)[0]
    path = worklist.case(1).path
    for part in (f'title="{path}">c1.png<', "90 %", ">0.4500<", ">0.11<", "to be read", "unsure", "Ada &lt;b&gt;"):
        assert part in row
    assert path not in row.replace(f'title="{path}"', "")


def test_a_received_xray_is_known_by_its_date_and_the_end_of_its_uid(tmp_path, browse):
    worklist = Worklist(tmp_path / "received", create=True)
    path = "/out/received/1.2.826.0.1/1.2.826.0.1.3680043.8.498.4711.dcm"
    worklist.add([Case(path, 1, 1, Decision.TO_READ, score=0.5, taken="2026-01-31", view="PA")])
    text = browse(worklist).get("/").text
    assert f'title="{path}">…0043.8.498.4711</a><span class="why">2026-01-31 PA</span>' in text
    assert numbers(browse(worklist).get("/", params={"search": "498.4711"}).text) == [1]


def test_refusal_gives_its_reason_escaped(client):
    assert "not a chest &lt;X-ray&gt;" in client.get("/?decision=refused").text


@pytest.mark.parametrize("search", ["c2.png", "1.2.c2", "1.3.c2"])
def test_search(client, search):
    assert numbers(client.get("/", params={"decision": "all", "search": search}).text) == [2]


def test_search_without_a_hit(client):
    text = client.get("/", params={"search": '"><script>'}).text
    assert numbers(text) == []
    assert "Search all cases" in text
    assert '"><script>' not in text


class TestPaging:
    def test_all_rows_on_some_page_once(self, many):
        pages = [numbers(many.get(f"/?decision=all&page={page}").text) for page in (1, 2, 3)]
        assert [len(page) for page in pages] == [50, 50, 20]
        assert [number for page in pages for number in page] == list(range(1, 121))

    def test_links(self, many):
        text = many.get("/?decision=all&page=2").text
        assert re.findall(r'rel="(\w+)" href="[^"]*page=(\d)"', text) == [("prev", "1"), ("next", "3")]

    def test_page_behind_the_last(self, many):
        assert numbers(many.get("/?decision=all&page=99").text) == list(range(101, 121))

    @pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 30])
    def test_no_page(self, many, page):
        assert many.get(f"/?page={page}").status_code == 404


def test_counts_of_the_day_and_in_all(many):
    text = re.sub(r"<[^>]+>", "", many.get("/").text)
    assert re.search(r"To be read\s+70 · today 7", text)
    assert re.search(r"Below the calibrated threshold\s+50 · today 0", text)
    assert re.search(r"All\s+120 · today 7", text)


class TestNextUnread:
    def test_first_without_a_verdict(self, many):
        for number in range(1, 56):
            many.app.state.worklist.give_verdict(number, Verdict.NORMAL, "Ada", content="")
        answer = many.get("/next-unread?decision=all&search=png", follow_redirects=False)
        assert answer.headers["Location"] == "/case/56?decision=all&search=png"

    def test_none_is_left(self, client):
        client.give(4, query="decision=refused")
        assert "All of these cases have a verdict" in client.get("/next-unread?decision=refused").text


def test_the_guarantee_stands_below_the_rows(client):
    guarantee = "At most 5 % of sick people are expected below the threshold, at 95 % confidence."
    assert client.get("/?decision=all").text.count(guarantee) == 1
    assert guarantee not in client.get("/?decision=refused").text
    assert BELOW_THRESHOLD_NOTICE in client.get("/?decision=refused").text


@pytest.mark.parametrize(
    "path", ["/", "/?decision=refused&search=none", "/case/1", "/case/4", "/agreement", "/nowhere"]
)
def test_each_page_says_what_it_is_not(client, path):
    assert "For research. Not a medical device." in client.get(path).text
