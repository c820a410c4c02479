"""Monitoring: drift that is made is noticed and named, none is not, and what is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, binom

from anomalib_cxr.errors import ScreeningError, SettingError
from anomalib_cxr.screening.case import Decision, Verdict
from anomalib_cxr.screening.monitoring.comparison import REFUSED, refusal_kind
from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, Status, monitor_rows, monitor_worklist
from anomalib_cxr.screening.monitoring.rows import read_rows
from anomalib_cxr.screening.worklist.store import Worklist

SETTINGS = MonitorSettings()


def figure(result, name, by="all", group=""):
    (found,) = [each for each in result.comparisons if (each.by, each.group, each.figure) == (by, group, name)]
    return found


@pytest.fixture
def simulate(hospital):
    def simulate(n=500, seed=1, settings=SETTINGS, **change):
        rng = np.random.default_rng(seed)
        rows = hospital.draw_rows(rng, n, change)
        return monitor_rows(rows, hospital.draw_reference(rng), settings)

    return simulate


class TestNone:
    @pytest.mark.slow
    def test_false_alarms_are_no_more_than_stated(self, simulate):
        """Of 60 hospitals where nothing changed; without the rule that only large differences count, too."""
        settings, runs = MonitorSettings(false_alarms=0.05), 60
        results = [simulate(n=250, seed=seed, settings=settings) for seed in range(runs)]
        most = binom.ppf(0.999, runs, 0.05)
        assert sum(any(each.p_holm < 0.05 for each in result.comparisons) for result in results) <= most
        assert sum(result.status is Status.DRIFT for result in results) <= most
        # Of single tests, not corrected, there are more: the simulation has something to find.
        assert sum(any(each.p_value < 0.05 for each in result.comparisons) for result in results) > 2 * most

    def test_status(self, simulate):
        result = simulate()
        assert (result.status, result.drifts, result.n) == (Status.FINE, [], 500)
        assert result.n_tests > 30  # four figures of all, four weeks, two machines and two views


class TestMade:
    @pytest.mark.parametrize(
        ("change", "figures"),
        [
            ({"gray": -0.06}, {"lung_gray"}),
            ({"contrast": -0.06}, {"tissue_contrast"}),
            ({"score": 0.1}, {"score"}),
            ({"prevalence": 0.5}, {"score"}),
            ({"blurred": 0.25}, {"refused_for_quality"}),
            ({"gray": 0.1, "contrast": 0.1, "score": 0.15}, {"lung_gray", "tissue_contrast", "score"}),
        ],
        ids=["darker", "flatter", "higher", "more disease", "blurred", "another hospital"],
    )
    def test_is_named(self, simulate, change, figures):
        result = simulate(**change)
        assert result.status is Status.DRIFT
        assert {each.figure for each in result.drifts} == figures

    def test_more_disease_is_told_from_other_scores(self, simulate):
        sick, other = simulate(n=1000, prevalence=0.5).sick_share, simulate(n=1000, score=0.1).sick_share
        assert sick.expected == other.expected == 0.05
        assert sick.fitted == pytest.approx(0.5, abs=0.12)
        assert sick.distance < 0.08 < other.distance

    def test_of_one_week(self, hospital):
        rng = np.random.default_rng(1)
        rows, changed = hospital.draw_rows(rng, 600, {}), hospital.draw_rows(rng, 200, {"gray": -0.08})
        week = np.datetime64("2026-02-02")
        late = replace(changed, week=np.full(200, week))
        both = type(rows)(**{name: np.concatenate([getattr(rows, name), getattr(late, name)]) for name in vars(rows)})
        result = monitor_rows(both, hospital.draw_reference(rng), SETTINGS)
        assert ("week", "2026-02-02") in {(each.by, each.group) for each in result.drifts}
        assert {each.group for each in result.drifts if each.by == "week"} == {"2026-02-02"}

    def test_a_small_difference_of_many_is_none(self, hospital):
        rng = np.random.default_rng(1)
        rows, reference = hospital.draw_rows(rng, 20000, {"gray": -0.008}), hospital.draw_reference(rng, 6000, 2000)
        result = monitor_rows(rows, reference, SETTINGS)
        assert figure(result, "lung_gray").p_holm < 0.01
        assert figure(result, "lung_gray").psi < 0.1
        assert result.status is Status.FINE

    def test_another_mix_of_machines_is_none_of_each_machine(self, hospital):
        """X-rays of one machine only are compared with those of this machine in the calibration."""
        rng = np.random.default_rng(2)
        rows, reference = hospital.draw_rows(rng, 3000, {}), hospital.draw_reference(rng, 2000, 500)
        second = rows.where(rows.machine == "DICOM DX, ACME X-100")
        first = rows.where(rows.machine != "DICOM DX, ACME X-100").where(np.arange(len(rows) - len(second)) < 100)
        mixed = type(rows)(
            **{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in vars(rows)}
        )
        result = monitor_rows(mixed, reference, SETTINGS)
        assert "all" in {each.by for each in result.drifts}
        assert "machine" not in {each.by for each in result.drifts}
        assert figure(result, "lung_gray", "machine", "DICOM DX, ACME X-100").reference == "machine"


class TestCounts:
    def test_shares_have_intervals_of_clopper_and_pearson(self, simulate):
        result = simulate()
        for name in ("below_threshold", REFUSED):
            found = figure(result, name)
            count = round(found.value * found.n)
            assert found.low == pytest.approx(beta.ppf(0.025, count, found.n - count + 1))
            assert found.high == pytest.approx(beta.ppf(0.975, count + 1, found.n - count))

    def test_expected_share_below(self, hospital):
        reference = hospital.draw_reference(np.random.default_rng(0))
        result = monitor_rows(hospital.draw_rows(np.random.default_rng(1), 200, {}), reference, SETTINGS)
        is_sick, is_below = np.array(reference.is_sick), np.array(reference.is_below)
        expected = 0.95 * is_below[~is_sick].mean() + 0.05 * is_below[is_sick].mean()
        assert figure(result, "below_threshold").expected == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("why", "kind"),
        [
            ("", ""),
            ("blank", "blank"),
            ("too small: 10 x 10 pixels, validated from 64", "too small"),
            ("age 12 outside the validated 18 to 90 years", "age outside the validated years"),
            ("never validated on this kind of source: DICOM CR, ACME 7", "never validated on this kind of source"),
            ("not readable as a frontal X-ray: ViewPosition (0018,5101) = 'LL'; 2", "not readable as a frontal X-ray"),
            ("blurred: the lungs lack fine detail; noisy: noise covers", "blurred"),
        ],
    )
    def test_kinds_of_refusals(self, why, kind):
        assert refusal_kind(why) == kind

    def test_refused_by_reason(self, fill):
        worklist = fill(n=100, blurred=0.0)
        case = worklist.case(1)
        refused = replace(case, decision=Decision.REFUSED, score=None, lung_gray=None, tissue_contrast=None)
        reasons = ["too small: 1 x 1 pixels", "too small: 2 x 2 pixels", "blank"]
        worklist.add([replace(refused, path=f"/r{i}", content=f"r{i}", why=why) for i, why in enumerate(reasons)])
        result = monitor_worklist(worklist, SETTINGS)
        found = {
            each.figure: round(each.value * each.n) for each in result.comparisons if each.figure[:8] == "refused:"
        }
        assert found == {"refused: too small": 2, "refused: blank": 1}

    def test_an_xray_at_two_paths_counts_once(self, fill):
        worklist = fill(n=60)
        worklist.add([replace(worklist.case(1), path="/copy.dcm")])
        assert worklist.count() == 61
        assert monitor_worklist(worklist, SETTINGS).n == 60

    def test_weeks(self, fill):
        worklist = fill(n=200)
        for weeks, n_before in {0: 0, 4: 0, 1: None}.items():
            result = monitor_worklist(worklist, MonitorSettings(weeks=weeks))
            assert result.n + result.n_before == 200
            assert n_before in {None, result.n_before}
        assert (result.first, result.last) == ("2026-01-26", "2026-02-01")
        assert result.n == sum(case.screened.startswith("2026-01-26") for case in worklist.cases())

    @pytest.mark.parametrize(
        ("taken", "week"),
        [("2026-01-07", "2026-01-05"), ("", "2026-01-26"), ("2099-01-01", "2026-01-26"), ("2026-01-28", "2026-01-26")],
    )
    def test_week_is_that_of_the_xray_where_it_is_known(self, fill, taken, week):
        worklist = fill(n=1)
        worklist.add([replace(worklist.case(1), taken=taken, screened="2026-01-28T09:00:00+00:00")])
        assert [str(day) for day in read_rows(worklist).week] == [week]


class TestVerdicts:
    def give(self, worklist, decision, verdicts):
        cases = [pair for pair in worklist.find() if pair[1].decision is decision]
        for (number, case), given in zip(cases, verdicts, strict=False):
            for reader, verdict in given.items():
                worklist.give_verdict(number, verdict, reader, content=case.content)

    def test_missed(self, fill):
        normal, abnormal, unsure = Verdict.NORMAL, Verdict.ABNORMAL, Verdict.UNSURE
        worklist = fill()
        verdicts = [{"Ada": normal}, {"Ada": abnormal}, {"Ada": abnormal, "Bob": normal}, {"Ada": unsure}]
        self.give(worklist, Decision.BELOW_THRESHOLD, verdicts)
        self.give(worklist, Decision.TO_READ, [{"Ada": abnormal}])
        self.give(worklist, Decision.BELOW_THRESHOLD, [{}, {"Ada": normal}])  # Ada looked again
        found = figure(monitor_worklist(worklist, SETTINGS), "missed")
        assert (found.n, found.value) == (4, 0.25)
        assert found.high == pytest.approx(beta.ppf(0.975, 2, 3))
        assert figure(monitor_worklist(worklist, SETTINGS), "abnormal_of_those_to_be_read").n == 1

    def test_too_many_are_drift(self, fill):
        worklist = fill()
        self.give(worklist, Decision.BELOW_THRESHOLD, [{"Ada": Verdict.ABNORMAL}] * 8 + [{"Ada": Verdict.NORMAL}] * 40)
        result = monitor_worklist(worklist, SETTINGS)
        assert [each.figure for each in result.drifts] == ["missed"]
        reference = worklist.reference()
        freed = np.mean([b for b, s in zip(reference.is_below, reference.is_sick, strict=True) if not s])
        expected = 0.05 * 0.05 / (0.05 * 0.05 + 0.95 * freed)
        assert result.drifts[0].p_value == pytest.approx(binom.sf(7, 48, expected))

    def test_none_missed_is_fine(self, fill):
        worklist = fill()
        self.give(worklist, Decision.BELOW_THRESHOLD, [{"Ada": Verdict.NORMAL}] * 40)
        result = monitor_worklist(worklist, SETTINGS)
        assert (figure(result, "missed").value, result.status) == (0, Status.FINE)


class TestTooFew:
    def test_xrays(self, fill):
        result = monitor_worklist(fill(n=40), SETTINGS)
        assert (result.status, result.curves, result.sick_share) == (Status.TOO_FEW, [], None)

    def test_none_but_a_reference(self, tmp_path, hospital):
        worklist = Worklist(tmp_path / "out", create=True)
        with pytest.raises(ScreeningError, match="no row"):
            monitor_worklist(worklist, SETTINGS)

    def test_all_refused(self, fill):
        result = monitor_worklist(fill(n=120, blurred=1.0), SETTINGS)
        assert [each.figure for each in result.drifts][:1] == ["refused_for_quality"]
        assert result.status is Status.DRIFT

    def test_a_calibration_without_reference(self, fill):
        worklist = fill(n=60)
        with worklist._database.open() as connection:
            connection.execute("DELETE FROM reference")
        with pytest.raises(ScreeningError, match=r"without a reference\n.*\n.*calibrate it anew"):
            monitor_worklist(worklist, SETTINGS)

    def test_exposure_of_rows_from_before_is_not_compared(self, fill):
        worklist = fill(n=200)
        with worklist._database.open() as connection:
            connection.execute("UPDATE cases SET lung_gray = NULL, tissue_contrast = NULL WHERE id <= 180")
        result = monitor_worklist(worklist, SETTINGS)
        n_scored = sum(case.lung_gray is not None for case in worklist.cases())
        assert figure(result, "lung_gray").n == n_scored < 50
        assert np.isnan(figure(result, "lung_gray").p_value)
        assert not np.isnan(figure(result, "score").p_value)
        assert result.n_unmeasured == result.n_scored - n_scored


@pytest.mark.parametrize(
    "wrong", [{"weeks": -1}, {"false_alarms": 0.0}, {"false_alarms": 1.0}, {"least_psi": -0.1}], ids=str
)
def test_settings_out_of_range(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        MonitorSettings(**wrong)
