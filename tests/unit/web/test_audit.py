"""Audit log: what is in it, and what is found if it is changed."""

from __future__ import annotations

import csv
import hashlib
import json
import stat
import threading

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import AuditError, LockedWorklistError
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.web import audit
from anomalib_cxr.web.audit import Action, AuditLog

from .conftest import csrf_of


@pytest.fixture
def log(worklist):
    return AuditLog(worklist.folder)


def written(log, count=5):
    for index in range(1, count + 1):
        log.write("Zoë", "192.0.2.7", Action.CASE, cases=[index], content="ab")
    return log.file.read_bytes().splitlines(keepends=True)


def told(log):
    return [(entry.who, entry.action.value, entry.cases, entry.detail) for entry in log.verified()]


def test_the_chain_by_another_program(log):
    """The hash as the reference has it, with the standard library alone."""
    previous = "0" * 64
    for line in written(log):
        fields = json.loads(line)
        digest = fields.pop("hash")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert digest == hashlib.sha256(text.encode()).hexdigest()
        assert fields["previous"] == previous
        previous = digest
    assert stat.S_IMODE(log.file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0], lines[1].replace(b"Zo", b"Bo"), *lines[2:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: [*lines[:2], b"{}\n", *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [*lines, b"{}\n"],
        lambda lines: [lines[0].replace(b'"action"', b'"more":1,"action"'), *lines[1:]],
    ],
    ids=["edited", "taken out", "swapped", "doubled", "put in", "first one gone", "added", "another field"],
)
def test_each_change_is_found(log, change):
    lines = written(log)
    log.file.write_bytes(b"".join(change(lines)))
    with pytest.raises(AuditError, match="not the entry that was written"):
        list(log.verified())


def test_the_end_cut_off_is_found_by_a_hash_that_was_noted(log, worklist, capsys):
    lines = written(log)
    head = json.loads(lines[-1])["hash"]
    verify = ["audit", "verify", "--worklist", str(worklist.folder), "--head", head]
    log.write("", "", Action.LIST)
    main(verify)
    log.file.write_bytes(b"".join(lines[:-1]))
    assert len(list(log.verified())) == 4  # the chain alone cannot tell
    with pytest.raises(SystemExit) as ended:
        main(verify)
    assert ended.value.code == 1
    assert "cut off" in capsys.readouterr().err


def test_a_broken_off_line_is_kept_and_told(log):
    lines = written(log)
    torn = lines[-1][:40]
    log.file.write_bytes(b"".join(lines[:-1]) + torn)
    log.write("Ada", "", Action.SIGN_OUT)
    assert torn in log.file.read_bytes()
    entries = list(log.verified())
    assert [entry.action for entry in entries[-2:]] == [Action.RECOVERED, Action.SIGN_OUT]
    assert entries[-2].detail == hashlib.sha256(torn).hexdigest()
    log.file.write_bytes(log.file.read_bytes().replace(torn, torn[:-1] + b"x"))
    with pytest.raises(AuditError):
        list(log.verified())


def test_written_at_once_all_are_there(log):
    threads = [
        threading.Thread(target=lambda: [AuditLog(log.file.parent).write("Ada", "", Action.LIST) for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.number for entry in log.verified()] == list(range(1, 41))


class TestPages:
    def test_who_did_what(self, outside, worklist, log):
        outside.sign_in("Ada", "wrong")
        outside.sign_in("typed into the wrong field", "wrong")
        outside.sign_in("Root")
        outside.get("/")
        outside.get("/case/2?search=DOE")
        outside.get("/case/2/xray.png")
        outside.get("/case/2/heat.png")
        outside.give(3, note="John Doe")
        outside.get("/agreement")
        outside.get("/verdicts.csv")
        outside.submit("/logout")
        assert [entry for entry in told(log) if entry[:2] != ("Root", "saw list")] == [
            ("", "wrong password", (), "Ada"),
            ("", "wrong password", (), ""),
            ("Root", "signed in", (), ""),
            ("Root", "saw case", (2,), ""),
            ("Root", "saw image", (2,), "xray"),
            ("Root", "saw case", (3,), ""),
            ("Root", "saw case", (3,), ""),
            ("Root", "gave verdict", (3,), "abnormal"),
            ("Root", "saw agreement", (), ""),
            ("Root", "exported", (), "all verdicts"),
            ("Root", "signed out", (), ""),
        ]
        assert ("Root", "saw list", (1, 2), "") in told(log)
        text = log.file.read_text()
        assert not [word for word in ("doe", "c2.png", "wrong field", str(worklist.folder)) if word in text.lower()]
        assert worklist.case(2).content in text

    def test_a_verdict_that_was_refused(self, client, worklist, log):
        form = {"csrf": csrf_of(client.get("/case/1").text), "verdict": "normal", "reader": "Ada", "content": "other"}
        assert client.post("/case/1/verdict", data=form).status_code == 409
        assert [entry[:2] for entry in told(log)] == [
            ("", "saw case"),
            ("", "gave verdict"),
            ("", "verdict not saved"),
        ]

    def test_an_upload(self, browse, worklist, screen, log):
        sender = browse(worklist, screen)
        sender.submit("/upload", files={"image": ("Doe.png", (worklist.folder / "images/c1.png").read_bytes())})
        assert [entry[1:3] for entry in told(log)][-2:] == [("sent image", ()), ("image screened", (5,))]
        assert "Doe" not in log.file.read_text()

    def test_nothing_is_shown_or_saved_that_is_not_logged(self, browse, worklist, log, monkeypatch):
        client = browse(worklist, raise_server_exceptions=False)
        form = {"csrf": csrf_of(client.get("/case/1").text), "verdict": "normal", "reader": "Ada"}

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(AuditLog, "write", full)
        for path in ("/", "/case/1", "/case/1/xray.png", "/verdicts.csv", "/agreement"):
            answer = client.get(path)
            assert answer.status_code == 507
            assert b"c1.png" not in answer.content
        form["content"] = worklist.case(1).content
        assert client.post("/case/1/verdict", data=form).status_code == 507
        assert worklist.verdicts() == []

    def test_a_locked_log_is_told(self, client, log, monkeypatch):
        monkeypatch.setattr(audit, "_WAIT", 0.1)
        client.get("/")
        with audit.FileLock(log.file.with_name(".audit.jsonl.lock")):
            assert client.get("/").status_code == 503
            with pytest.raises(LockedWorklistError):
                log.write("", "", Action.LIST)
        assert client.get("/").status_code == 200


class TestVerbs:
    def test_list_has_names_only_if_asked(self, worklist, log, capsys):
        named = Case("/far/Doe^John.dcm", 1, 1, Decision.REFUSED, why="x", patient_name="Doe^John", patient_id="=17")
        worklist.add([named])
        log.write("Ada", "192.0.2.7", Action.CASE, cases=[5])
        for words, facts in [
            ([], {}),
            (["--names"], {"path": named.path, "patient_id": "'=17", "patient_name": "Doe^John"}),
        ]:
            main(["audit", "list", "--worklist", str(worklist.folder), *words])
            (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
            assert (row["number"], row["who"], row["action"], row["cases"]) == ("1", "Ada", "saw case", "5")
            assert {name: row[name] for name in row if name in ("path", "patient_id", "patient_name")} == facts

    @pytest.mark.parametrize("verb", ["verify", "list"])
    def test_no_log(self, worklist, capsys, verb):
        with pytest.raises(SystemExit):
            main(["audit", verb, "--worklist", str(worklist.folder)])
        assert "run `anomalib-cxr serve` first" in capsys.readouterr().err
