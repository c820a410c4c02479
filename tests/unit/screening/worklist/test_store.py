"""The worklist on disk: its order, its questions, and what two writers or a kill do to it."""

from __future__ import annotations

import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from anomalib_cxr.errors import ChangedCaseError, LockedWorklistError, ScreeningError
from anomalib_cxr.screening.case import Agreement, Case, Decision, Verdict
from anomalib_cxr.screening.fingerprint import FileFingerprint
from anomalib_cxr.screening.worklist.database import DATABASE
from anomalib_cxr.screening.worklist.store import CaseQuery, Worklist
from anomalib_cxr.utils.path_text import path_as_text


@pytest.fixture
def worklist(tmp_path, case_of):
    """Cases 1 to 5 by name, of which the last two were refused; two have one probability."""
    worklist = Worklist(tmp_path / "out", create=True)
    cases = [case_of("b"), case_of("d", 0.02), case_of("a", 0.5), case_of("c", 0.9), case_of("e")]
    worklist.add(cases)
    return worklist


def names(found):
    return [case.path.removeprefix("/xrays/").removesuffix(".png") for _, case in found]


class TestSnapshot:
    def test_what_others_write_meanwhile_is_not_seen(self, worklist, case_of):
        with worklist.snapshot():
            before = worklist.counts(), names(worklist.find())
            Worklist(worklist.folder).add([case_of("f", 0.7)])
            Worklist(worklist.folder).give_verdict(4, Verdict.ABNORMAL, "Ada", content="")
            assert (worklist.counts(), names(worklist.find())) == before
            assert worklist.latest_verdicts([4]) == {}
        assert names(worklist.find()) == ["c", "f", *before[1][1:]]
        assert set(worklist.latest_verdicts([4])) == {4}

    def test_another_thread_sees_what_is_there_now(self, worklist, case_of):
        with worklist.snapshot(), ThreadPoolExecutor(1) as pool:
            worklist.count()
            worklist.add([case_of("f", 0.7)])
            assert (worklist.count(), pool.submit(worklist.count).result()) == (5, 6)

    def test_it_ends_with_an_error_too(self, worklist, case_of):
        with pytest.raises(KeyError), worklist.snapshot():
            raise KeyError
        worklist.add([case_of("f", 0.7)])
        assert worklist.count() == 6


