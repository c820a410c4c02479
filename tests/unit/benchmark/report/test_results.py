"""A benchmark's folder read back: finished, half finished and damaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MISSING
from anomalib_cxr.benchmark.report.results import BEST, LAST, TEST, VAL, NoiseLevel, read_results
from anomalib_cxr.errors import CxrError

from ..folders import score_rows

NOISE = {
    "class_path": "anomalib_cxr.DetectorNoise",
    "init_args": {"gain": 0.0, "sigma": 0.1},
}
SCORES = score_rows(["normal", "sick"], [0.1, 0.9])


def statuses(results):
    return {result.run.system: result.status for result in results.runs}


class TestGrid:
    def test_every_run_of_the_grid_has_a_result(self, benchmark_folder):
        written = benchmark_folder(["a", "b"], data=("x", "y"), splits=(0, 1), seeds=(2, 3, 4))
        results = read_results(written.folder)
        assert len({each.run.folder for each in results.runs}) == 2 * 2 * 2 * 3
        assert {each.status for each in results.runs} == {MISSING}

    def test_done_failed_and_missing_runs(self, benchmark_folder):
        written = benchmark_folder(["a", "b", "c"])
        written.done("a", SCORES)
        written.fail("b", "DivergenceError: not finite")
        results = read_results(written.folder)
        assert statuses(results) == {"a": DONE, "b": FAILED, "c": MISSING}
        assert [each.reason for each in results.not_done] == ["DivergenceError: not finite", "not run yet"]
        assert results.systems("xrays") == ["a"]

    def test_a_started_run_is_missing(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.place("a").mkdir(parents=True)
        assert read_results(written.folder).runs[0].reason == "started, not finished"

    def test_systems_of_data_come_in_the_order_of_the_configuration(self, benchmark_folder):
        written = benchmark_folder(["z", "a"])
        written.done("a", SCORES)
        written.done("z", SCORES)
        assert read_results(written.folder).systems("xrays") == ["z", "a"]


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda run: (run / "scores.csv").unlink(), "FileNotFoundError"),
            (lambda run: (run / "scores.csv").write_text("image,score\na.png,1\n"), "no column source, label, subset"),
            (lambda run: (run / "scores.csv").write_text(""), "EmptyDataError"),
            (lambda run: (run / "run.json").write_text("{"), "JSONDecodeError"),
            (lambda run: (run / "run.json").write_text("{}"), "KeyError: 'status'"),
            (lambda run: (run / "epochs.csv").write_text("step,l\n0,1\n"), "epochs.csv has no column epoch"),
        ],
    )
    def test_a_damaged_run_counts_as_failed_and_hides_no_other(self, benchmark_folder, damage, reason):
        written = benchmark_folder(["a", "b"])
        written.done("a", SCORES)
        written.done("b", SCORES)
        damage(written.place("a"))
        results = read_results(written.folder)
        assert statuses(results) == {"a": FAILED, "b": DONE}
        assert reason in results.not_done[0].reason

    def test_scores_that_are_not_finite(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(["normal", "sick", "sick"], [0.1, np.nan, np.inf]))
        assert "2 of 3 scores in scores.csv are not finite" in read_results(written.folder).runs[0].reason

    def test_an_unknown_label(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(["normal", "ill"], [0.1, 0.2]))
        assert "the labels 'ill'" in read_results(written.folder).runs[0].reason

    def test_a_folder_without_a_configuration(self, tmp_path):
        with pytest.raises(
            CxrError, match=r"found: no benchmark\.yaml in .*\n.*expected: .*\n.*name the output folder"
        ):
            read_results(tmp_path)

    @pytest.mark.parametrize(
        ("text", "absent"), [("", "title, systems, data"), ("title: x\ndata: {}\n", "systems, splits")]
    )
    def test_a_configuration_without_a_grid(self, tmp_path, text, absent):
        (tmp_path / "benchmark.yaml").write_text(text)
        with pytest.raises(CxrError, match=f"without {absent}"):
            read_results(tmp_path)


class TestTables:
    def test_select_chooses_subset_weights_and_shift(self, benchmark_folder):
        parts = {
            place: score_rows(
                ["normal", "sick"], [float(number), 9.0], subset=place[0], weights=place[1], shift=place[2]
            )
            for number, place in enumerate([(VAL, BEST, ""), (TEST, BEST, ""), (TEST, LAST, ""), (TEST, BEST, "noisy")])
        }
        written = benchmark_folder(["a"])
        written.done("a", pd.concat(parts.values()))
        result = read_results(written.folder).done[0]
        assert [result.select(*place).score.iloc[0] for place in parts] == [0.0, 1.0, 2.0, 3.0]

    def test_an_unknown_hospital_stays_unknown_and_names_stay_words(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", score_rows(["normal", "sick"], [0.0, 1.0], sources=[None, "NA"]).assign(image=["1", "2"]))
        table = read_results(written.folder).done[0].scores
        assert table.source.isna().tolist() == [True, False]
        assert table.image.tolist() == ["1", "2"]

    def test_a_model_that_logs_nothing(self, benchmark_folder):
        written = benchmark_folder(["a"])
        written.done("a", SCORES)
        (written.place("a") / "epochs.csv").unlink()
        assert read_results(written.folder).done[0].epochs.empty


class TestExposure:
    def test_is_read_where_it_was_measured(self, benchmark_folder):
        written = benchmark_folder(["a", "b"])
        exposure = pd.DataFrame({"image": ["1", "2"], "gap": [0.1, 0.2], "around": 0.0, "inside": 0.0})
        written.done("a", SCORES, exposure=exposure)
        written.done("b", SCORES)
        first, second = read_results(written.folder).done
        pd.testing.assert_frame_equal(first.exposure, exposure, check_dtype=False)
        assert second.exposure.empty


class TestNoise:
    def test_shifts_of_data_in_the_order_of_their_configuration(self, benchmark_folder):
        shifts = {"strong": NOISE, "blur": {"class_path": "Blur"}, "never scored": NOISE}
        written = benchmark_folder(["a"], data={"x": {"shifts": shifts}, "y": {}})
        tables = [
            score_rows(["normal", "sick"], [0.0, 1.0], shift=shift) for shift in ("blur", "", "strong", "unnamed")
        ]
        written.done("a", pd.concat(tables), data="x")
        written.done("a", SCORES, data="y")
        results = read_results(written.folder)
        assert list(results.shifts("x")) == ["strong", "blur", "unnamed"]
        assert results.shifts("y") == {}
        assert not results.differ_in_noise
        assert results.shifts("x")["strong"] == NoiseLevel(gain=0.0, sigma=0.1)
        assert results.shifts("x")["blur"] is None

    def test_noise_of_data_is_that_of_their_runs(self, benchmark_folder):
        written = benchmark_folder(["a"], data=("clean", "noisy"))
        written.done("a", SCORES, data="clean")
        transforms = {"class_path": "Compose", "init_args": {"transforms": [{"class_path": "Resize"}, NOISE]}}
        config = {"data": {"class_path": "Any", "init_args": {"augmentations": transforms}}}
        written.done("a", SCORES, data="noisy", record={"config": config})
        results = read_results(written.folder)
        assert results.noise == {"clean": NoiseLevel(0.0, 0.0), "noisy": NoiseLevel(0.0, 0.1)}
        assert results.data == ["clean", "noisy"]
        assert results.differ_in_noise
