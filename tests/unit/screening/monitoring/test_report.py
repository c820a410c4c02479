"""Text and table of monitoring, and the command with its exit status."""

from __future__ import annotations

import csv
import stat
from dataclasses import replace

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist
from anomalib_cxr.screening.monitoring.report import describe_result, write_csv


def run(caplog, *words):
    caplog.clear()
    with caplog.at_level("INFO"):
        try:
            main(["monitor", *map(str, words)])
        except SystemExit as ended:
            return ended.code, caplog.text
    return 0, caplog.text


class TestCommand:
    def test_fine(self, fill, caplog):
        code, said = run(caplog, fill().folder)
        assert code == 0
        assert "No drift" in said
        assert "does not exclude disease" in said

    def test_drift(self, fill, caplog):
        worklist = fill(gray=-0.08)
        code, said = run(caplog, worklist.folder)
        assert code == 3
        assert "Gray value in the lungs, all X-rays (" in said
        with (worklist.folder / "monitor.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["figure"] for row in rows if row["drift"] == "yes"} == {"lung_gray"}

    def test_too_few(self, fill, caplog):
        code, said = run(caplog, fill(n=20).folder)
        assert code == 4
        assert "50 are needed" in said

    def test_error(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["monitor", str(tmp_path)])
        assert ended.value.code == 1
        assert "no worklist.sqlite" in capsys.readouterr().err


class TestTable:
    def test_is_the_result(self, fill):
        worklist = fill()
        result = monitor_worklist(worklist, MonitorSettings())
        with write_csv(result, worklist.folder).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(result.comparisons)
        for row, each in zip(rows, result.comparisons, strict=True):
            assert (row["by"], row["group"], row["figure"], int(row["n"])) == each[:4]
            assert row["p_holm"] == ("" if each.p_holm != each.p_holm else str(each.p_holm))  # NaN
        assert "is_large" not in rows[0]

    def test_is_for_its_owner(self, fill):
        worklist = fill(n=60)
        file = write_csv(monitor_worklist(worklist, MonitorSettings()), worklist.folder)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_a_machine_that_looks_like_a_formula(self, fill):
        worklist = fill(n=60)
        worklist.add([replace(worklist.case(1), source="=HYPERLINK(1)")])
        text = write_csv(monitor_worklist(worklist, MonitorSettings()), worklist.folder).read_text()
        assert "'=HYPERLINK(1)" in text


def test_hints(fill):
    worklist = fill(n=800, prevalence=0.6)
    said = "\n".join(describe_result(monitor_worklist(worklist, MonitorSettings())))
    assert "sick people, where the calibration was told 5 %" in said
