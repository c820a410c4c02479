"""Sign-in: wrong tokens, and sessions that end."""

from __future__ import annotations

import logging

import pytest

from anomalib_cxr.web import login
from anomalib_cxr.web.login import MAX_WAIT, Throttle

from .conftest import TOKEN, csrf_of

EVERYWHERE = "http://192.168.0.7:8765"


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(login, "time", clock)
    return clock


@pytest.fixture
def outside(browse, worklist):
    return browse(worklist, token=TOKEN, base_url=EVERYWHERE)


def sign_in(client, token):
    return client.submit("/login", "/login", token=token)


class TestWrongTokens:
    def test_a_thousand_are_slowed_and_logged(self, outside, clock, caplog):
        with caplog.at_level(logging.WARNING):
            csrf = csrf_of(outside.get("/login").text)
            answers = [outside.post("/login", data={"csrf": csrf, "token": f"guess {i}"}) for i in range(1000)]
        assert [answer.status_code for answer in answers[:4]] == [403] * 4
        assert {answer.status_code for answer in answers[4:]} == {429}
        assert answers[-1].headers["Retry-After"] == "1"
        assert "Try again in 1 s." in answers[-1].text
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 4
        assert all("Wrong token from testclient" in message for message in messages)
        assert "guess" not in caplog.text

    def test_the_right_one_waits_as_well(self, outside, clock):
        for _ in range(4):
            sign_in(outside, "wrong")
        assert sign_in(outside, TOKEN).status_code == 429
        clock.now += 1
        assert sign_in(outside, TOKEN).status_code == 303
        assert outside.get("/").status_code == 200

    def test_waiting_time_doubles_up_to_its_bound(self, clock):
        throttle = Throttle()
        waits = [throttle.fail("192.0.2.7") for _ in range(14)]
        assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_WAIT, MAX_WAIT]
        assert throttle.seconds_left("192.0.2.7") == MAX_WAIT
        clock.now += MAX_WAIT
        assert throttle.seconds_left("192.0.2.7") == 0

    def test_of_others_do_not_count(self, clock):
        throttle = Throttle()
        for _ in range(5):
            throttle.fail("192.0.2.7")
            throttle.fail("2001:db8::1")
        assert throttle.seconds_left("192.0.2.8") == 0
        assert throttle.seconds_left("2001:db8:0:1::1") == 0
        assert throttle.seconds_left("2001:db8::ffff") == throttle.seconds_left("192.0.2.7") == 2

    def test_a_right_one_clears_them(self, clock):
        throttle = Throttle()
        for _ in range(5):
            throttle.fail("192.0.2.7")
        throttle.succeed("192.0.2.7")
        assert throttle.seconds_left("192.0.2.7") == 0

    def test_addresses_in_memory_are_bounded(self, clock, monkeypatch):
        monkeypatch.setattr(login, "_MAX_ADDRESSES", 2)
        throttle = Throttle()
        for host in ("192.0.2.1",) * 5 + ("192.0.2.2", "192.0.2.3"):
            throttle.fail(host)
        assert throttle.seconds_left("192.0.2.1") == 0  # the one whose last failure is the oldest was dropped


class TestSession:
    def test_a_copied_cookie_ends_with_the_session(self, browse, worklist, outside):
        sign_in(outside, TOKEN)
        copied = dict(outside.cookies)
        thief = outside.__class__(outside.app, base_url=EVERYWHERE, cookies=copied)
        assert thief.get("/", follow_redirects=False).status_code == 200
        outside.submit("/logout")
        thief = outside.__class__(outside.app, base_url=EVERYWHERE, cookies=copied)
        for path in ("/", "/case/1", "/case/1/xray.png", "/verdicts.csv"):
            answer = thief.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/login")

    def test_sign_out_ends_no_other_session(self, browse, worklist, outside):
        other = outside.__class__(outside.app, base_url=EVERYWHERE)
        sign_in(outside, TOKEN)
        sign_in(other, TOKEN)
        outside.submit("/logout")
        assert other.get("/", follow_redirects=False).status_code == 200