class TestCases:
    def test_come_back_as_they_were(self, tmp_path):
        texts = {
            name: f"{name} 'of' \"x\" ü %"
            for name in ("why", "guarantee", "findings", "subgroup", "source", "study_uid")
        }
        more = {name: name for name in ("sop_uid", "patient_id", "patient_name", "sex", "heatmap", "layers", "model")}
        numbers = {"score": 0.1 + 0.2, "threshold": 1e-6, "probability": 1.0, "p_value": 1 / 3, "age": 0.5}
        case = Case(
            "/ü/a b.png",
            2**40,
            2**62 + 1,
            Decision.BELOW_THRESHOLD,
            **texts,
            **more,
            **numbers,
            height=3000,
            width=1,
            screened="t",
        )
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case, Case("/b.png", 0, 0, Decision.REFUSED)])
        assert [worklist.case(number) for number in (1, 2, 3)] == [case, Case("/b.png", 0, 0, Decision.REFUSED), None]

    def test_one_that_is_known_is_replaced(self, worklist, case_of):
        worklist.give_verdict(4, Verdict.ABNORMAL, "Ada", content="")
        worklist.add([case_of("c", 0.1, modified=7), case_of("f", 0.3)])
        assert worklist.case(4) == case_of("c", 0.1, modified=7)
        assert worklist.count() == 6
        assert [record.verdict for record in worklist.verdicts(4)] == [Verdict.ABNORMAL]
        assert worklist.number_of("/xrays/c.png") == 4

    def test_all_or_none(self, worklist, case_of):
        broken = replace(case_of("g", 0.9), source=None)  # the table takes no NULL there
        with pytest.raises(ScreeningError, match="NOT NULL"):
            worklist.add([case_of("f", 0.9), broken])
        assert worklist.count() == 5

    def test_fingerprints_and_numbers(self, worklist, case_of):
        worklist.add([case_of("a", 0.5, size=10, modified=20, changed=30, sample="s")])
        recorded = worklist.recorded()
        assert (len(recorded), recorded["/xrays/a.png"].fingerprint) == (5, (10, 20, 30, "s"))
        assert (worklist.number_of("/xrays/e.png"), worklist.number_of("/xrays/z.png")) == (5, None)
        worklist.refresh({"/xrays/a.png": FileFingerprint(1, 2, 3, "t")})
        assert worklist.recorded()["/xrays/a.png"].fingerprint == (1, 2, 3, "t")

    def test_a_name_that_is_no_utf8(self, tmp_path, case_of):
        file = Path(os.fsdecode(b"/xrays/M\xfcller.png"))
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of("a", 0.5, path=path_as_text(file))])
        assert worklist.case(worklist.number_of(file)).file == file

    def test_forgotten_names_are_nowhere_in_the_file(self, tmp_path, case_of):
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of("a", 0.5, patient_name="SECRET^ADA", patient_id="SECRET7")])
        worklist.forget_names()
        assert worklist.case(1).patient_name == worklist.case(1).patient_id == ""
        with sqlite3.connect(worklist.file) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not any(b"SECRET" in path.read_bytes() for path in tmp_path.iterdir())

    @pytest.mark.skipif(os.name != "posix", reason="modes of files")
    def test_only_for_the_owner(self, tmp_path, case_of):
        worklist = Worklist(tmp_path / "new" / "out", create=True)
        with sqlite3.connect(worklist.file) as reader:  # SQLite's further files lie there while one is connected
            worklist.add([case_of("a", 0.5)])
            reader.execute("SELECT * FROM cases").fetchall()
            modes = {path.name: path.stat().st_mode & 0o777 for path in worklist.folder.iterdir()}
        assert set(modes.values()) == {0o600}
        assert {f"{DATABASE}-wal", DATABASE} <= set(modes)
        assert [folder.stat().st_mode & 0o777 for folder in (worklist.folder, worklist.folder.parent)] == [0o700] * 2


class TestOneCalibration:
    @pytest.fixture
    def worklist(self, tmp_path, case_of):
        worklist = Worklist(tmp_path, create=True)
        worklist.refuse_other_calibration("b" * 64)
        worklist.add([case_of("a", 0.9, calibration="a" * 64)])
        return worklist

    def test_rows_of_another_are_refused_before_anything_is_scored(self, worklist):
        worklist.refuse_other_calibration("a" * 64)
        with pytest.raises(ScreeningError, match=rf"rows of another model or calibration, {'a' * 12}\n.*{'b' * 12}"):
            worklist.refuse_other_calibration("b" * 64)

    def test_rows_of_another_are_never_added(self, worklist, case_of):
        for cases in (["b", "b"], ["a", "b"]):
            with pytest.raises(ScreeningError, match="rows of another model or calibration"):
                worklist.add([case_of(name, 0.5, calibration=name * 64) for name in cases])
        assert [case.calibration for case in worklist.cases()] == ["a" * 64]


