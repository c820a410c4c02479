"""Interface for programs: what goes in, what comes out, and who may ask."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.unit.web.conftest import EVERYWHERE, PASSWORD, draw_case, rescreened

from anomalib_cxr.screening.case import NOTICE, Case, Decision
from anomalib_cxr.web.audit import AuditLog
from anomalib_cxr.web.routes import api


def png(gray=180):
    file = io.BytesIO()
    Image.new("L", (32, 32), gray).save(file, "png")
    return file.getvalue()


def as_json(content=None, **fields):
    return {"image": base64.b64encode(png() if content is None else content).decode(), **fields}


@pytest.fixture
def screen(worklist):
    """Gives what is an image the result of a known case, and refuses the rest."""

    def screen(path):
        try:
            Image.open(path).verify()
        except OSError:
            worklist.add([rescreened(Case(str(path), 0, 0, Decision.REFUSED, why="not readable"))])
            return
        drawn = draw_case(worklist.folder, "sent", 0.8)
        worklist.add([rescreened(replace(drawn, path=str(path)))])

    return screen


@pytest.fixture
def program(browse, worklist, screen):
    return browse(worklist, screen)


class TestScore:
    def test_json_in_json_and_picture_out(self, program, worklist):
        answer = program.post("/api/score", json=as_json(suffix=".png"))
        assert answer.status_code == 200
        result = answer.json()
        case = worklist.case(result["case"])
        assert case.file.read_bytes() == png()
        for name in ("score", "threshold", "probability", "p_value", "findings", "guarantee", "content", "model"):
            assert result[name] == getattr(case, name)
        assert (result["decision"], result["score"], result["why"]) == ("to be read", 0.4, "")
        assert result["notice"].startswith(NOTICE)
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["picture"]))))
        assert np.array_equal(picture, np.asarray(Image.open(worklist.folder / case.heatmap)))

    def test_a_form(self, program, worklist):
        answer = program.post("/api/score", files={"image": ("Doe.png", png())}, data={"picture": "false"})
        assert answer.status_code == 200
        assert answer.json()["picture"] is None
        path = worklist.case(answer.json()["case"]).path
        assert path.endswith(".png")
        assert "Doe" not in path

    def test_a_refused_image_is_a_result(self, program):
        result = program.post("/api/score", json=as_json(b"no image")).json()
        assert (result["decision"], result["why"], result["score"], result["picture"]) == (
            "refused",
            "not readable",
            None,
            None,
        )

    def test_the_browser_shows_it_too(self, program):
        number = program.post("/api/score", json=as_json()).json()["case"]
        assert program.get(f"/case/{number}").status_code == 200

    def test_is_logged(self, program, worklist):
        number = program.post("/api/score", json=as_json()).json()["case"]
        entries = [(entry.action.value, entry.cases) for entry in AuditLog(worklist.folder).verified()]
        assert entries == [("sent image", ()), ("image screened", (number,))]


class TestRefusals:
    def send(self, program, worklist, code, words, **request):
        answer = program.post("/api/score", **request)
        assert answer.status_code == code
        assert set(answer.json()) == {"error"}
        assert words in answer.json()["error"]
        assert worklist.count() == 4
        assert not list((worklist.folder / "uploads").glob("*"))

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({}, "image: Field required"),
            ({"image": "no Base64!"}, "image: "),
            ({"image": 5}, "image: "),
            ({"image": None}, "image: "),
            ({"image": "AA\nA="}, "image: "),
            (as_json(more=1), "more: Extra inputs"),
            (as_json(picture="perhaps"), "picture: "),
            (as_json(suffix="x" * 17), "suffix: "),
        ],
    )
    def test_fields(self, program, worklist, fields, words):
        self.send(program, worklist, 422, words, json=fields)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
    def test_no_json(self, program, worklist, text):
        self.send(program, worklist, 422, "JSON", content=text, headers={"Content-Type": "application/json"})

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_another_kind(self, program, worklist, kind):
        content = json.dumps(as_json())
        self.send(program, worklist, 415, "Send application/json", content=content, headers={"Content-Type": kind})

    @pytest.mark.parametrize("files", [{"other": ("a.png", b"x")}, {"image": ("a.png", b"")}])
    def test_no_file(self, program, worklist, files):
        self.send(program, worklist, 422 if "other" in files else 400, "file", files=files)

    def test_an_empty_image(self, program, worklist):
        self.send(program, worklist, 400, "not empty", json=as_json(b""))

    def test_a_broken_form(self, program, worklist):
        kind = "multipart/form-data; boundary=x"
        self.send(program, worklist, 400, "", content=b"no form", headers={"Content-Type": kind})

    def test_json_that_is_too_long(self, program, worklist, monkeypatch):
        monkeypatch.setattr(api, "MAX_JSON", 100)
        self.send(program, worklist, 413, "send a form", json=as_json())

    def test_a_length_that_is_too_large_is_refused_before_it_is_read(self, program):
        headers = {"Content-Type": "application/json", "Content-Length": "999999999"}
        assert program.post("/api/score", content=b"{}", headers=headers).status_code == 413

    @pytest.mark.parametrize(
        "headers", [{"Origin": "https://attacker.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    def test_a_page_of_another_site(self, program, worklist, headers):
        self.send(program, worklist, 403, "not for pages", files={"image": ("a.png", png())}, headers=headers)

    def test_without_a_model(self, client, worklist):
        self.send(client, worklist, 404, "serve --model", json=as_json())


class TestAccounts:
    @pytest.fixture
    def program(self, browse, worklist, screen, accounts):
        return browse(worklist, screen, accounts, base_url=EVERYWHERE)

    def test_name_and_password_with_each_request(self, program, worklist):
        assert program.post("/api/score", json=as_json(), auth=("ada", PASSWORD)).status_code == 200
        assert "Set-Cookie" not in program.get("/metrics", auth=("ada", PASSWORD)).headers
        assert program.post("/api/score", json=as_json()).status_code == 401
        entries = [(entry.who, entry.action.value) for entry in AuditLog(worklist.folder).verified()]
        assert entries == [("Ada", "sent image"), ("Ada", "image screened")]

    @pytest.mark.parametrize(
        "header", ["", "Basic", "Basic !", "Bearer abc", "Basic " + base64.b64encode(b"Ada").decode(), "Basic /w=="]
    )
    def test_anything_else(self, program, header):
        answer = program.post("/api/score", json=as_json(), headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")

    def test_a_session_of_a_browser_is_not_enough(self, program):
        program.sign_in()
        assert program.post("/api/score", json=as_json()).status_code == 401

    def test_wrong_passwords_wait_and_are_logged(self, program, worklist):
        codes = [program.get("/metrics", auth=("Ada", "wrong")).status_code for _ in range(5)]
        assert codes == [401] * 4 + [429]
        answer = program.get("/metrics", auth=("Ada", PASSWORD))
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        details = [(entry.action.value, entry.detail) for entry in AuditLog(worklist.folder).verified()]
        assert details == [("wrong password", "Ada")] * 4

    @pytest.mark.parametrize(("path", "code"), [("/metrics", 401), ("/api", 303), ("/api/openapi.json", 303)])
    def test_nothing_without(self, program, path, code):
        assert program.get(path, follow_redirects=False).status_code == code


class TestDescription:
    def test_openapi(self, program):
        description = program.get("/api/openapi.json").json()
        assert description["openapi"].startswith("3.1")
        assert list(description["paths"]) == ["/api/score"]
        post = description["paths"]["/api/score"]["post"]
        assert set(post["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
        answer = description["components"]["schemas"]["ScoreAnswer"]
        result = program.post("/api/score", json=as_json()).json()
        assert set(answer["properties"]) == set(result)
        assert {"200", "400", "401", "403", "404", "413", "415", "422", "429", "503", "507"} <= set(post["responses"])
        assert "security" not in description

    def test_the_page_is_of_this_server_alone(self, program):
        text = program.get("/api").text
        assert "POST /api/score" in text
        assert "ScoreAnswer" in text
        assert "https://" not in text.replace('xmlns="https://', "")
        assert text.count("<script") == 1

    def test_with_accounts_it_says_how_to_sign_in(self, outside):
        outside.sign_in("Ada")
        assert outside.get("/api/openapi.json").json()["security"] == [{"account": []}]
        assert "HTTP Basic" in outside.get("/api").text
