"""A screening that is stopped, started again, or hindered."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.pipeline import screener as screener_module
from anomalib_cxr.screening.pipeline.screener import LOCK, screen, unscreened
from anomalib_cxr.screening.worklist.store import Worklist


@pytest.fixture
def files(images, tmp_path):
    """Copies of twenty phantoms, and a file that is no image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for path in images[:12] + images[60:68]:
        shutil.copy(path, folder)
    (folder / "z.png").write_bytes(b"no image")
    return sorted(folder.iterdir())


@pytest.fixture
def run(screener, calibration):
    def run(files, engine=screener.cases, **settings):
        return screen(files, screener.settings.output, calibration, engine, **settings)

    return run


def idle(files):
    """An engine that must not be needed."""
    assert list(files) == []
    return iter(())


def tables(folder):
    with (folder / "worklist.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert [row["path"] for row in json.loads((folder / "worklist.json").read_text())["rows"]] == paths
    return paths


class TestWhole:
    def test_a_row_for_each_file(self, run, files):
        worklist = run(files)
        assert sorted(tables(worklist.folder)) == [str(file) for file in files]
        assert worklist.counts()[Decision.REFUSED] >= 1
        assert worklist.case(worklist.number_of(files[-1])).why.startswith("not readable")

    def test_again_nothing_is_looked_at(self, run, files):
        first = run(files).find()
        second = run(files, idle).find()
        assert second == first
        assert len(second) == len(files)

    def test_a_changed_file_is_screened_anew(self, run, files, screener):
        worklist = run(files)
        number = worklist.number_of(files[0])
        worklist.give_verdict(number, Verdict.NORMAL, "Ada")
        before = worklist.case(number)
        shutil.copy(files[15], files[0])
        seen = []
        run(files, lambda given: seen.extend(given) or screener.cases(given))
        assert seen == [files[0]]
        assert worklist.number_of(files[0]) == number
        assert worklist.case(number).score != before.score
        assert worklist.case(number).score == pytest.approx(
            worklist.case(worklist.number_of(files[15])).score, abs=1e-5
        )
        assert [given.reader for given in worklist.verdicts(number)] == ["Ada"]
        assert worklist.count() == len(files)

    def test_new_files_are_added(self, run, files):
        run(files[:5])
        assert len(tables(run(files[:9]).folder)) == 9

    def test_unscreened(self, run, files):
        worklist = run(files[:3])
        os.utime(files[1], ns=(1, 1))
        assert unscreened(files[:4], worklist) == [files[1], files[3]]


class TestInterrupted:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a worker died")])
    def test_the_first_rows_stay_and_it_goes_on(self, run, files, screener, error):
        def stopping(given):
            yield next(screener.cases(given))
            raise error

        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            run(files, stopping)
        folder = screener.settings.output
        first = tables(folder)
        assert len(first) == 8
        seen = []
        run(files, lambda given: seen.extend(given) or screener.cases(given))
        assert set(map(str, seen)) == set(map(str, files)) - set(first)
        assert sorted(tables(folder)) == [str(file) for file in files]

    def test_a_full_disk(self, run, files, screener, monkeypatch):
        run(files[:5])
        before = Worklist(screener.settings.output).find()

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(screener_module, "write_picture", full)
            with pytest.raises(
                ScreeningError, match=r"out: cannot be written \(.*No space left.*\)\n.*\n.*no row is lost"
            ):
                run(files)
        assert Worklist(screener.settings.output).find() == before
        assert len(tables(screener.settings.output)) == 5
        assert run(files).count() == len(files)


HOLD = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]).acquire(); print('held', flush=True); input()"


class TestRefused:
    def test_rows_of_another_model(self, run, files, calibration, screener):
        run(files[:2])
        other = calibration.model_copy(update={"model": "0" * 64})
        with pytest.raises(ScreeningError, match=rf"rows of another model.*{calibration.model[:12]}"):
            screen(files, screener.settings.output, other, idle)
        assert len(tables(screener.settings.output)) == 2

    def test_two_at_once(self, run, files, screener):
        run(files[:2])
        words = [sys.executable, "-c", HOLD, screener.settings.output / LOCK]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:  # noqa: S603
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ScreeningError, match="another screening writes there"):
                run(files)
            other.communicate("\n")
        assert run(files).count() == len(files)

    def test_a_file_in_place_of_the_folder(self, run, files, screener):
        screener.settings.output.write_text("a file")
        with pytest.raises(ScreeningError, match=r"out: cannot be written"):
            run(files)
