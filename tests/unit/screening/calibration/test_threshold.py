"""The threshold and its guarantee, against SciPy's exact interval, closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.screening.calibration.threshold import calibrate_threshold, lower_bound, misses_allowed, sick_needed


def exact(n, missed, confidence):
    """Return SciPy's one-sided Clopper-Pearson bound."""
    return binomtest(n - missed, n, alternative="greater").proportion_ci(confidence, method="exact").low


def with_sick(scores, healthy=(0.0, 0.1)):
    """Return labels and scores of sick images, and of some healthy ones."""
    scores = np.asarray(scores, dtype=float)
    return np.arange(len(scores) + len(healthy)) < len(scores), np.concatenate([scores, healthy])


class TestLowerBound:
    @pytest.mark.parametrize(("n", "missed"), [(1, 0), (20, 3), (299, 0), (473, 1), (50, 49), (7, 7)])
    @pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
    def test_is_that_of_clopper_and_pearson(self, n, missed, confidence):
        assert lower_bound(n, missed, confidence) == pytest.approx(exact(n, missed, confidence), rel=1e-9)

    @pytest.mark.parametrize("n", [1, 10, 299, 5000])
    def test_without_a_miss_it_is_a_root(self, n):
        assert lower_bound(n, 0, 0.95) == pytest.approx(0.05 ** (1 / n), rel=1e-12)


class TestSickNeeded:
    @pytest.mark.parametrize(
        ("sensitivity", "confidence", "needed"),
        [(0.99, 0.95, 299), (0.95, 0.95, 59), (0.9, 0.95, 29), (0.99, 0.9, 230)],
    )
    def test_known(self, sensitivity, confidence, needed):
        assert sick_needed(sensitivity, confidence) == needed

    @pytest.mark.parametrize("sensitivity", [0.5, 0.7, 0.8, 0.9, 0.97, 0.99])
    @pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.999])
    def test_is_the_least_number(self, sensitivity, confidence):
        needed = sick_needed(sensitivity, confidence)
        assert exact(needed, 0, confidence) >= sensitivity - 1e-12
        assert needed == 1 or exact(needed - 1, 0, confidence) < sensitivity

    @pytest.mark.parametrize("sensitivity", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    @pytest.mark.parametrize("n", range(1, 9))
    def test_where_the_bound_is_just_reached(self, sensitivity, n):
        confidence = 1 - sensitivity**n
        assert sick_needed(sensitivity, confidence) == n
        assert misses_allowed(n, sensitivity, confidence) == 0


class TestMissesAllowed:
    @pytest.mark.parametrize(("sensitivity", "confidence"), [(0.8, 0.9), (0.9, 0.95), (0.95, 0.8)])
    def test_counted_one_by_one(self, sensitivity, confidence):
        for n in (1, 10, 11, 22, 37, 38, 59, 89):
            holding = [missed for missed in range(n) if exact(n, missed, confidence) >= sensitivity]
            assert misses_allowed(n, sensitivity, confidence) == max(holding, default=None)

    def test_no_sick_image(self):
        assert misses_allowed(0, 0.9, 0.9) is None


class TestGuarantee:
    @pytest.mark.parametrize("n", [22, 60, 150])
    def test_holds_in_repeated_draws(self, n):
        """Of sick scores with P(score < t) = t^2, a threshold misses the share t^2."""
        sensitivity, confidence, repeats = 0.9, 0.9, 2000
        rng = np.random.default_rng(n)
        draws = np.sqrt(rng.random((repeats, n)))
        truth = np.array(
            [1 - calibrate_threshold(*with_sick(draw), sensitivity, confidence).threshold ** 2 for draw in draws]
        )
        failures = (truth < sensitivity).mean()
        margin = 4 * np.sqrt(confidence * (1 - confidence) / repeats)
        assert failures <= 1 - confidence + margin
        # And no more cautious than it has to be: so often are no more than k of n scores under the quantile.
        k = misses_allowed(n, sensitivity, confidence)
        assert failures == pytest.approx(binom.cdf(k, n, 1 - sensitivity), abs=margin)

    @pytest.mark.parametrize("n", [59, 93, 124, 300])
    def test_no_larger_threshold_has_it(self, n):
        scores = np.random.default_rng(n).random(n)
        found = calibrate_threshold(*with_sick(scores), 0.95, 0.95)
        assert found.lower_bound == pytest.approx(exact(n, found.n_sick_below, 0.95))
        assert found.lower_bound >= 0.95
        assert (scores < found.threshold).sum() == found.n_sick_below
        assert exact(n, found.n_sick_below + 1, 0.95) < 0.95
        assert scores[scores >= found.threshold].min() - found.threshold < 1e-6


class TestThreshold:
    def test_ties_are_read(self):
        found = calibrate_threshold(*with_sick([0.2] * 30 + [0.9] * 70, healthy=[0.1, 0.2, 0.3]), 0.9, 0.9)
        assert (found.threshold, found.n_sick_below, found.n_normal, found.n_normal_below) == (0.2, 0, 3, 1)

    @pytest.mark.parametrize("score", [0.1234567, 0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1), 1e-7, 1.0, 0.0])
    def test_is_rounded_down(self, score):
        found = calibrate_threshold(*with_sick([score] * 10), 0.7, 0.8)
        assert found.threshold <= score < found.threshold + 1.01e-6
        assert found.threshold == float(f"{found.threshold:.6f}")
        assert found.n_sick_below == 0

    def test_rounding_misses_none(self):
        steps = np.random.default_rng(0).integers(0, 10**6, 300) / 10**6
        for score in np.nextafter(steps, 0):
            assert calibrate_threshold(*with_sick([score] * 3), 0.5, 0.5).n_sick_below == 0

    def test_images_below_are_counted(self):
        scores = np.linspace(0.101, 1, 100)
        found = calibrate_threshold(*with_sick(scores, healthy=np.linspace(0, 0.5, 11)), 0.9, 0.9)
        assert (found.n_sick, found.n_normal) == (100, 11)
        assert found.n_normal_below == (np.linspace(0, 0.5, 11) < found.threshold).sum()


