"""`anomalib-cxr calibrate` and `screen`: from labeled X-rays to a worklist, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from hashlib import sha256

import openvino
import psutil
import pytest
from PIL import Image

from anomalib_cxr.cli import main
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.deploy.runtime import ExportedModel, read_threshold
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.case import BELOW_THRESHOLD_NOTICE, Decision, Verdict
from anomalib_cxr.screening.pipeline.screening_process import ScreeningProcess
from anomalib_cxr.screening.worklist.store import Worklist

DRAWN = ["--n_normal", 44, "--n_sick", 14, "--size", 64, "--dicom"]
ASKED = ["--sensitivity", 0.6, "--confidence", 0.8, "--prevalence", 0.1, "--force"]  # two epochs detect little


@pytest.fixture(scope="module")
def place(tmp_path_factory, command, trained):
    """A folder with phantoms, a table of their labels, and a training."""
    folder = tmp_path_factory.mktemp("screening")
    code, output = command(folder, "anomalib-cxr", "phantom", "archive", *DRAWN)
    assert code == 0, output
    rows = [f"archive/CXR_png/{path.name},{path.stem[-1]}" for path in sorted(folder.glob("archive/CXR_png/*.png"))]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows, ""]))
    shutil.copytree(trained.folder, folder / "training")
    return folder


@pytest.fixture(scope="module")
def calibrated(place, command, segmenter_path):
    words = [
        "calibrate",
        "--model",
        "training",
        "--table",
        "labels.csv",
        "--segmenter",
        segmenter_path,
        *ASKED,
        "--force",
    ]
    return command(place, "anomalib-cxr", *words)


@pytest.fixture(scope="module")
def model(place, calibrated):
    assert calibrated.code == 0, calibrated.output
    return place / "training" / "weights" / "openvino"


@pytest.fixture(scope="module")
def screened(place, model, command):
    """Pictures, the DICOM files of the same phantoms, and a photograph's name without a photograph."""
    (place / "inbox").mkdir()
    for path in sorted((place / "archive" / "CXR_png").iterdir())[::3]:
        shutil.copy(path, place / "inbox")
    (place / "inbox" / "holiday.jpg").write_bytes(b"no image")
    Image.open(place / "inbox" / "PHANTOM_0000_0.png").rotate(180).save(place / "inbox" / "turned.png")
    inputs = ["inbox", "archive/DICOM/DICOMDIR"]
    words = ["screen", *inputs, "--model", model, "--worklist", "out", "--any_source"]
    return command(place, "anomalib-cxr", *words)


def rows_of(folder, name="worklist.csv"):
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def say(place, monkeypatch, capsys):
    """Run a verb in this process, without the seconds that its start takes."""

    def say(*words):
        monkeypatch.chdir(place)
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return say


@pytest.mark.slow
class TestCalibrate:
    def test_exports_a_training_and_says_what_it_found(self, calibrated, model):
        _, output = calibrated
        found = json.loads((model / "screening.json").read_text())
        (rule,) = found["thresholds"].values()
        assert f"threshold {rule['threshold']:g}. At most 40 % of sick images are expected" in output
        assert rule["lower_bound"] >= rule["sensitivity"] == 0.6
        assert re.search("(Not fit|Ready) to screen: training/weights/openvino", output)
        assert "TracerWarning" not in output
        assert "Removed" not in output  # what libraries tell of an export

    def test_too_few_sick_images(self, say, model):
        before = {path.name: path.read_bytes() for path in model.iterdir()}
        code, output = say("calibrate", "--model", model, "--table", "labels.csv")
        assert code == 1
        assert "44 normal images and 14 sick images" in output
        assert "at least 299 sick ones" in output
        assert {path.name: path.read_bytes() for path in model.iterdir()} == before

    def test_a_second_model_on_the_same_images(self, say, model, segmenter_path, tmp_path):
        first, second = (shutil.copytree(model, tmp_path / name) for name in ("first", "second"))
        before = {path.name: path.read_bytes() for path in second.iterdir()}
        words = ["--table", "labels.csv", "--segmenter", segmenter_path, *ASKED, "--compare", second]
        code, output = say("calibrate", "--model", first, *words)
        assert code == 1
        assert "--compare without --study" in output
        code, output = say("calibrate", "--model", first, *words, "--study", tmp_path / "study")
        assert code == 0, output
        rows = {row["figure"]: row for row in rows_of(tmp_path / "study", "comparison.csv")}
        auroc = json.loads((first / "screening.json").read_text())["detection"]["auroc"]
        assert float(rows["AUROC"]["first"]) == float(rows["AUROC"]["second"]) == pytest.approx(auroc)
        assert {(float(row["difference"]), float(row["p"])) for row in rows.values()} == {(0, 1)}
        assert str(second) in (tmp_path / "study" / "study.html").read_text()
        assert {path.name: path.read_bytes() for path in second.iterdir()} == before

    @pytest.mark.parametrize("words", [[], ["--table", "labels.csv", "--data", "{class_path: a.B}"]])
    def test_neither_data_nor_table_or_both(self, say, model, words):
        code, output = say("calibrate", "--model", model, *words)
        assert code == 1
        assert "one of the two" in output


