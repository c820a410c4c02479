"""Sign-in: wrong passwords, and sessions that end."""

from __future__ import annotations

import logging

import pytest

from anomalib_cxr.web import sessions, throttle
from anomalib_cxr.web.accounts import Role
from anomalib_cxr.web.sessions import IDLE_SECONDS, SESSION_SECONDS

from .conftest import EVERYWHERE, PASSWORD, csrf_of


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(throttle, "time", clock)
    monkeypatch.setattr(sessions, "time", clock)
    return clock


class TestWrongPasswords:
    @pytest.mark.parametrize("name", ["Ada", "secret in the wrong field"])
    def test_a_thousand_are_slowed_and_logged(self, outside, clock, caplog, name):
        with caplog.at_level(logging.WARNING):
            form = {"csrf": csrf_of(outside.get("/login").text), "name": name}
            answers = [outside.post("/login", data={**form, "password": f"guess {i}"}) for i in range(1000)]
        assert [answer.status_code for answer in answers[:4]] == [403] * 4
        assert {answer.status_code for answer in answers[4:]} == {429}
        assert answers[-1].headers["Retry-After"] == "1"
        assert "Try again in 1 s." in answers[-1].text
        messages = [record.getMessage() for record in caplog.records]
        whose = "'Ada'" if name == "Ada" else "an unknown name"
        assert len(messages) == 4
        assert all(message.startswith(f"Wrong password of {whose} from testclient") for message in messages)
        assert "guess" not in caplog.text
        assert "secret" not in caplog.text

    def test_the_right_one_waits_as_well(self, outside, clock):
        for _ in range(4):
            outside.sign_in("Root", "wrong")
        assert outside.sign_in().status_code == 429
        clock.now += 1
        assert outside.sign_in().status_code == 303
        assert outside.get("/").status_code == 200

    def test_count_for_the_name_from_any_address_and_for_the_address_with_any_name(self, outside, clock):
        def from_address(host, name):
            other = outside.__class__(outside.app, base_url=EVERYWHERE, client=(host, 1))
            return other.sign_in(name, "wrong" if name != "Bob" else PASSWORD).status_code

        assert [from_address(f"192.0.2.{i}", "ADA") for i in range(5)] == [403] * 4 + [429]
        assert [from_address("192.0.2.9", f"name {i}") for i in range(5)] == [403] * 4 + [429]
        assert [from_address("192.0.2.9", "Bob"), from_address("192.0.2.10", "Bob")] == [429, 303]


class TestSession:
    def test_a_copied_cookie_ends_with_the_session(self, outside):
        outside.sign_in()
        copied = dict(outside.cookies)
        thief = outside.__class__(outside.app, base_url=EVERYWHERE, cookies=copied)
        assert thief.get("/", follow_redirects=False).status_code == 200
        outside.submit("/logout")
        thief = outside.__class__(outside.app, base_url=EVERYWHERE, cookies=copied)
        for path in ("/", "/case/1", "/case/1/xray.png", "/verdicts.csv"):
            answer = thief.get(path, follow_redirects=False)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/login")

    def test_sign_out_ends_no_other_session(self, outside):
        other = outside.__class__(outside.app, base_url=EVERYWHERE)
        outside.sign_in()
        other.sign_in()
        outside.submit("/logout")
        assert other.get("/", follow_redirects=False).status_code == 200

    def test_ends_after_a_pause_and_after_half_a_day(self, outside, clock):
        def is_open():
            return outside.get("/", follow_redirects=False).status_code == 200

        outside.sign_in()
        clock.now += IDLE_SECONDS - 1
        assert is_open()
        clock.now += IDLE_SECONDS
        assert not is_open()
        outside.sign_in()
        for _ in range(SESSION_SECONDS // (IDLE_SECONDS - 60)):
            clock.now += IDLE_SECONDS - 60
            assert is_open()
        clock.now += IDLE_SECONDS - 60
        assert not is_open()

    @pytest.mark.parametrize(
        "change",
        [
            lambda accounts: accounts.remove("Ada"),
            lambda accounts: accounts.set_password("Ada", "another password"),
            lambda accounts: (accounts.remove("Ada"), accounts.add("Ada", Role.ADMIN, PASSWORD)),
        ],
    )
    def test_ends_with_the_account_as_it_was(self, outside, accounts, change):
        outside.sign_in("Ada")
        accounts.set_password("Bob", "password of another one")
        assert outside.get("/", follow_redirects=False).status_code == 200
        change(accounts)
        assert outside.get("/", follow_redirects=False).headers["Location"] == "/login"
