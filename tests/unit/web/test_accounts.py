"""Accounts: the file, and the verbs that change it."""

from __future__ import annotations

import io
import json
import stat
import threading

import pytest
from argon2 import PasswordHasher

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.web import verbs
from anomalib_cxr.web.accounts import Accounts, Role

from .conftest import PASSWORD


@pytest.fixture
def run(worklist, monkeypatch, capsys):
    """Run `anomalib-cxr users`, with lines of the standard input."""

    def run(*words, lines=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code = 0
        try:
            main(["users", *words, "--worklist", str(worklist.folder)])
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().err

    return run


def test_the_file_has_hashes_and_only_its_owner_reads_it(accounts):
    file = json.loads(accounts.file.read_text())
    assert [(entry["name"], entry["role"]) for entry in file["accounts"]] == [
        ("Ada", "reader"),
        ("Bob", "reader"),
        ("Root", "admin"),
    ]
    hashes = [entry["password"] for entry in file["accounts"]]
    assert all(text.startswith("$argon2id$") and PasswordHasher().verify(text, PASSWORD) for text in hashes)
    assert len(set(hashes)) == 3  # each has its own salt
    assert PASSWORD not in accounts.file.read_text()


def test_a_new_file_is_private(worklist):
    accounts = Accounts(worklist.folder)
    accounts.add("Zoe\u0308", Role.READER, PASSWORD)
    assert stat.S_IMODE(accounts.file.stat().st_mode) == 0o600
    assert accounts.check("zo\u00eb", PASSWORD).name == "Zo\u00eb"


@pytest.mark.parametrize("name", ["", " ", "a:b", "a\0b", "\u202eadA", "x" * 101, "ada", "ADA "])
def test_names_that_cannot_be_used(accounts, name):
    before = accounts.file.read_bytes()
    with pytest.raises(ScreeningError, match="next step"):
        accounts.add(name, Role.READER, PASSWORD)
    assert accounts.file.read_bytes() == before


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1001, "Long Name of Hers"])
def test_passwords_that_cannot_be_used(accounts, password):
    with pytest.raises(ScreeningError, match="that nobody guesses"):
        accounts.add("long name of hers", Role.READER, password)


def test_the_last_admin_stays_beside_readers(accounts):
    with pytest.raises(ScreeningError, match="the last admin"):
        accounts.remove("Root")
    accounts.remove("Ada")
    accounts.remove("Bob")
    accounts.remove("Root")
    assert accounts.all() == []


def test_added_at_once_none_is_lost(accounts):
    names = [f"Reader {index}" for index in range(8)]
    threads = [threading.Thread(target=accounts.add, args=(name, Role.READER, PASSWORD)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {account.name for account in accounts.all()} == {"Ada", "Bob", "Root", *names}


class TestVerbs:
    def test_add_list_password_remove(self, run, worklist, caplog):
        accounts = Accounts(worklist.folder)
        with caplog.at_level("INFO", logger="anomalib_cxr"):
            assert run("add", "Dr. Ada", "--role", "admin", lines=f"{PASSWORD}\n") == (0, "")
            assert "Start `serve` again" in caplog.text
            assert accounts.check("Dr. Ada", PASSWORD).role is Role.ADMIN
            assert run("password", "dr. ada", lines="another password\r\n") == (0, "")
            assert accounts.check("Dr. Ada", PASSWORD) is None
            assert accounts.check("Dr. Ada", "another password").role is Role.ADMIN
            assert run("list") == (0, "")
            assert "Dr. Ada\tadmin" in caplog.text
            assert run("remove", "Dr. Ada") == (0, "")
            assert accounts.all() == []
            assert run("list") == (0, "")
            assert "No account" in caplog.text

    def test_no_password_and_no_such_account(self, run, worklist):
        code, told = run("add", "Ada")
        assert code == 1
        assert "0 characters" in told
        code, told = run("remove", "Ada")
        assert code == 1
        assert "no account 'Ada'" in told
        assert not (worklist.folder / "accounts.json").exists()

    def test_a_password_is_no_argument(self, run):
        code, told = run("add", "Ada", "--password", PASSWORD)
        assert code == 2
        assert "--password" in told

    def test_no_worklist(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            main(["users", "add", "Ada", "--worklist", str(tmp_path / "new")])
        assert "run `anomalib-cxr screen` first" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(("second", "is_added"), [(PASSWORD, True), ("another password", False)])
    def test_is_asked_for_twice(self, accounts, worklist, monkeypatch, second, is_added):
        answers = iter([PASSWORD, second])
        monkeypatch.setattr(verbs.sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(verbs.getpass, "getpass", lambda prompt: next(answers))
        if is_added:
            main(["users", "add", "Eve", "--worklist", str(worklist.folder)])
        else:
            with pytest.raises(SystemExit):
                main(["users", "add", "Eve", "--worklist", str(worklist.folder)])
        assert (accounts.find("Eve") is not None) is is_added
