"""Areas, variances and tests against published figures, a naive implementation, scikit-learn and simulations."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.evaluation.metrics.delong import delong_covariance, estimate_auroc, paired_delong
from anomalib_cxr.evaluation.metrics.intervals import newcombe_interval

# DeLong, DeLong and Clarke-Pearson's own example (Biometrics 1988) as SAS/STAT's guide prints it, "Comparing Receiver
# Operating Characteristic Curves": albumin, total protein, 10 - score of Krebs and Goplerud, did surgery help.
# fmt: off
SURGERY = np.array([
    (3.0, 5.8, 10, 0), (3.2, 6.3, 5, 1), (3.9, 6.8, 3, 1), (2.8, 4.8, 6, 0), (3.2, 5.8, 3, 1), (0.9, 4.0, 5, 0),
    (2.5, 5.7, 8, 0), (1.6, 5.6, 5, 1), (3.8, 5.7, 5, 1), (3.7, 6.7, 6, 1), (3.2, 5.4, 4, 1), (3.8, 6.6, 6, 1),
    (4.1, 6.6, 5, 1), (3.6, 5.7, 5, 1), (4.3, 7.0, 4, 1), (3.6, 6.7, 4, 0), (2.3, 4.4, 6, 1), (4.2, 7.6, 4, 0),
    (4.0, 6.6, 6, 0), (3.5, 5.8, 6, 1), (3.8, 6.8, 7, 1), (3.0, 4.7, 8, 0), (4.5, 7.4, 5, 1), (3.7, 7.4, 5, 1),
    (3.1, 6.6, 6, 1), (4.1, 8.2, 6, 1), (4.3, 7.0, 5, 1), (4.3, 6.5, 4, 1), (3.2, 5.1, 5, 1), (2.6, 4.7, 6, 1),
    (3.3, 6.8, 6, 0), (1.7, 4.0, 7, 0), (3.7, 6.1, 5, 1), (3.3, 6.3, 7, 1), (4.2, 7.7, 6, 1), (3.5, 6.2, 5, 1),
    (2.9, 5.7, 9, 0), (2.1, 4.8, 7, 1), (2.8, 6.2, 8, 0), (4.0, 7.0, 7, 1), (3.3, 5.7, 6, 1), (3.7, 6.9, 5, 1),
    (3.6, 6.6, 5, 1),
])
# fmt: on
HELPED = SURGERY[:, 3] == 1
ALBUMIN, PROTEIN, KREBS_GOPLERUD = SURGERY[:, 0], SURGERY[:, 1], 10 - SURGERY[:, 2]


def naive(is_sick, scores):
    """Compare each pair of images, as the paper defines it."""
    kernels = [
        np.array([[float(x > y) + 0.5 * float(x == y) for y in row[~is_sick]] for x in row[is_sick]]) for row in scores
    ]
    areas = [kernel.mean() for kernel in kernels]
    covariance = np.zeros((len(scores), len(scores)))
    for axis in (1, 0):
        centerd = np.array([kernel.mean(axis=axis) - area for kernel, area in zip(kernels, areas, strict=True)])
        count = centerd.shape[1]
        covariance += centerd @ centerd.T / (count - 1) / count
    return areas, covariance


def draw(rng, n_normal, n_sick, shift, n_scores=None, correlation=0.0):
    """Draw normal scores; those of sick images lie higher by a shift."""
    is_sick = np.arange(n_normal + n_sick) >= n_normal
    shape = (n_scores or 1, len(is_sick))
    common = rng.standard_normal(len(is_sick))
    scores = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal(shape)
    scores += np.outer(np.broadcast_to(shift, shape[0]), is_sick)
    return is_sick, scores if n_scores else scores[0]


class TestPublished:
    def test_areas_and_standard_errors(self):
        areas, covariance = delong_covariance(HELPED, np.stack([ALBUMIN, KREBS_GOPLERUD, PROTEIN]))
        assert areas == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
        assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)

    @pytest.mark.parametrize(
        ("score", "difference", "error", "chi_square", "p"),
        [(ALBUMIN, 0.0108, 0.0953, 0.0127, 0.9102), (PROTEIN, -0.0780, 0.1046, 0.5554, 0.4561)],
    )
    def test_differences(self, score, difference, error, chi_square, p):
        found = paired_delong(HELPED, score, KREBS_GOPLERUD)
        assert (found.value, found.variance**0.5) == pytest.approx((difference, error), abs=5e-5)
        assert (found.z**2, found.p) == pytest.approx((chi_square, p), abs=5e-5)

    def test_all_three_at_once(self):
        areas, covariance = delong_covariance(HELPED, np.stack([ALBUMIN, KREBS_GOPLERUD, PROTEIN]))
        contrast = np.array([[1, -1, 0], [0, -1, 1]])
        gap = contrast @ areas
        assert gap @ np.linalg.solve(contrast @ covariance @ contrast.T, gap) == pytest.approx(2.5340, abs=5e-5)


class TestCovariance:
    @pytest.mark.parametrize("decimals", [8, 0], ids=["distinct", "many ties"])
    @pytest.mark.parametrize(("n_normal", "n_sick"), [(2, 2), (7, 30), (40, 11)])
    def test_is_the_papers(self, decimals, n_normal, n_sick):
        is_sick, scores = draw(np.random.default_rng(n_sick), n_normal, n_sick, 0.8, n_scores=3, correlation=0.4)
        order = np.random.default_rng(0).permutation(len(is_sick))
        is_sick, scores = is_sick[order], scores[:, order].round(decimals)
        areas, covariance = delong_covariance(is_sick, scores)
        expected_areas, expected = naive(is_sick, scores)
        assert areas == pytest.approx(expected_areas)
        assert covariance == pytest.approx(expected)

    def test_area_is_scikit_learns(self):
        is_sick, scores = draw(np.random.default_rng(0), 70, 290, 1.0)
        assert estimate_auroc(is_sick, scores.round(1)).value == pytest.approx(roc_auc_score(is_sick, scores.round(1)))

    def test_variance_is_that_of_repeated_draws(self):
        rng = np.random.default_rng(0)
        found = [estimate_auroc(*draw(rng, 40, 60, 1.2)) for _ in range(400)]
        assert np.mean([each.variance for each in found]) == pytest.approx(
            np.var([each.value for each in found]), rel=0.15
        )


class TestInterval:
    @pytest.mark.parametrize("truth", [0.7, 0.9, 0.97])
    def test_covers_the_truth_with_few_images(self, truth):
        rng = np.random.default_rng(1)
        shift = np.sqrt(2) * norm.ppf(truth)
        found = [estimate_auroc(*draw(rng, 35, 35, shift)) for _ in range(600)]
        assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.025)

    def test_is_the_plain_one_where_images_are_many(self):
        found = estimate_auroc(*draw(np.random.default_rng(0), 3000, 3000, 1.0))
        assert found.high - found.low == pytest.approx(2 * 1.96 * found.variance**0.5, rel=1e-2)

    @pytest.mark.parametrize(
        ("is_sick", "scores", "value"),
        [
            ([0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0], 1.0),
            ([0, 0, 0, 1, 1], [5.0, 4.0, 3.0, 2.0, 1.0], 0.0),
            ([0, 0, 0, 1, 1], [7.0, 7.0, 7.0, 7.0, 7.0], 0.5),
            ([0, 0, 0, 1], [1.0, 2.0, 4.0, 3.0], 2 / 3),
        ],
        ids=["perfect", "reversed", "all tied", "one sick image"],
    )
    def test_has_a_width_where_the_variance_has_not(self, is_sick, scores, value):
        found = estimate_auroc(np.array(is_sick, dtype=bool), np.array(scores))
        assert found.value == pytest.approx(value)
        assert (found.low, found.high) == newcombe_interval(found.value, 3, len(scores) - 3)
        assert 2 * 1.959964 * found.variance**0.5 == pytest.approx(found.high - found.low)


class TestPaired:
    def test_is_the_contrast_of_the_covariance(self):
        is_sick, scores = draw(np.random.default_rng(0), 30, 50, [1.0, 0.5], n_scores=2, correlation=0.5)
        found = paired_delong(is_sick, *scores)
        areas, covariance = naive(is_sick, scores)
        assert found.value == pytest.approx(areas[0] - areas[1])
        assert found.variance == pytest.approx(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        assert found.p == pytest.approx(2 * norm.cdf(-abs(found.z)))
        assert (found.low + found.high) / 2 == pytest.approx(found.value)

    def test_the_order_of_the_two_changes_the_sign_only(self):
        is_sick, scores = draw(np.random.default_rng(0), 30, 50, [1.0, 0.5], n_scores=2)
        there, back = paired_delong(is_sick, *scores), paired_delong(is_sick, *scores[::-1])
        assert (there.value, there.low, there.z, there.p) == pytest.approx((-back.value, -back.high, -back.z, back.p))

    def test_calls_equal_systems_different_as_seldom_as_it_says(self):
        rng = np.random.default_rng(2)
        found = [paired_delong(*unpack(draw(rng, 50, 50, 1.0, n_scores=2, correlation=0.6))).p for _ in range(600)]
        assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.025)

    def test_same_order_of_images_is_no_difference(self):
        is_sick, scores = draw(np.random.default_rng(0), 30, 50, 1.0)
        found = paired_delong(is_sick, scores, np.exp(scores))
        assert found == (0, 0, 0, 0, 0, 1)

    def test_no_test_where_the_variance_is_zero_in_spite_of_a_difference(self):
        is_sick = np.array([False, False, True, True])
        found = paired_delong(is_sick, np.array([1.0, 2, 3, 4]), np.ones(4))
        assert found == pytest.approx((0.5, 0, nan, nan, nan, nan), nan_ok=True)

    def test_no_test_with_one_image_of_a_class(self):
        found = paired_delong(np.array([False, False, True]), np.array([1.0, 2, 3]), np.array([1.0, 3, 2]))
        assert found == pytest.approx((0.5, nan, nan, nan, nan, nan), nan_ok=True)


def unpack(drawn):
    is_sick, scores = drawn
    return is_sick, *scores


@pytest.mark.parametrize(
    ("is_sick", "scores", "found"),
    [
        ([True, True], [1.0, 2.0], "0 normal and 2 sick images, 0 scores that are not finite"),
        ([False, False], [1.0, 2.0], "2 normal and 0 sick images"),
        ([False, True, True], [1.0, nan, np.inf], "1 normal and 2 sick images, 2 scores that are not finite"),
        ([0, 1], [1.0, 2.0], r"labels int64 \(2,\)"),
        ([False, True], [1.0, 2.0, 3.0], r"labels bool \(2,\), scores \(1, 3\)"),
    ],
)
def test_refuses(is_sick, scores, found):
    with pytest.raises(ScoreError, match=found):
        estimate_auroc(np.array(is_sick), np.array(scores))
