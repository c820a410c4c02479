"""Access control: headers, hosts, forms, login and sessions."""

from __future__ import annotations

import re
import time

import pytest

from anomalib_cxr.web import forms, sessions

from .conftest import EVERYWHERE, PASSWORD, csrf_of


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/", "/case/1", "/case/1/xray.png", "/verdicts.csv", "/agreement", "/static/page.css", "/nowhere"]
    )
    def test_of_each_answer(self, client, path):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"

    def test_of_a_failure(self, browse, worklist, monkeypatch):
        client = browse(worklist, raise_server_exceptions=False)
        monkeypatch.setattr(worklist, "agreement", lambda: 1 / 0)
        answer = client.get("/agreement")
        assert answer.status_code == 500
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "ZeroDivision" not in answer.text
        assert "Traceback" not in answer.text

    def test_pages_have_no_script_or_style_of_their_own(self, client):
        for path in ("/", "/case/1", "/agreement"):
            text = client.get(path).text
            assert " style=" not in text
            assert "<style" not in text
            assert re.findall(r" on\w+=", text) == []
            assert text.count("<script") == text.count('<script src="/static/page.js" defer></script>') == 1

    def test_session_cookie_is_strict(self, client):
        cookie = client.get("/").headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie

    def test_session_cookie_over_https_is_secure(self, browse, worklist):
        assert "secure" in browse(worklist, base_url="https://localhost").get("/").headers["Set-Cookie"].lower()


class TestHost:
    @pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8765", "[::1]:8765"])
    def test_this_machine(self, client, host):
        assert client.get("/", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["attacker.example", "localhost.attacker.example:8765", "192.168.0.7", "[::1", "localhost@evil", ""]
    )
    def test_another_name_is_refused(self, client, host):
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == 400
        assert "c1.png" not in answer.text


class TestForms:
    FIELDS = {"verdict": "normal", "reader": "Ada"}  # noqa: RUF012

    def post(self, client, **fields):
        return client.post("/case/1/verdict", data={**self.FIELDS, **fields}, follow_redirects=False)

    def test_without_a_session(self, client, worklist):
        assert self.post(client).status_code == 403
        assert worklist.verdicts() == []

    @pytest.mark.parametrize("csrf", [None, "", "é", "0" * 64])
    def test_without_the_token_of_the_page(self, client, worklist, csrf):
        client.get("/")
        answer = self.post(client, **({} if csrf is None else {"csrf": csrf}))
        assert answer.status_code == 403
        assert "reload the page" in answer.text
        assert worklist.verdicts() == []

    def test_with_the_token_of_another_session(self, browse, client, worklist):
        client.get("/")
        content = worklist.case(1).content
        assert self.post(client, csrf=csrf_of(client.get("/case/1").text), content=content).status_code == 303
        other = browse(worklist)
        assert self.post(client, csrf=csrf_of(other.get("/case/1").text), content=content).status_code == 403
        assert len(worklist.verdicts()) == 1

    def test_a_long_form_is_refused(self, client, worklist):
        assert client.give(1, note="x" * forms.MAX_FORM).status_code == 413
        assert worklist.verdicts() == []

    def test_a_long_form_that_hides_its_length_is_refused(self, client):
        client.get("/")

        def endless():
            yield b"note="
            for _ in range(3):
                yield b"x" * forms.MAX_FORM

        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post("/case/1/verdict", content=endless(), headers=headers).status_code == 413


class TestSignIn:
    @pytest.mark.parametrize(
        "path", ["/", "/case/1", "/case/1/xray.png", "/case/1/heat.png", "/verdicts.csv", "/agreement", "/next-unread"]
    )
    def test_is_needed(self, outside, path):
        answer = outside.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
        assert "c1" not in answer.text

    def test_nothing_is_saved_without(self, outside, worklist):
        csrf = csrf_of(outside.get("/login").text)
        data = {"csrf": csrf, "verdict": "normal", "reader": "Eve"}
        assert outside.post("/case/1/verdict", data=data, follow_redirects=False).headers["Location"] == "/login"
        assert worklist.verdicts() == []

    @pytest.mark.parametrize(
        ("name", "password"),
        [
            ("Ada", ""),
            ("Ada", PASSWORD[:-1]),
            ("Ada", PASSWORD + " "),
            ("Eve", PASSWORD),
            ("", ""),
            ("Ada", "é" * 5000),
        ],
    )
    def test_wrong_ones(self, outside, name, password):
        answer = outside.sign_in(name, password)
        assert answer.status_code == 403
        assert "do not belong together" in answer.text
        assert outside.get("/", follow_redirects=False).status_code == 303

    def test_right_ones_open_all_until_sign_out(self, outside):
        outside.get("/login")
        before = dict(outside.cookies)
        assert outside.sign_in().headers["Location"] == "/"
        assert dict(outside.cookies) != before  # a session known before must not become a signed-in one
        assert "c1.png" in outside.get("/").text
        assert outside.give(1).status_code == 303
        assert outside.submit("/logout").headers["Location"] == "/login"
        assert outside.get("/", follow_redirects=False).headers["Location"] == "/login"

    def test_needs_a_form_of_ours(self, outside):
        outside.get("/login")
        fields = {"name": "Ada", "password": PASSWORD}
        assert outside.post("/login", data=fields, follow_redirects=False).status_code == 403
        assert outside.get("/", follow_redirects=False).status_code == 303

    def test_style_is_open(self, outside):
        assert outside.get("/static/page.css", follow_redirects=False).status_code == 200


class TestRole:
    @pytest.mark.parametrize("path", ["/verdicts.csv", "/agreement"])
    def test_what_others_did_is_for_admins(self, outside, path):
        outside.sign_in("Ada")
        assert path not in outside.get("/").text
        assert outside.get(path).status_code == 403
        outside.submit("/logout")
        outside.sign_in("Root")
        assert path in outside.get("/").text
        assert outside.get(path).status_code == 200

    def test_verdicts_are_under_the_name_that_signed_in(self, outside, worklist):
        outside.sign_in("ada")
        assert 'name="reader"' not in outside.get("/case/1").text
        assert outside.give(1, reader="Bob").status_code == 303
        assert [record.reader for record in worklist.verdicts()] == ["Ada"]


class TestSession:
    def test_does_not_survive_a_restart_of_the_server(self, browse, worklist, accounts, outside):
        outside.sign_in()
        restarted = browse(worklist, accounts=accounts, base_url=EVERYWHERE)
        restarted.cookies = outside.cookies
        assert restarted.get("/", follow_redirects=False).headers["Location"] == "/login"

    @pytest.mark.parametrize("change", [lambda cookie: "", lambda cookie: "." + cookie, lambda cookie: cookie[:-1]])
    def test_of_a_forged_cookie_is_none(self, outside, change):
        outside.sign_in()
        ((name, cookie),) = dict(outside.cookies).items()
        outside.cookies.clear()
        outside.cookies.set(name, change(cookie))
        assert outside.get("/", follow_redirects=False).headers["Location"] == "/login"

    def test_ends(self, outside, monkeypatch):
        outside.sign_in()
        start = time.time()
        monkeypatch.setattr(time, "time", lambda: start + sessions.SESSION_SECONDS - 60)
        assert outside.get("/").status_code == 200
        monkeypatch.setattr(time, "time", lambda: start + sessions.SESSION_SECONDS + 2)
        cookies = dict(outside.cookies)
        assert outside.get("/", cookies=cookies, follow_redirects=False).headers["Location"] == "/login"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"])
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404
