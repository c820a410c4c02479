"""The viewer and its verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Verdict

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