@pytest.mark.slow
class TestScreen:
    def test_a_row_for_each_file(self, screened, place):
        code, output = screened
        assert code == 0, output
        rows = rows_of(place / "out")
        files = [*(place / "inbox").iterdir(), *(place / "archive" / "DICOM").rglob("IM*")]
        assert len(files) == 22 + 58
        assert sorted(row["path"] for row in rows) == sorted(str(file.resolve()) for file in files)
        assert "Worklist: out" in output
        assert "At most 40 % of sick images are expected below the threshold, at 80 % confidence." in output
        assert BELOW_THRESHOLD_NOTICE in output
        assert "Traceback" not in output

    def test_scores_and_refusals(self, screened, place):
        rows = {row["path"].rsplit("/", 1)[1]: row for row in rows_of(place / "out")}
        assert rows["holiday.jpg"]["decision"].startswith("refused: not readable")
        assert "upside down" in rows["turned.png"]["decision"]
        by_sop = [row for row in rows_of(place / "out") if row["sop_uid"]]
        assert len(by_sop) == 58
        for row in rows_of(place / "out"):
            if not row["decision"].startswith("refused"):
                below = float(row["score"]) < float(row["threshold"])
                assert row["decision"] == ("below the calibrated threshold" if below else "to be read")
                assert Image.open(place / "out" / row["heatmap"]).size == (64, 64)

    def test_the_guarantee_holds_on_what_it_was_calibrated_with(self, screened, place, model):
        """Of the sick phantoms, whose DICOM files score as their images, as many are below it as the record says."""
        found = json.loads((model / "screening.json").read_text())
        sick = [row for row in rows_of(place / "out") if row["sop_uid"]]
        order = sorted((place / "archive" / "DICOM").rglob("IM*"))
        names = {str(path.resolve()): int(path.parts[-4].removeprefix("PT")) >= 44 for path in order}
        below = [row for row in sick if names[row["path"]] and row["decision"] == "below the calibrated threshold"]
        assert len(below) == found["thresholds"][""]["n_sick_below"]

    def test_no_patient_in_tables_or_log(self, screened, place):
        texts = [screened.output, *((place / "out" / name).read_text() for name in ("worklist.csv", "worklist.json"))]
        assert not any("PHANTOM^" in text for text in texts)

    def test_again_nothing_is_screened(self, screened, say, model, place):
        before = rows_of(place / "out")
        code, output = say(
            *("screen", "inbox", "archive/DICOM/DICOMDIR", "--model", model, "--worklist", "out", "--any_source")
        )
        assert code == 0, output
        assert rows_of(place / "out") == before

    def test_sources_that_were_never_validated(self, say, model, place, tmp_path):
        code, output = say("screen", "archive/DICOM", "--model", model, "--worklist", tmp_path / "out", "--names")
        assert code == 0, output
        rows = rows_of(tmp_path / "out")
        expected = "refused: never validated on this kind of source: DICOM DX, anomalib_cxr phantom"
        assert {row["decision"] for row in rows} == {expected}
        assert {row["patient_id"] for row in rows} == {path.stem for path in (place / "archive/CXR_png").iterdir()}

    def test_other_options_on_an_existing_list(self, say, model, place, tmp_path, caplog):
        file = min((place / "archive" / "DICOM").rglob("IM*"))
        found = []
        for options in ([], ["--any_source"], ["--any_source", "--names"], ["--any_source"]):
            caplog.clear()
            code, output = say("screen", file, "--model", model, "--worklist", tmp_path / "out", *options)
            assert code == 0, output
            (row,) = rows_of(tmp_path / "out")
            known = b"PHANTOM_0000_0" in (tmp_path / "out" / "worklist.sqlite").read_bytes()
            found.append(
                (row["decision"].startswith("refused"), row.get("patient_id"), known, "Screened again" in caplog.text)
            )
        assert found == [
            (True, None, False, False),
            (False, None, False, True),
            (False, "PHANTOM_0000_0", True, True),
            (False, None, False, False),
        ]

    def test_a_replaced_file_leaves_its_verdict_with_the_former_xray(self, say, model, place, tmp_path):
        first, second = sorted((place / "archive" / "CXR_png").iterdir())[:2]
        path = tmp_path / "x.png"
        for number, image in enumerate((first, second), start=1):
            shutil.copy(image, path)
            code, output = say("screen", path, "--model", model, "--worklist", tmp_path / "out")
            assert code == 0, output
            worklist = Worklist(tmp_path / "out")
            assert worklist.number_of(path) == number
            content = sha256(image.read_bytes()).hexdigest()
            assert worklist.case(number).content == content
            if image == first:
                worklist.give_verdict(1, Verdict.ABNORMAL, "Ada", content=content)
        assert len(rows_of(tmp_path / "out")) == 1
        assert worklist.verdicts(2) == []
        assert [(earlier, case.content) for earlier, case in worklist.earlier(2)] == [
            (1, sha256(first.read_bytes()).hexdigest())
        ]
        assert [record.reader for record in worklist.verdicts(1)] == ["Ada"]

    def test_another_calibration_of_the_same_model(self, say, model, place, segmenter_path, tmp_path):
        """Rows at two prevalences, whose probabilities cannot be compared, never meet."""
        other = shutil.copytree(model, tmp_path / "other")
        words = ["--table", "labels.csv", "--segmenter", segmenter_path, *ASKED]
        code, output = say("calibrate", "--model", other, *words, "--prevalence", 0.3)
        assert code == 0, output
        hashes = [json.loads((folder / "screening.json").read_text())["model"] for folder in (model, other)]
        assert hashes[0] == hashes[1]
        file = min((place / "archive" / "CXR_png").iterdir())
        assert say("screen", file, "--model", model, "--worklist", tmp_path / "out")[0] == 0
        before = rows_of(tmp_path / "out")
        code, output = say("screen", file, "--model", other, "--worklist", tmp_path / "out")
        assert code == 1
        assert "rows of another model or calibration" in output
        assert rows_of(tmp_path / "out") == before

    def test_a_model_that_is_not_calibrated(self, say, model, tmp_path):
        for name in ("model.xml", "model.bin"):
            shutil.copy(model / name, tmp_path)
        code, output = say("screen", "inbox", "--model", tmp_path, "--worklist", tmp_path / "out")
        assert code == 1
        assert "no screening.json, lungs.xml, lungs.bin, input_check.safetensors" in output
        assert "anomalib-cxr calibrate" in output
        assert not (tmp_path / "out").exists()

    def test_inputs_that_do_not_exist(self, say, model, tmp_path):
        code, output = say("screen", "nowhere", "neither.png", "--model", model, "--worklist", tmp_path / "out")
        assert code == 1
        assert "no such path (2)" in output


