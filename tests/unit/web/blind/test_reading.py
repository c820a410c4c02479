"""Blind readings: their order, who reads blind, and which verdicts count."""

from __future__ import annotations

import json
import stat

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.web.accounts import ACCOUNTS, Accounts
from anomalib_cxr.web.blind.reading import READING, BlindReadings


@pytest.fixture
def many(tmp_path, hashed_accounts):
    """A worklist whose order tells all: the sick ones have the high scores and numbers."""
    worklist = Worklist(tmp_path / "many", create=True)
    worklist.add(
        [
            Case(f"/{i}.png", 1, 1, Decision.TO_READ, raw_score=i, content=f"{i:064x}", height=9, width=9)
            for i in range(40)
        ]
    )
    worklist.add([Case("/broken.png", 1, 1, Decision.REFUSED, why="not readable")])
    (worklist.folder / ACCOUNTS).write_bytes(hashed_accounts.file.read_bytes())
    return BlindReadings(worklist)


def give(readings, position, reader, verdict=Verdict.NORMAL):
    case = readings.load().cases[position - 1]
    readings.worklist.give_verdict(case.number, verdict, reader, content=case.content)


def test_order_is_random_fixed_and_of_the_seed(many):
    first = many.open(7)
    assert stat.S_IMODE(many.file.stat().st_mode) == 0o600
    numbers = [case.number for case in first.cases]
    assert sorted(numbers) == list(range(1, 41))  # without the one that cannot be shown
    assert numbers not in (sorted(numbers), sorted(numbers, reverse=True))
    assert many.load() == first
    many.file.unlink()
    assert [case.number for case in many.open(7).cases] == numbers
    many.file.unlink()
    assert [case.number for case in many.open(8).cases] != numbers


def test_readers_are_accounts(many):
    assert many.open(0).readers == ("Ada", "Bob")
    many.file.unlink()
    assert many.open(0, ["root", "ADA", "ada"]).readers == ("Root", "Ada")
    many.file.unlink()
    with pytest.raises(ScreeningError, match="no account for Eve, Zed"):
        many.open(0, ["Ada", "Eve", "Zed"])
    Accounts(many.worklist.folder).file.unlink()
    with pytest.raises(ScreeningError, match="whoever can type another one's name is not blind"):
        many.open(0)
    assert not many.file.exists()


def test_there_is_one_and_it_has_xrays(many, worklist, accounts):
    many.open(0)
    before = many.file.read_bytes()
    with pytest.raises(ScreeningError, match="screen into another folder"):
        many.open(1)
    assert many.file.read_bytes() == before
    empty = Worklist(worklist.folder.parent / "empty", create=True)
    (empty.folder / ACCOUNTS).write_bytes(accounts.file.read_bytes())
    with pytest.raises(ScreeningError, match="no X-ray"):
        BlindReadings(empty).open(0)


class TestVerdicts:
    def test_blind_until_all_are_read_and_the_last_blind_one_counts(self, many):
        many.worklist.give_verdict(3, Verdict.ABNORMAL, "Ada", content=f"{2:064x}")  # before: seen with the model
        many.open(0)
        give(many, 1, "Ada", Verdict.ABNORMAL)
        give(many, 1, "Ada", Verdict.UNSURE)
        give(many, 1, "Bob")
        progress = many.progress(many.load())
        assert {position: given.verdict for position, given in progress["Ada"].verdicts.items()} == {1: Verdict.UNSURE}
        assert progress["Ada"].unread == list(range(2, 41))
        assert many.is_blind("Ada")
        for position in range(2, 41):
            give(many, position, "Ada")
        assert (many.is_blind("Ada"), many.is_blind("Bob"), many.is_blind("Root")) == (False, True, False)
        assert many.is_blind("")
        give(many, 2, "Ada", Verdict.ABNORMAL)  # by now with the model
        assert many.progress(many.load())["Ada"].verdicts[2].verdict is Verdict.NORMAL

    def test_closed(self, many):
        many.open(0)
        give(many, 1, "Bob")
        many.close()
        give(many, 2, "Bob")
        reading = many.load()
        assert reading.closed
        assert list(many.progress(reading)["Bob"].verdicts) == [1]
        assert not many.is_blind("Bob")
        assert not many.is_blind("")
        with pytest.raises(ScreeningError, match="no open reading"):
            many.close()

    def test_an_xray_that_was_replaced_is_left_out(self, many):
        many.open(0)
        gone = many.load().cases[4]
        case = many.worklist.case(gone.number)
        many.worklist.add([Case(case.path, 1, 1, Decision.TO_READ, content="f" * 64, height=9, width=9)])
        progress = many.progress(many.load())["Ada"]
        assert 5 not in progress.unread
        assert len(progress.unread) == 39


@pytest.mark.parametrize("damage", ["", "{}", '{"format": 2}'])
def test_a_damaged_file_shows_nothing(many, browse, damage):
    many.open(0)
    many.file.write_text(damage)
    with pytest.raises(ScreeningError, match="restore it from a backup"):
        many.is_blind("Root")
    accounts = Accounts(many.worklist.folder)
    outside = browse(many.worklist, accounts=accounts, base_url="http://192.168.0.7")
    outside.sign_in("Root")
    answer = outside.get("/")
    assert answer.status_code == 503
    assert "39.png" not in answer.text


class TestVerbs:
    def test_open_and_close(self, many, caplog):
        folder = str(many.worklist.folder)
        with caplog.at_level("INFO", logger="anomalib_cxr"):
            main(["blind", "open", "--worklist", folder, "--seed", "3", "--readers", "bob,ada"])
            assert "40 X-rays are read blind by Bob, Ada" in caplog.text
            give(many, 1, "Ada")
            main(["blind", "close", "--worklist", folder])
            assert "Ada: 1 read, 39 unread" in caplog.text
        file = json.loads((many.worklist.folder / READING).read_text())
        assert (file["seed"], file["readers"], file["verdicts_at_end"]) == (3, ["Bob", "Ada"], 1)

    def test_refusals(self, many, capsys):
        for words in (["close"], ["open", "--readers", "Eve"]):
            with pytest.raises(SystemExit) as ended:
                main(["blind", *words, "--worklist", str(many.worklist.folder)])
            assert ended.value.code == 1
        assert "blind open" in capsys.readouterr().err
