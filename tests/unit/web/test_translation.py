"""Pages in other languages: complete catalogs, and no text of a page that is not in them."""

from __future__ import annotations

import re
import string
from gettext import NullTranslations
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import anomalib_cxr.web
from anomalib_cxr.screening.case import Verdict
from anomalib_cxr.web import rendering, translation
from anomalib_cxr.web.blind.reading import BlindReadings
from anomalib_cxr.web.translation import CONSTANTS, LANGUAGES, language_of, translatable, translated

from .conftest import EVERYWHERE, content_of, csrf_of

WEB = Path(anomalib_cxr.web.__file__).parent
FOR_PROGRAMMERS = {"api.html.jinja"}
"""Page in English alone: the interface for programs."""
OTHERS = [language for language in LANGUAGES if language != "en"]


def messages():
    """All messages of the package's pages."""
    methods = [("**.py", "python"), ("templates/**.jinja", "jinja2")]
    options = {"templates/**.jinja": {"trimmed": "true", "newstyle_gettext": "true"}}
    keywords = {"_": None, "gettext": None, "translatable": None}
    found = extract_from_dir(WEB, method_map=methods, options_map=options, keywords=keywords)
    return {text for file, _, text, *_ in found if Path(file).name not in FOR_PROGRAMMERS} | set(CONSTANTS)


def fields(text):
    """Values that a message takes, in either form."""
    named = [name for _, name, *_ in string.Formatter().parse(text) if name] if "%(" not in text else []
    return sorted(named + re.findall(r"%\((\w+)\)s", text)), text.count("%%"), re.findall(r"<[^>]*>", text)


@pytest.mark.parametrize("language", OTHERS)
def test_each_message_is_translated_with_the_same_values(language):
    with (WEB / "locale" / language / "messages.po").open("rb") as file:
        catalog = {message.id: message for message in read_po(file, locale=language) if message.id}
    known = messages()
    assert len(known) > 200
    assert sorted(known - catalog.keys()) == []
    assert sorted(catalog.keys() - known) == []  # of texts that are gone
    assert [text for text, entry in catalog.items() if not entry.string or entry.fuzzy] == []
    assert {text: entry.string for text, entry in catalog.items() if fields(text) != fields(entry.string)} == {}