@pytest.mark.slow
class TestUploads:
    """The process that `serve --model` screens uploads in."""

    @pytest.fixture(scope="class")
    def process(self, model, tmp_path_factory):
        output = tmp_path_factory.mktemp("uploads")
        Worklist(output, create=True)
        process = ScreeningProcess(model, output)
        yield process
        process.close()

    @pytest.fixture
    def image(self, place):
        return min((place / "archive" / "CXR_png").iterdir())

    def test_scores_as_screen_does(self, process, place, screened, image):
        (case,) = process.cases(image)
        rows = {row["path"]: row for row in rows_of(place / "out")}
        row = rows[str((place / "inbox" / image.name).resolve())]
        assert case.score == pytest.approx(float(row["score"]), abs=1e-6)
        assert case.decision.value == row["decision"]

    def test_what_is_no_image_is_a_refused_case(self, process, tmp_path):
        (tmp_path / "note.png").write_bytes(b"no image")
        (case,) = process.cases(tmp_path / "note.png")
        assert case.decision is Decision.REFUSED

    def test_one_that_takes_too_long_is_told_and_replaced(self, process, image, monkeypatch):
        pid = process.pid
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(process, "seconds", 1)
        with pytest.raises(ScreeningError, match="took longer than 1 s"):
            process.cases(image)
        assert not psutil.pid_exists(pid)
        monkeypatch.undo()
        assert process.cases(image)[0].score is not None

    def test_one_that_dies_before_it_takes_a_file_is_replaced(self, process, image):
        pid = process.pid
        os.kill(pid, signal.SIGSTOP)  # alive, as one of which not all threads have ended yet
        threading.Timer(1, os.kill, [pid, signal.SIGKILL]).start()
        assert process.cases(image)[0].score is not None
        assert process.pid != pid

    def test_one_that_died_between_two_files_is_replaced(self, process, image):
        former = psutil.Process(process.pid)
        former.kill()
        while former.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
        assert process.cases(image)[0].score is not None

    def test_a_model_that_is_not_calibrated(self, model, tmp_path):
        Worklist(tmp_path / "out", create=True)
        for name in ("model.xml", "model.bin"):
            shutil.copy(model / name, tmp_path)
        with pytest.raises(ScreeningError, match="anomalib-cxr calibrate"):
            ScreeningProcess(tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_ctrl_c_leaves_a_whole_list(place, model, interrupted, command):
    (place / "many").mkdir()
    image = (place / "archive" / "CXR_png" / "PHANTOM_0000_0.png").read_bytes()
    for number in range(2000):
        (place / "many" / f"{number}.png").write_bytes(image)
    database = place / "stopped" / "worklist.sqlite"
    words = ["screen", "many", "--model", model, "--worklist", "stopped", "--any_source"]
    seen = lambda: database.exists() and len(list((place / "stopped").glob("heatmaps/*.png"))) > 20  # noqa: E731
    code, output = interrupted(place, "anomalib-cxr", *words, seen=seen, by=signal.SIGINT)
    assert code == 130
    assert output.endswith("anomalib-cxr screen: interrupted\n")
    assert "Traceback" not in output
    rows = rows_of(place / "stopped")
    assert 8 <= len(rows) < 2000
    ((written,),) = sqlite3.connect(database).execute("SELECT COUNT(*) FROM cases")
    assert len(rows) == written


@pytest.mark.slow
def test_a_model_in_integers_is_calibrated_and_screens(
    place, screened, trained, side_by_side_root, segmenter_path, in_process, say
):
    data = ["--data", "anomalib_cxr.MontgomeryShenzhen", "--data.init_args.root", side_by_side_root]
    in_process(
        *(place, "export", *trained.model, *data, "--export_type", "openvino", "--export_root", "int8"),
        *("--compression_type", "INT8_PTQ"),
    )
    folder = place / "int8" / "weights" / "openvino"
    code, output = say(
        "calibrate", "--model", folder, "--table", "labels.csv", "--segmenter", segmenter_path, *ASKED, "--force"
    )
    assert code == 0, output
    graph = openvino.Core().read_model(folder / "model.xml")
    assert any(each.get_type_name() == "FakeQuantize" for each in graph.get_ops())

    code, output = say("screen", "inbox", "--model", folder, "--worklist", "int8/out", "--any_source")
    assert code == 0, output
    rows = [row for row in rows_of(place / "int8" / "out") if not row["decision"].startswith("refused")]
    assert len(rows) > 10
    model, threshold = ExportedModel(folder), read_threshold(folder / "model.xml")
    for row in rows:
        (score,) = model(read_radiograph(row["path"])[None].numpy()).score
        assert float(row["score"]) == pytest.approx(score, abs=1e-4)
        assert row["decision"] == (
            "below the calibrated threshold" if float(row["score"]) < threshold else "to be read"
        )
    float32 = {row["path"]: float(row["score"]) for row in rows_of(place / "out") if row["score"]}
    assert any(float(row["score"]) != float32[row["path"]] for row in rows)


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [(("--dicom",), "highdicom", "dicom"), (("--engine", "ray"), "ray", "ray")],
)
def test_a_missing_extra_is_told_before_anything_is_done(tmp_path, monkeypatch, capsys, option, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as end:
        main(["screen", "inbox", "--model", "no_model", "--worklist", str(tmp_path / "out"), *option])
    output = capsys.readouterr().err
    assert end.value.code == 1
    assert f"no module {module}" in output
    assert f'pip install "anomalib-cxr[{extra}]"' in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["calibrate", "screen"])
def test_help(capsys, verb):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert {"calibrate": "--sensitivity", "screen": "--any_source"}[verb] in capsys.readouterr().out