class TestLocked:
    """Another program locks the file: what waits, waits for a bounded time and says what to do."""

    @pytest.fixture
    def lock(self, worklist):
        connection = sqlite3.connect(worklist.file, isolation_level=None)
        yield connection.execute
        connection.close()

    def each_use(self, worklist, case_of):
        return [
            lambda: Worklist(worklist.folder, wait=0.2),
            lambda: Worklist(worklist.folder, create=True, wait=0.2),
            worklist.find,
            lambda: list(worklist.cases()),
            lambda: worklist.add([case_of("a", 0.9)]),
            lambda: worklist.give_verdict(3, Verdict.NORMAL, "Ada", content=""),
        ]

    @pytest.mark.timeout(60)
    def test_for_all(self, worklist, lock, case_of):
        lock("PRAGMA locking_mode = EXCLUSIVE")
        lock("DELETE FROM verdicts")  # takes the lock, and keeps it
        worklist._database._wait = 0.2
        for use in self.each_use(worklist, case_of):
            start = time.monotonic()
            with pytest.raises(
                LockedWorklistError, match=r"locked by another program for more than 0.2 s\n.*\n.*close"
            ):
                use()
            assert time.monotonic() - start < 5

    @pytest.mark.timeout(60)
    def test_for_writing_the_table_can_still_be_read(self, worklist, lock):
        worklist._database._wait = 0.2
        lock("BEGIN IMMEDIATE")
        assert len(worklist.find()) == worklist.count() == 5
        with pytest.raises(LockedWorklistError):
            worklist.give_verdict(3, Verdict.NORMAL, "Ada", content="")
        lock("ROLLBACK")
        worklist.give_verdict(3, Verdict.NORMAL, "Ada", content="")
        assert [record.case_id for record in worklist.verdicts()] == [3]

    def test_for_a_moment_is_waited_for(self, worklist, lock):
        lock("BEGIN IMMEDIATE")
        thread = threading.Thread(target=worklist.give_verdict, args=(3, Verdict.NORMAL, "Ada"), kwargs={"content": ""})
        thread.start()
        time.sleep(0.3)
        lock("ROLLBACK")
        thread.join(30)
        assert [record.case_id for record in worklist.verdicts()] == [3]


class TestMadeAnew:
    def test_a_verdict_on_a_former_list_is_refused(self, worklist, case_of):
        """A page that was opened before the list was made anew has the number of another X-ray."""
        opened = worklist.case(3)
        worklist.file.unlink()
        Worklist(worklist.folder, create=True).add([case_of(name, 0.5, content=name * 64) for name in "xyz"])
        with pytest.raises(ChangedCaseError, match="case 3 whose X-ray was replaced since it was shown"):
            worklist.give_verdict(3, Verdict.NORMAL, "Ada", content=opened.content)
        assert worklist.verdicts() == []

    def test_a_list_that_went_away_is_not_made_anew_by_reading(self, worklist):
        worklist.file.unlink()
        for use in (worklist.find, lambda: worklist.give_verdict(3, Verdict.NORMAL, "Ada", content="")):
            with pytest.raises(ScreeningError, match="unable to open database file"):
                use()
        assert not worklist.file.exists()


class TestReplacedFile:
    @pytest.fixture
    def replaced(self, tmp_path, case_of):
        """A file with content `one`, which has a verdict, then with `two`."""
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of("a", 0.9, content="one")])
        worklist.give_verdict(1, Verdict.ABNORMAL, "Ada", content="one")
        worklist.add([case_of("a", 0.1, content="two")])
        return worklist

    def test_the_former_case_stays_with_its_verdicts_as_history(self, replaced):
        assert [(number, case.content) for number, case in replaced.find()] == [(2, "two")]
        assert replaced.count() == 1
        assert replaced.verdicts(2) == []
        ((number, case),) = replaced.earlier(2)
        assert (number, case.content, bool(case.superseded)) == (1, "one", True)
        assert [record.verdict for record in replaced.verdicts(1)] == [Verdict.ABNORMAL]
        assert [(record.case_id, case.content) for record, case in replaced.verdicts_with_cases()] == [(1, "one")]

    @pytest.mark.parametrize(("number", "content"), [(1, "one"), (2, "one"), (2, "")])
    def test_no_verdict_on_another_xray_than_the_one_shown(self, replaced, number, content):
        with pytest.raises(ChangedCaseError, match=r"replaced since it was shown"):
            replaced.give_verdict(number, Verdict.NORMAL, "Bob", content=content)
        assert len(replaced.verdicts()) == 1

    def test_the_former_content_back_again(self, replaced, case_of):
        replaced.add([case_of("a", 0.9, content="one")])
        assert [number for number, _ in replaced.find()] == [1]
        assert [number for number, _ in replaced.earlier(1)] == [2]
        replaced.give_verdict(1, Verdict.NORMAL, "Bob", content="one")