class Texts(HTMLParser):
    """Texts that a person sees or hears on a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("title", "alt", "aria-label", "placeholder")]
        self.found += [value for name, value in attributes if name.startswith("data-") and name != "data-src"]

    def handle_data(self, data):
        self.found.append(data)


class Marked(NullTranslations):
    """Translates each message into itself, between marks."""

    def gettext(self, text):
        return f"⟦{text}⟧"


DATA = re.compile(
    r"Ada|Bob|Root|English|Deutsch|c\d\w*\.png|\S*/\S*|away\.png|not a chest <X-ray>|Unusual in the left upper zone\.|"
    r"At most 5 % of sick people are expected below the threshold, at 95 % confidence\.|UTC|a note|1\.\d\.c\d|"
    r"\b[0-9a-f]{12,}\b|px|SD|seed"
)
"""What files, the screening, readers and units say, which no page translates."""


def unmarked(page):
    """Words of a page that no catalog has."""
    text = "\n".join(filter(None, Texts(page).found))
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:  # from the innermost one on
        text = shorter
    return re.findall(r"[A-Za-z]{2,}", DATA.sub("", text))


@pytest.fixture
def marked(monkeypatch):
    monkeypatch.setattr(rendering, "catalog", lambda language: Marked())
    monkeypatch.setattr(translation, "catalog", lambda language: Marked())


class TestNoTextIsUntranslated:
    def test_of_the_pages_of_a_worklist(self, marked, browse, worklist):
        client = browse(worklist, screen=lambda path: None)
        client.give(1, note="a note", reader="Ada")
        for path in (
            *("/", "/?decision=all", "/?decision=all&saved=1&finished=1", "/?search=nothing", "/case/1?saved=1"),
            *("/case/3", "/case/4", "/agreement", "/case/99", "/nowhere", "/case/1?decision=x"),
        ):
            page = client.get(path).text
            assert "⟦" in page
            assert unmarked(page) == [], path
        form = {"csrf": csrf_of(page := client.get("/case/1").text), "content": "other", "verdict": "normal"}
        assert content_of(page)
        answers = [client.post("/case/1/verdict", data={**form, "reader": reader}) for reader in ("Ada", "", "a\0")]
        answers.append(client.post("/case/1/verdict", data={**form, "csrf": "0"}))
        assert [answer.status_code for answer in answers] == [409, 400, 400, 403]
        assert [unmarked(answer.text) for answer in answers] == [[]] * 4

    def test_of_monitoring(self, marked, browse, fill_worklist, tmp_path):
        client = browse(fill_worklist(gray=-0.08))
        found = unmarked(client.get("/monitor").text)
        assert [word for word in found if word not in {"DICOM", "DX", "ACME", "AP", "PA", "PSI"}] == []

    def test_of_sign_in_and_blind_reading(self, marked, outside, worklist):
        BlindReadings(worklist).open(0)
        other = outside.__class__(outside.app, base_url=EVERYWHERE)
        assert unmarked(outside.get("/login").text) == []
        pages = [outside.sign_in("Ada", "wrong").text]
        outside.sign_in("Ada")
        pages += [outside.get(path).text for path in ("/blind", "/blind/1", "/case/1", "/blind/99")]
        reading = BlindReadings(worklist).load()
        for case in reading.cases:
            worklist.give_verdict(case.number, Verdict.NORMAL, "Ada", "a note", content=case.content)
        pages += [outside.get(path).text for path in ("/blind", "/blind/1", "/agreement")]
        other.sign_in("Root")
        pages += [other.get(path).text for path in ("/readers", "/blind")]
        assert [unmarked(page) for page in pages] == [[]] * len(pages)


class TestChoice:
    @pytest.mark.parametrize(
        ("accepted", "language"),
        [
            ("de", "de"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("en;q=0.5,de;q=0.9", "de"),
            ("fr,en-GB;q=0.4", "en"),
            ("de;q=0, en", "en"),
            ("fr", "en"),
            ("", "en"),
            ("*", "en"),
            (";;;q=,=", "en"),
            ("de" * 10_000, "en"),
        ],
    )
    def test_by_what_the_browser_accepts(self, client, accepted, language):
        page = client.get("/", headers={"Accept-Language": accepted}).text
        assert f'<html lang="{language}">' in page
        assert ("Arbeitsliste" in page) is (language == "de")

    def test_by_the_form_on_each_page(self, client):
        answer = client.submit("/language", "/case/1?decision=all", language="de", back="/case/1?decision=all")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/case/1?decision=all")
        page = client.get("/case/1", headers={"Accept-Language": "en"}).text
        assert "Ihr Urteil" in page
        assert 'value="en" lang="en">English</button>' in page

    @pytest.mark.parametrize("back", ["//attacker.example", "/\\attacker.example", "https://attacker.example", ""])
    def test_leads_nowhere_else(self, client, back):
        assert client.submit("/language", language="de", back=back).headers["Location"] == "/"

    @pytest.mark.parametrize("language", ["fr", "", "../de"])
    def test_no_such_language(self, client, language):
        assert client.submit("/language", language=language, back="/").status_code == 400
        client.cookies.set("language", language)
        assert '<html lang="en">' in client.get("/").text

    def test_before_the_sign_in_and_in_a_blind_reading(self, outside, worklist):
        assert outside.submit("/language", "/login", language="de", back="/login").headers["Location"] == "/login"
        assert "Passwort" in outside.get("/login").text
        assert "gehören nicht zusammen" in outside.sign_in("Ada", "wrong").text
        BlindReadings(worklist).open(0)
        outside.sign_in("Ada")
        assert "Sie befunden verblindet" in outside.get("/blind/1").text
        assert outside.submit("/language", "/blind/1", language="en", back="/blind/1").status_code == 303


def test_what_is_put_into_a_message_is_escaped_and_never_a_format(client):
    client.cookies.set("language", "de")
    answer = client.get("/?decision=all&search=%3Cb%3E%25(x)s{0}{reader}")
    assert answer.status_code == 200
    assert "Keine Fälle mit „&lt;b&gt;%(x)s{0}{reader}“" in answer.text


def test_values_that_are_messages_are_translated(client):
    text = translatable("Nothing was exported. {reason}", reason=translatable("Sign in first."))
    assert text == "Nothing was exported. Sign in first."
    assert translated(text, "de") == "Nichts wurde exportiert. Melden Sie sich zuerst an."
    assert translated("a text {of} a reader", "de") == "a text {of} a reader"
    assert callable(language_of)