class TestPatients:
    """Images of one patient are not independent."""

    @pytest.mark.parametrize("n_images", [1, 5])
    def test_guarantee_holds_in_repeated_draws_of_patients(self, n_images):
        """Scores of a patient: one for all of their images, or one each, in halves; a miss is any image below."""
        sensitivity, confidence, repeats, n = 0.9, 0.9, 1000, 30
        rng = np.random.default_rng(n_images)
        patients = np.repeat(np.arange(n), n_images)
        failures = 0
        for _ in range(repeats):
            sick = np.sqrt(rng.random(n))[patients]
            is_sick, scores = with_sick(sick)
            ids = np.array([*patients.astype(str), "x", "y"])
            found = calibrate_threshold(is_sick, scores, sensitivity, confidence, patients=ids)
            assert (found.unit, found.n_sick) == ("patients", n)
            failures += 1 - found.threshold**2 < sensitivity
        assert failures / repeats <= 1 - confidence + 4 * np.sqrt(confidence * (1 - confidence) / repeats)

    def test_thirty_spellings_of_one_patient_are_one(self):
        is_sick, scores = with_sick(np.full(30, 0.9))
        with pytest.raises(ScreeningError, match="1 sick patients"):
            calibrate_threshold(is_sick, scores, 0.9, 0.9, patients=np.full(32, "one"))

    def test_by_the_lowest_of_their_sick_images(self):
        is_sick = np.array([True, True, True, True, False])
        patients = np.array(["a", "a", "b", "b", "a"])
        found = calibrate_threshold(is_sick, np.array([0.9, 0.5, 0.6, 0.8, 0.1]), 0.5, 0.6, patients=patients)
        assert (found.threshold, found.n_sick, found.n_normal_below) == (0.5, 2, 1)
        assert found.guarantee.startswith("At most 50 % of sick patients are expected")


@pytest.mark.parametrize(("n", "held"), [(100, 0.84), (400, 0.54), (1000, 0.14)])
def test_milder_disease_breaks_the_guarantee_as_the_page_says(n, held):
    """Normal scores of the sick, 0.2 standard deviations lower at the place than in the calibration."""
    rng = np.random.default_rng(n)
    repeats, is_sick = 600, np.arange(n + 1) < n
    holds = 0
    for _ in range(repeats):
        scores = norm.cdf(np.append(rng.normal(size=n), 0))
        threshold = calibrate_threshold(is_sick, scores, 0.95, 0.95).threshold
        holds += norm.cdf(norm.ppf(threshold) + 0.2) <= 0.05
    assert holds / repeats == pytest.approx(held, abs=4 * np.sqrt(0.25 / repeats))


class TestRefused:
    @pytest.mark.parametrize(("n", "needed"), [(0, 299), (298, 299)])
    def test_too_few(self, n, needed):
        with pytest.raises(ScreeningError, match=rf"{n} sick images\n.*at least {needed}, none of them missed"):
            calibrate_threshold(*with_sick(np.ones(n)), 0.99, 0.95)

    def test_the_group_is_named(self):
        with pytest.raises(ScreeningError, match="3 sick images of group F"):
            calibrate_threshold(*with_sick(np.ones(3)), 0.99, 0.95, "F")


@pytest.mark.parametrize(("sensitivity", "share"), [(0.9, "10"), (0.95, "5"), (0.99, "1"), (0.995, "0.5")])
def test_guarantee_as_a_sentence(sensitivity, share):
    found = calibrate_threshold(*with_sick(np.ones(700)), sensitivity, 0.95)
    assert found.guarantee == f"At most {share} % of sick images are expected below the threshold, at 95 % confidence."