class TestOrder:
    def test_the_most_probable_first_and_refused_ones_last(self, worklist):
        assert names(worklist.find()) == ["c", "a", "d", "b", "e"]

    def test_pages(self, worklist):
        pages = [names(worklist.find(limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
        assert pages == [["c", "a"], ["d", "b"], ["e"], []]

    def test_by_the_unclipped_score_and_then_by_number(self, tmp_path, case_of):
        worklist = Worklist(tmp_path, create=True)
        raw = {"a": 1.2, "b": 1.7, "c": 1.2, "d": None}  # no number: to be read first
        worklist.add([case_of(name, 1.0, score=1.0, raw_score=value) for name, value in raw.items()])
        assert names(worklist.find()) == ["d", "b", "a", "c"]

    def test_a_score_that_is_no_number_comes_first(self, tmp_path, case_of):
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of("a", 0.9), case_of("b", 0.8, raw_score=None), case_of("c", 0.02)])
        assert names(worklist.find()) == ["b", "a", "c"]

    def test_the_decision_comes_before_the_score(self, tmp_path, case_of):
        """Thresholds of groups differ."""
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of("a", 0.2, raw_score=0.8), case_of("b", 0.5, raw_score=0.3), case_of("c")])
        assert names(worklist.find()) == ["b", "a", "c"]

    def test_neighbors(self, worklist):
        assert [worklist.neighbors(number) for number in (4, 3, 2, 1, 5, 9)] == [
            (None, 3), (4, 2), (3, 1), (2, 5), (1, None), (None, None),
        ]  # fmt: skip

    def test_neighbors_by_the_place_in_a_query(self, worklist):
        refused = CaseQuery(Decision.REFUSED)
        assert [worklist.neighbors(number, refused) for number in (1, 5, 4)] == [(None, 5), (1, None), (None, 1)]


class TestQueries:
    @pytest.mark.parametrize("decision", Decision)
    def test_by_decision(self, worklist, decision):
        expected = {Decision.TO_READ: ["c", "a"], Decision.BELOW_THRESHOLD: ["d"], Decision.REFUSED: ["b", "e"]}[
            decision
        ]
        assert names(worklist.find(CaseQuery(decision))) == expected
        assert worklist.count(CaseQuery(decision)) == len(expected)

    @pytest.mark.parametrize(
        ("search", "expected"),
        [
            ("100%", ["100%_x"]),
            ("%", ["100%_x"]),
            ("_", ["100%_x"]),
            ("'", ["o'hara"]),
            ('"', ['"q"']),
            ("\\", ["back\\slash"]),
            ("O'H", ["o'hara"]),
            ("9.8.7", ["uid"]),
            ("' OR 1 --", []),
            ("", ["100%_x", "o'hara", '"q"', "back\\slash", "uid"]),
        ],
    )
    def test_search(self, tmp_path, case_of, search, expected):
        worklist = Worklist(tmp_path, create=True)
        worklist.add([case_of(name, 0.5) for name in ("100%_x", "o'hara", '"q"', "back\\slash")])
        worklist.add([case_of("uid", 0.5, sop_uid="1.9.8.7.6")])
        assert names(worklist.find(CaseQuery(search=search))) == expected
        assert worklist.count(CaseQuery(search=search)) == len(expected)

    @pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
    @pytest.mark.parametrize("spell", [str, str.upper, str.lower, str.casefold])
    @pytest.mark.parametrize(
        ("name", "search"),
        [("Müller Zoë", "ü"), ("Jörg", "jörg"), ("ŁÓDŹ", "łódź"), ("Straße 5", "straße"), ("ΑΣΘΕΝΗΣ", "ασθεν")],
    )
    def test_search_in_any_spelling(self, tmp_path, case_of, form, spell, name, search):
        worklist = Worklist(tmp_path, create=True)
        stored = [unicodedata.normalize(stored_as, name) + f" {stored_as}" for stored_as in ("NFC", "NFD")]
        worklist.add([case_of(each, 0.5) for each in (*stored, "Muller Zoe Jorg LODZ")])
        query = CaseQuery(search=unicodedata.normalize(form, spell(search)))
        assert names(worklist.find(query)) == stored
        assert worklist.count(query) == 2

    def test_search_in_a_decision(self, worklist):
        assert names(worklist.find(CaseQuery(Decision.REFUSED, "e.png"))) == ["e"]
        assert names(worklist.find(CaseQuery(Decision.TO_READ, "e.png"))) == []

    def test_counts_by_day(self, worklist, case_of):
        worklist.add([case_of("f", 0.9, screened="2026-02-01T00:00:00+00:00")])
        to_read, below, refused = Decision.TO_READ, Decision.BELOW_THRESHOLD, Decision.REFUSED
        assert worklist.counts() == {below: 1, to_read: 3, refused: 2}
        assert worklist.counts("2026-02-01") == {below: 0, to_read: 1, refused: 0}
        assert worklist.counts("2026-01-31") == {below: 1, to_read: 2, refused: 2}
        assert sum(worklist.counts("2025-01-01").values()) == 0


