"""The viewer and its verdicts."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.unit.web.conftest import HEIGHT, WIDTH, content_of, csrf_of, draw_case, rescreened

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Decision, Verdict
from anomalib_cxr.screening.worklist.purge import purge_worklist
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.app import create_app

CASE_AND_QUERY = "/case/{}?decision=all&saved={}"


class TestPage:
    def test_says_what_screening_says(self, client, worklist):
        text = client.get("/case/1").text
        for part in (
            "90 %",
            "0.4500",
            "0.1500",
            "0.11",
            "Unusual in the left upper zone.",
            "to be read",
            "At most 5 % of sick people are expected below the threshold, at 95 % confidence.",
            "ffffffffffff",
        ):
            assert part in text
        assert worklist.case(1).path in text

    def test_notice_below_the_threshold(self, client):
        shown = [BELOW_THRESHOLD_NOTICE in client.get(f"/case/{number}").text for number in (1, 2, 3, 4)]
        assert shown == [False, False, True, False]

    def test_refused_one_gives_the_reason_in_place_of_the_picture(self, client):
        text = client.get("/case/4").text
        assert "not a chest &lt;X-ray&gt;" in text
        assert "xray.png" not in text
        assert 'id="verdict"' in text

    def test_picture_of_a_refused_one_on_demand(self, client):
        assert "/case/4/xray.png" in client.get("/case/4?picture=1").text

    def test_neighbors_within_the_query(self, client):
        text = client.get("/case/2?decision=to_read").text
        assert 'rel="prev" href="/case/1?decision=to_read"' in text
        assert 'rel="next"' not in text

    @pytest.mark.parametrize("number", ["5", "0", "-1", "x", "9" * 30])
    def test_no_case(self, client, number):
        assert client.get(f"/case/{number}").status_code == 404


class TestVerdict:
    def test_is_saved_and_the_next_case_comes(self, client, worklist):
        answer = client.give(1, "abnormal", "seen <b>", "Ada")
        assert (answer.status_code, answer.headers["Location"]) == (303, CASE_AND_QUERY.format(2, 1))
        (record,) = worklist.verdicts(1)
        assert record[:4] == (1, Verdict.ABNORMAL, "seen <b>", "Ada")
        assert "Saved: abnormal" in client.get(answer.headers["Location"]).text

    def test_of_the_last_case_leads_to_the_list(self, client):
        answer = client.give(2, query="decision=to_read&search=c2")
        assert answer.headers["Location"] == "/?decision=to_read&search=c2&saved=2"
        assert "Saved: abnormal" in client.get(answer.headers["Location"]).text

    def test_history_is_shown_the_last_one_first(self, client):
        client.give(1, "unsure", "first look", "Ada")
        client.give(1, "normal", "second <look>", "Bo")
        text = client.get("/case/1").text
        assert 0 < text.index("second &lt;look&gt;") < text.index("first look")

    def test_reader_is_remembered(self, client):
        client.give(1, reader="Zoë O'Hara; MD")
        assert 'value="Zoë O&#39;Hara; MD"' in client.get("/case/2").text

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"verdict": "healthy"}, "normal, abnormal or unsure"),
            ({"verdict": ""}, "normal, abnormal or unsure"),
            ({"reader": "  "}, "reader's name"),
            ({"reader": "x" * 101}, "reader's name"),
            ({"reader": "Ada\0"}, "U+0000"),
            ({"note": "Ada\0"}, "U+0000"),
            ({"note": "x" * 2001}, "at most 2000"),
        ],
    )
    def test_incomplete_one_is_refused(self, client, worklist, fields, words):
        answer = client.give(1, **fields)
        assert answer.status_code == 400
        assert words in answer.text.replace("&#39;", "'")
        assert worklist.verdicts() == []

    def test_on_no_case(self, client, worklist):
        assert client.submit("/case/99/verdict", "/case/1", verdict="normal", reader="Ada").status_code == 404
        assert worklist.verdicts() == []

    def test_that_cannot_be_written_is_not_confirmed(self, client, worklist):
        client.get("/case/1")
        content = worklist.file.read_bytes()
        for rest in worklist.folder.glob("worklist.sqlite*"):
            rest.unlink()
        worklist.file.write_bytes(b"no database" * 100)
        answer = client.post("/case/1/verdict", data={"csrf": "0"})
        assert answer.status_code == 503
        assert "nothing was saved" in answer.text
        worklist.file.write_bytes(content)


@pytest.fixture
def replace_file(worklist):
    """Put the X-ray of another patient into the file of a case, and screen it again."""

    def replace_file(number):
        case = worklist.case(number)
        Image.new("L", (WIDTH, HEIGHT), 99).save(case.file)
        worklist.add([rescreened(case)])
        return worklist.number_of(case.file)

    return replace_file


class TestAnotherXray:
    """Between the opening of a page and its verdict."""

    def give_late(self, client, number, change):
        page = client.get(f"/case/{number}?decision=all").text
        change()
        form = {
            "csrf": csrf_of(page),
            "content": content_of(page),
            "verdict": "normal",
            "reader": "Ada",
            "note": "seen",
        }
        return client.post(f"/case/{number}/verdict?decision=all", data=form, follow_redirects=False)

    def test_in_the_same_file_is_given_no_verdict(self, client, worklist, replace_file):
        answer = self.give_late(client, 1, lambda: replace_file(1))
        assert answer.status_code == 409
        assert "Not saved" in answer.text
        assert "seen" in answer.text  # the note is not lost
        assert 'href="/case/5?decision=all"' in answer.text
        assert worklist.verdicts() == []

    def test_with_the_same_number_in_a_list_made_anew_is_given_no_verdict(self, client, worklist, tmp_path):
        def make_anew():
            for file in worklist.folder.glob("worklist.sqlite*"):
                file.unlink()
            others = [draw_case(worklist.folder, f"other{index}", 0.5 + index / 10) for index in range(3)]
            Image.new("L", (WIDTH, HEIGHT), 99).save(others[0].file)
            Worklist(worklist.folder, create=True).add([rescreened(others[0]), *others[1:]])

        answer = self.give_late(client, 1, make_anew)
        assert answer.status_code == 409
        assert worklist.verdicts() == []

    def test_in_files_that_were_exchanged_is_given_no_verdict(self, client, worklist):
        def exchange():
            first, second = worklist.case(1), worklist.case(2)
            Image.new("L", (WIDTH, HEIGHT), 99).save(second.file)  # the two phantoms of the fixture are alike
            worklist.add([rescreened(second)])
            between = first.file.with_name("between.png")
            first.file.rename(between)
            second.file.rename(first.file)
            between.rename(second.file)
            worklist.add([rescreened(first), rescreened(second)])

        assert self.give_late(client, 1, exchange).status_code == 409
        assert worklist.verdicts() == []

    def test_without_the_content_is_given_no_verdict(self, client, worklist):
        answer = client.submit("/case/1/verdict", "/case/1", verdict="normal", reader="Ada")
        assert answer.status_code == 409
        assert worklist.verdicts() == []

    def test_keeps_the_verdicts_of_the_former_one_as_history(self, client, worklist, replace_file):
        client.give(1, "abnormal", "of the former X-ray", "Bo")
        assert replace_file(1) == 5
        text = client.get("/case/5?decision=all").text
        latest, former = text.split("Another X-ray was in this file until")
        assert "Verdicts so far" not in latest
        assert "of the former X-ray" in former
        assert 'href="/case/1?decision=all"' in former
        assert client.get("/?decision=all").text.count("of the former X-ray") == 0
        assert worklist.latest_verdicts([5]) == {}

    def test_former_one_takes_no_verdict_and_leads_to_the_new_one(self, client, replace_file):
        client.give(1, "abnormal", "of the former X-ray", "Bo")
        replace_file(1)
        text = client.get("/case/1?decision=all").text
        assert "Replaced: no verdict" in text
        assert 'id="verdict"' not in text
        assert 'href="/case/5?decision=all"' in text
        assert "of the former X-ray" in text
        assert "has another X-ray now" in client.get("/case/1/xray.png").text


class TestFigures:
    def test_score_and_threshold_show_their_order(self, client, worklist):
        """The threshold of a tutorial, and a score just below it: four decimals are alike."""
        close = draw_case(worklist.folder, "close", 0.2, score=0.499998, threshold=0.500004)
        worklist.add([close])
        assert close.decision is Decision.BELOW_THRESHOLD
        text = client.get("/case/5?decision=all").text
        assert "<dt>Score</dt><dd>0.499998</dd>" in text
        assert "<dt>Threshold</dt><dd>0.500004</dd>" in text
        assert ">0.499998<" in client.get("/?decision=all").text

    def test_scores_that_are_clipped_show_what_orders_them(self, client, worklist):
        worklist.add([draw_case(worklist.folder, f"top{raw}", 1.0, score=1.0, raw_score=raw) for raw in (1.25, 2.5)])
        assert "<dd>2.5000</dd>" in client.get("/case/6").text
        text = client.get("/").text
        assert 0 < text.index("clipping to [0, 1]: 2.5000") < text.index("clipping to [0, 1]: 1.2500")

    @pytest.mark.parametrize(("probability", "shown"), [(0.99996, "&gt; 99.9 %"), (0.9649, "96.5 %"), (1.0, "100 %")])
    def test_certain_is_only_what_is(self, client, worklist, probability, shown):
        worklist.add([draw_case(worklist.folder, "sure", probability)])
        assert f"<dd>{shown}</dd>" in client.get("/case/5").text


class TestLockedWorklist:
    @pytest.fixture
    def patient(self, browse, worklist):
        """A client of a page that waits a moment for a lock."""
        return browse(Worklist(worklist.folder, wait=0.2))

    def test_verdict_is_refused_and_pages_go_on(self, patient, worklist):
        form = {"csrf": csrf_of(patient.get("/case/1").text), "content": worklist.case(1).content}
        form |= {"verdict": "normal", "reader": "Ada"}
        with closing(sqlite3.connect(worklist.file)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = patient.post("/case/1/verdict", data=form)
            assert answer.status_code == 503
            assert "locked by another program" in answer.text
            assert patient.get("/").status_code == patient.get("/case/1").status_code == 200
        assert patient.post("/case/1/verdict", data=form).status_code == 200
        assert len(worklist.verdicts(1)) == 1

    def test_many_verdicts_that_wait_hold_no_page(self, worklist, listening):
        app = create_app(Worklist(worklist.folder, wait=3))
        with listening(app) as port, httpx.Client(base_url=f"http://localhost:{port}", timeout=300) as client:
            form = {"csrf": csrf_of(client.get("/case/1").text), "content": worklist.case(1).content}
            form |= {"verdict": "normal", "reader": "Ada"}
            with closing(sqlite3.connect(worklist.file)) as other, ThreadPoolExecutor(45) as threads:
                other.execute("BEGIN IMMEDIATE")
                waiting = [threads.submit(client.post, "/case/1/verdict", data=form) for _ in range(45)]
                wait(waiting, return_when=FIRST_COMPLETED)
                n_before = sum(each.done() for each in waiting)
                assert client.get("/").status_code == 200
                assert sum(each.done() for each in waiting) < 45
                assert 1 <= n_before < 45
                other.rollback()
                codes = [each.result().status_code for each in waiting]
        assert set(codes) == {303, 503}
        assert len(worklist.verdicts(1)) == codes.count(303)


class TestColorBar:
    def test_tells_the_scale_in_every_case_with_a_heatmap(self, client):
        pages = [client.get(f"/case/{number}").text for number in (1, 3)]
        bars = {re.search(r'<figure class="color-bar">.*?</figure>', page, re.DOTALL)[0] for page in pages}
        assert len(bars) == 1  # not by case
        (bar,) = bars
        assert re.findall(r">([^<>\n]+)</text>", bar) == ["\N{LESS-THAN OR EQUAL TO} 2", "3", "6", "18 SD"]
        assert "above healthy images at the same place" in bar
        opacities = [float(share) for share in re.findall(r'stop-opacity="([\d.]+)"', bar)]
        assert opacities[0] == 0
        assert opacities == sorted(opacities)

    def test_not_without_a_heatmap(self, client):
        assert "color-bar" not in client.get("/case/4?picture=1").text


class TestPictures:
    @pytest.mark.parametrize("kind", ["xray", "heat", "lungs", "thumbnail"])
    def test_are_png(self, client, kind):
        answer = client.get(f"/case/1/{kind}.png")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")

    @pytest.mark.parametrize("kind", ["xray", "heat", "lungs", "thumbnail"])
    def test_that_are_missing_say_so(self, client, kind):
        answer = client.get(f"/case/4/{kind}.png")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.text

    def test_of_a_file_that_was_removed(self, client, worklist):
        Path(worklist.case(1).path).unlink()
        answer = client.get("/case/1/xray.png")
        assert (answer.status_code, "No such file" in answer.text) == (404, True)

    def test_of_another_kind(self, client):
        assert client.get("/case/1/worklist.png").status_code == 404


def test_a_purged_case_says_so(client, worklist):
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    assert purge_worklist(worklist.folder, 30, now=now).rows == 4
    answer = client.get("/case/1?decision=all")
    assert answer.status_code == 200
    assert "Purged: no verdict" in answer.text
    assert "/images/c1" not in answer.text
    assert client.get("/case/1/xray.png").status_code == 404