class TestVerdicts:
    def test_all_are_kept_in_their_order(self, worklist):
        for verdict in (Verdict.UNSURE, Verdict.NORMAL):
            worklist.give_verdict(3, verdict, " Ada ", "a 'note'", content="")
        worklist.give_verdict(4, Verdict.ABNORMAL, "Bob", content="")
        assert [(record.case_id, record.verdict, record.reader, record.note) for record in worklist.verdicts()] == [
            (3, Verdict.UNSURE, "Ada", "a 'note'"),
            (3, Verdict.NORMAL, "Ada", "a 'note'"),
            (4, Verdict.ABNORMAL, "Bob", ""),
        ]
        assert len(worklist.verdicts(3)) == 2
        assert worklist.verdicts(1) == []
        assert all(record.given_at.endswith("+00:00") for record in worklist.verdicts())

    def test_latest(self, worklist):
        for number, verdict in ((3, Verdict.UNSURE), (4, Verdict.ABNORMAL), (3, Verdict.NORMAL)):
            worklist.give_verdict(number, verdict, "Ada", content="")
        found = worklist.latest_verdicts([3, 4, 5])
        assert {number: record.verdict for number, record in found.items()} == {3: Verdict.NORMAL, 4: Verdict.ABNORMAL}
        assert worklist.latest_verdicts([]) == {}

    def test_first_unread_is_the_first_in_the_order_without_a_verdict(self, worklist):
        for query in (CaseQuery(), CaseQuery(Decision.TO_READ)):
            for number, _ in worklist.find(query):
                if not worklist.verdicts(number):
                    assert worklist.first_unread(query) == number
                    worklist.give_verdict(number, Verdict.NORMAL, "Ada", content="")
            assert worklist.first_unread(query) is None

    def test_agreement_takes_the_last_of_each_reader(self, worklist):
        for number, verdict, reader in [
            (3, Verdict.NORMAL, "Ada"), (3, Verdict.ABNORMAL, "Ada"), (3, Verdict.NORMAL, "Bob"),
            (4, Verdict.ABNORMAL, "Ada"), (2, Verdict.NORMAL, "Ada"),
        ]:  # fmt: skip
            worklist.give_verdict(number, verdict, reader, content="")
        assert set(worklist.agreement()) == {
            Agreement(Decision.TO_READ, Verdict.ABNORMAL, 2),
            Agreement(Decision.TO_READ, Verdict.NORMAL, 1),
            Agreement(Decision.BELOW_THRESHOLD, Verdict.NORMAL, 1),
        }

    @pytest.mark.parametrize(("number", "reader"), [(99, "Ada"), (3, "  ")])
    def test_of_no_case_or_no_reader(self, worklist, number, reader):
        with pytest.raises(ScreeningError, match=rf"case {number}, reader"):
            worklist.give_verdict(number, Verdict.NORMAL, reader, content="")
        assert worklist.verdicts() == []


class TestRefused:
    def test_no_worklist(self, tmp_path):
        with pytest.raises(ScreeningError, match=rf"no {DATABASE} in .*\n.*\n.*anomalib-cxr screen"):
            Worklist(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("create", [True, False])
    def test_of_a_newer_version(self, worklist, create):
        with sqlite3.connect(worklist.file) as database:
            database.execute("PRAGMA user_version = 99")
        with pytest.raises(ScreeningError, match=r"format 99\n.*format 6"):
            Worklist(worklist.folder, create=create)

    @pytest.mark.parametrize("create", [True, False])
    def test_a_file_that_is_none(self, tmp_path, create):
        (tmp_path / DATABASE).write_bytes(b"no database, but long enough to be looked at" * 100)
        with pytest.raises(ScreeningError, match="file is not a database"):
            Worklist(tmp_path, create=create)

    def test_a_folder_that_cannot_be_one(self, tmp_path):
        (tmp_path / DATABASE).mkdir()
        with pytest.raises(ScreeningError, match="unable to open database file"):
            Worklist(tmp_path, create=True)


def write(folder, name, count):
    """Write cases and verdicts, one at a time."""
    worklist = Worklist(folder, create=True)
    for number in range(count):
        worklist.add([Case(f"/{name}/{number}.png", 1, 1, Decision.TO_READ, probability=0.5)])
        worklist.give_verdict(worklist.number_of(f"/{name}/{number}.png"), Verdict.NORMAL, name, content="")


WRITING = f"""
import sys
from anomalib_cxr.screening.case import Case, Decision, Verdict
from anomalib_cxr.screening.worklist.store import Worklist
{inspect.getsource(write)}
write(sys.argv[1], sys.argv[2], 30)
"""


class TestSeveral:
    def test_processes_that_write_at_once(self, tmp_path):
        words = [sys.executable, "-c", WRITING, tmp_path]
        writers = [subprocess.Popen([*words, name]) for name in "ab"]  # noqa: S603  # this interpreter
        assert [writer.wait(120) for writer in writers] == [0, 0]
        worklist = Worklist(tmp_path)
        assert set(worklist.recorded()) == {f"/{name}/{number}.png" for name in "ab" for number in range(30)}
        readers = [record.reader for record in worklist.verdicts()]
        assert (readers.count("a"), readers.count("b")) == (30, 30)

    def test_threads_that_begin_at_once(self, tmp_path):
        for attempt in range(10):
            folder, failed = tmp_path / str(attempt), []

            def begin(name, folder=folder, failed=failed):
                try:
                    write(folder, name, 2)
                except ScreeningError as error:
                    failed.append(error)

            threads = [threading.Thread(target=begin, args=(name,)) for name in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert failed == []
            assert Worklist(folder).count() == 8


KILLED = """
import sys
from anomalib_cxr.screening.case import Case, Decision
from anomalib_cxr.screening.worklist.store import Worklist
worklist = Worklist(sys.argv[1], create=True)
start = worklist.count()
for number in range(start, start + 100_000):
    worklist.add([Case(f"/{number}-{part}.png", 1, 1, Decision.TO_READ) for part in "ab"])
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_writers_lose_nothing(tmp_path):
    told = set()
    for milliseconds in (30, 5, 80):
        process = subprocess.Popen(  # noqa: S603  # this interpreter
            [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True
        )
        told.add(process.stdout.readline().strip())  # it has begun
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
        told |= set(process.communicate()[0].split())
        paths = [case.path for _, case in Worklist(tmp_path).find()]
        assert len(set(paths)) == len(paths)
        assert {f"/{number}-{part}.png" for number in told for part in "ab"} <= set(paths)
        assert len(paths) % 2 == 0  # each write is there whole
    assert len(told) > 3
